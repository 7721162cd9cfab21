"""The layers behind a signal flow's blocks, and their weights scaled until a random signal keeps its size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import nn

from eigenscope.diagnostics.flow import BlockFlow, FlowReading
from eigenscope.flow.measure import measure
from eigenscope.flow.settings import FlowSettings
from eigenscope.operators import Probe

_ROUNDS = 3  # a layer's scale changes what the next one sees


def measured(reading: FlowReading) -> Iterator[BlockFlow]:
    """The blocks that have numbers."""
    return (block for block in reading.blocks if block.reason is None)


def single_layers(model: nn.Module, reading: FlowReading) -> Iterator[tuple[str, nn.Module]]:
    """The blocks that are one layer with a weight matrix and no shortcut, by name; each layer once."""
    seen: set[nn.Module] = set()
    for block in measured(reading):
        inside = matrices(model, block)
        if len(inside) == 1 and block.branch is None and inside[0] not in seen:
            seen.add(inside[0])
            yield block.name, inside[0]


def matrices(model: nn.Module, block: BlockFlow) -> list[nn.Module]:
    """The layers with a weight matrix in a block."""
    parts = [part for name in block.modules for part in module_named(model, name).modules()]
    weights = [(part, part._parameters.get("weight")) for part in parts if not isinstance(part, nn.Embedding)]
    return [part for part, weight in weights if weight is not None and weight.ndim >= 2]


def module_named(model: nn.Module, name: str) -> nn.Module:
    """A module by the name that a trace gives it: the model itself has its class's."""
    root = name == type(model).__name__ and not hasattr(model, name)
    return model if root else model.get_submodule(name)


@torch.no_grad()
def keep_signal(probe: Probe, layers: Mapping[str, nn.Module], settings: FlowSettings, target: float = 1.0) -> None:
    """Scale each of `layers` (by block) until its Jacobian has σ_rms = `target` (LSUV: Mishkin & Matas 2016)."""
    quick = replace(settings, tolerance=0.1, max_matvecs=4)
    for _ in range(_ROUNDS if layers else 0):
        for block in measure(probe, quick).blocks:
            if block.name in layers and block.sigma_rms.value:
                layers[block.name].weight.mul_(target / block.sigma_rms.value)  # type: ignore[operator]

"""The layers behind a signal flow's blocks, and their weights scaled until a random signal keeps its size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

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
def keep_signal(
    probe: Probe, layers: Mapping[str, nn.Module], settings: FlowSettings, target: float = 1.0, rounds: int = _ROUNDS
) -> None:
    """Scale each of `layers` (by block) until its Jacobian has σ_rms = `target` (LSUV: Mishkin & Matas 2016)."""
    quick = replace(settings, tolerance=0.1, max_matvecs=4)
    for _ in range(rounds if layers else 0):
        for block in measure(probe, quick).blocks:
            if block.name in layers and block.sigma_rms.value:
                layers[block.name].weight.mul_(target / block.sigma_rms.value)  # type: ignore[operator]


@torch.no_grad()
def keep_fresh_signal(probe: Probe, layers: Mapping[str, nn.Module], settings: FlowSettings) -> bool:
    """`keep_signal` for weights just drawn; where that is not enough, with centred biases. Whether they were needed.

    What a sigmoid puts out is positive, so that weights of the size that its slope asks for would only saturate the
    next one. A bias that takes the mean out of each layer's output over the probe (Krähenbühl et al. 2016) makes of it
    a tanh network. It is no gain where the weights are enough: a deep ReLU network with it sorts its inputs at random.
    """
    parameters = [p for layer in layers.values() for p in layer.parameters(recurse=False)]
    fresh = [p.clone() for p in parameters]
    keep_signal(probe, layers, settings)
    before = measure(probe, settings)
    if before.verdict != "vanishing":
        return False
    scaled = [p.clone() for p in parameters]
    _put(parameters, fresh)  # the scaled ones saturate
    for _ in range(_ROUNDS):
        _centre(probe, layers)
        keep_signal(probe, layers, settings, rounds=1)
    _centre(probe, layers)
    after = measure(probe, settings)
    if after.verdict == "healthy" or after.severity < before.severity:
        return True
    _put(parameters, scaled)
    return False


def _put(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def _centre(probe: Probe, layers: Mapping[str, nn.Module]) -> None:
    """Take each channel's mean over the probe's first batch out of the bias, from the first layer to the last."""
    means: dict[nn.Module, Tensor] = {}

    def leave(layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        channel = output.ndim - 1 if isinstance(layer, nn.Linear) else 1
        mean = output.mean([i for i in range(output.ndim) if i != channel], keepdim=True)
        means.setdefault(layer, mean.flatten())
        return output - mean  # for the layers behind it

    biased = [layer for layer in layers.values() if isinstance(layer._parameters.get("bias"), Tensor)]
    handles = [layer.register_forward_hook(leave) for layer in biased]
    try:
        with probe.isolated():
            probe.loss_fn(probe.model, probe.batches[0])
    finally:
        for handle in handles:
            handle.remove()
    for layer, mean in means.items():
        layer.bias.sub_(mean)  # type: ignore[operator]

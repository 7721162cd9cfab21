"""The norms of single layers where the model as a whole can't be exported: each leaf module by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from eigenscope.bounds.composition import LayerBound
from eigenscope.bounds.graph import export
from eigenscope.bounds.inputs import Samples
from eigenscope.bounds.rules import walk


def leaf_norms(model: nn.Module, samples: Samples) -> Iterator[LayerBound]:
    """The layers in the order of their first use, on the input that they meet; those without a rule are left out."""
    for name, module, seen in _calls(model, samples.first()):
        with suppress(Exception):  # the model's own problem has been reported; a leaf's adds nothing
            for layer in walk(export(module, Samples(seen))).layers:
                yield replace(layer, name=name)


def _calls(model: nn.Module, samples: Samples) -> list[tuple[str, nn.Module, Tensor]]:
    names = {module: name for name, module in model.named_modules() if not list(module.children())}
    calls: list[tuple[str, nn.Module, Tensor]] = []

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if module in names and len(arguments) == 1 and isinstance(arguments[0], Tensor):
            calls.append((names.pop(module), module, arguments[0].detach().clone()))

    handle = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        with torch.no_grad():
            samples.call(model, samples.inputs)
    finally:
        handle.remove()
    return calls

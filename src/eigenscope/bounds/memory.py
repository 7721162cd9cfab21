"""What a later measurement of the same model need not find again: its exported graphs, without their numbers."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from eigenscope.bounds.graph import Programs

_MOST = 16  # graphs that are kept, one for each shape


class LipschitzMemory:
    """Handed to one `lipschitz` after another, it saves the export of the model: a tenth of a second and more each.

    A graph is used again as long as the model is the same object, built of the same modules with the same settings;
    weights and buffers are read anew each time, and the graph's answer is held against the model's.
    """

    def __init__(self) -> None:
        self._model: Callable[[], nn.Module | None] = lambda: None
        self._structure: object = None
        self._programs: Programs = {}

    def programs(self, model: nn.Module) -> Programs:
        """Those that still hold; to be called where the model is isolated, and added to."""
        structure = [_structure(name, module) for name, module in model.named_modules()]
        if self._model() is not model or self._structure != structure or len(self._programs) >= _MOST:
            self._model, self._structure, self._programs = weakref.ref(model), structure, {}
        return self._programs

    def forget(self) -> None:
        """Export anew next time."""
        self._programs.clear()


def _structure(name: str, module: nn.Module) -> tuple[object, ...]:
    """A module's kind, the shapes of its tensors, and every setting that export may have written into the graph."""
    held = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    tensors = tuple((key, tuple(t.shape), str(t.dtype), str(t.device)) for key, t in held)
    hooks = tuple(id(hook) for kind in (module._forward_hooks, module._forward_pre_hooks) for hook in kind.values())
    settings = tuple((key, _setting(value)) for key, value in vars(module).items() if key not in _TENSORS)
    return name, type(module), tensors, hooks, settings


_TENSORS = {"_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks"}


def _setting(value: Any) -> object:
    if isinstance(value, int | float | str | bool | None):
        return value
    if isinstance(value, tuple | list):
        return tuple(_setting(part) for part in value)
    if isinstance(value, Tensor):
        return id(value), value._version
    return id(value)

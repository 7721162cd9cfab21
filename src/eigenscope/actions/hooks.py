"""Hooks on an optimizer that come off again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

Hook = Callable[[torch.optim.Optimizer, tuple[Any, ...], dict[str, Any]], Any]


class Hooks:
    """What runs before and after each step of an optimizer, until `remove`."""

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []

    @property
    def on(self) -> bool:
        return bool(self._handles)

    def add(self, optimizer: torch.optim.Optimizer, *, before: Hook | None = None, after: Hook | None = None) -> None:
        """Register them."""
        if before is not None:
            self._handles.append(optimizer.register_step_pre_hook(before))
        if after is not None:
            self._handles.append(optimizer.register_step_post_hook(after))

    def remove(self) -> None:
        """Take all of them away."""
        while self._handles:
            self._handles.pop().remove()

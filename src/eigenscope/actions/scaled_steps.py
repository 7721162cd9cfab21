"""An optimizer's steps multiplied by a factor, whatever its learning rates and their scheduler are."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from eigenscope.diagnostics.step_factor import StepControl


class ScaledSteps(StepControl):
    """Only within `optimizer.step` are the learning rates multiplied by `factor`; a scheduler never sees it."""

    def __init__(self) -> None:
        self.factor = 1.0
        self._handles: list[RemovableHandle] = []
        self._scaled: list[tuple[dict[str, Any], Any, Any]] = []  # group, its rate, and the rate within the step

    def _attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Not by `Hooks`, whose failures would leave a scaled rate behind; and `step_controls` looks for the first."""
        self._handles = [
            optimizer.register_step_pre_hook(self._scale),
            optimizer.register_step_post_hook(self._unscale),
            optimizer.register_load_state_dict_post_hook(self._loaded),
        ]

    def _detach(self) -> None:
        self._unscale()
        while self._handles:
            self._handles.pop().remove()

    def _scale(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._unscale()  # of a step that raised
        for group in optimizer.param_groups:
            scaled = group["lr"] * self.factor
            self._scaled.append((group, group["lr"], scaled))
            group["lr"] = scaled

    def _unscale(self, *_: Any) -> None:
        for group, rate, scaled in self._scaled:
            if group["lr"] is scaled:
                group["lr"] = rate
        self._scaled.clear()

    def _loaded(self, *_: Any) -> None:
        """A checkpoint was loaded, and nothing is known of it yet."""

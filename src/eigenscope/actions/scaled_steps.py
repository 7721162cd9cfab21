"""An optimizer's steps multiplied by a factor, whatever its learning rates and their scheduler are."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from eigenscope.actions.closures import Call, Framed, closure_of, with_closure
from eigenscope.diagnostics.step_factor import StepControl


class ScaledSteps(StepControl):
    """Only within `optimizer.step` are the learning rates multiplied by `factor`; a scheduler never sees it.

    Nor does a checkpoint, whenever it is taken. Of a step whose closure raises nothing stays; where the optimizer
    itself raises, the rates are put back by the next step.
    """

    def __init__(self) -> None:
        self.factor = 1.0
        self._handles: list[RemovableHandle] = []
        self._scaled: list[tuple[dict[str, Any], Any, Any]] = []  # group, its rate, and the rate within the step

    def _attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Not by `Hooks`, whose failures would leave a scaled rate behind; and `step_controls` looks for the first."""
        self._handles = [
            optimizer.register_step_pre_hook(self._enter),
            optimizer.register_step_post_hook(self._unscale),
            optimizer.register_state_dict_post_hook(self._saved),
            optimizer.register_load_state_dict_post_hook(self._loaded),
        ]

    def _detach(self) -> None:
        self._unscale()
        while self._handles:
            self._handles.pop().remove()

    def _enter(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        self._scale(optimizer)
        closure = closure_of(args, kwargs)
        if closure is None:
            return None
        framed = Framed(closure, partial(self._scale, optimizer), self._unscale)  # one that raised may be tried again
        return with_closure(args, kwargs, framed)

    def _scale(self, optimizer: torch.optim.Optimizer) -> None:
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

    def _saved(self, _: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """A checkpoint taken within a step, or after one that raised, holds the plain rates."""
        for (_group, rate, scaled), saved in zip(self._scaled, state["param_groups"], strict=False):
            if saved["lr"] is scaled:
                saved["lr"] = rate

    def _loaded(self, *_: Any) -> None:
        """A checkpoint was loaded, and nothing is known of it yet."""

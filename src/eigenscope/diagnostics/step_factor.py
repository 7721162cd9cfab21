"""What multiplies an optimizer's learning rates within its steps.

The factor stands in no group and in no state, so that no checkpoint, copy or restored snapshot carries a stale one: it
is found through the hook that does the multiplying, and is gone with it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch


class StepControl(ABC):
    """Multiplies each step of an optimizer by `factor`, in a method that is registered as its pre-step hook."""

    factor: float = 1.0

    @abstractmethod
    def kept(self) -> Callable[[bool], None]:
        """A function that puts it back as it is now, in force again if it was let go since.

        Its argument says whether to measure before the next step: the weights are not those of now.
        """

    @abstractmethod
    def move(self, optimizer: torch.optim.Optimizer) -> None:
        """Another optimizer goes on with its hooks."""


def step_controls(optimizer: torch.optim.Optimizer) -> list[StepControl]:
    """Those that are in force now."""
    hooks = getattr(optimizer, "_optimizer_step_pre_hooks", {})  # none on wrappers that are no optimizers themselves
    owners = [getattr(hook, "__self__", None) for hook in hooks.values()]
    return [owner for owner in owners if isinstance(owner, StepControl)]


def step_factor(optimizer: torch.optim.Optimizer) -> float:
    """What the learning rates of all groups are multiplied by in the next step; 1 where nothing controls it."""
    if not getattr(optimizer, "_optimizer_step_pre_hooks", None):  # nearly always, and asked at each step
        return 1.0
    return math.prod(control.factor for control in step_controls(optimizer))

"""What kind of loop it is that the monitor is in: one whose steps an action may change?"""

from __future__ import annotations

import weakref
from typing import Any

import torch

_SURE = 4  # steps before a loop is known to take one optimizer step for each of the monitor's
_SHARE = 0.75  # of them: mixed precision skips one now and then
DISTRIBUTED = (
    "actions can't be applied to distributed training yet, where each process would act for itself: use act='advise'"
)


def is_distributed() -> bool:
    """Whether several processes train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


class LoopWatch:
    """Counts the optimizer's steps against the monitor's. The hook that counts changes nothing."""

    def __init__(self) -> None:
        self.steps = self.calls = 0
        self.closure = False  # the loop calls `optimizer.step(closure)`
        self._handle: Any = None

    def follow(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Count the steps of this optimizer from now on, and of no other."""
        self.leave()
        if optimizer is None:
            return
        mine = weakref.ref(self)

        def count(_: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            watch = mine()
            if watch is not None:
                watch.steps += 1
                given = [*args[1:], kwargs.get("closure")]  # the optimizer itself comes first
                watch.closure = given[0] is not None

        self._handle = optimizer.register_step_post_hook(count)

    def leave(self) -> None:
        """Count no more."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def refusal(self) -> str | None:
        """Why nothing may be applied in this loop; None where it may. "" while that is not known yet."""
        if is_distributed():
            return DISTRIBUTED
        if self._handle is None or self.steps >= self.calls:
            return None
        if self.calls < _SURE:
            return ""
        if self.steps >= _SHARE * self.calls:
            return None
        return (
            f"actions can't be applied while gradients are accumulated (the optimizer took {self.steps:,} steps in "
            f"{self.calls:,} of the monitor's): call monitor.step once after each optimizer.step"
        )

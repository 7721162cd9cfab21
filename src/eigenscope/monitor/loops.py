"""What kind of loop it is that the monitor is in: one whose steps an action may change?"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

import torch

from eigenscope.actions.closures import closure_of

_SURE = 4  # steps before a loop is known to take one optimizer step for each of the monitor's
_LOOKED_AT = 32  # steps of the monitor's: what went before says nothing of the loop as it is now
_SHARE = 0.6  # of them must be steps of the optimizer: mixed precision skips a few, accumulation at least each second
DISTRIBUTED = (
    "actions can't be applied to distributed training yet, where each process would act for itself: use act='advise'"
)


def is_distributed() -> bool:
    """Whether several processes train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


class LoopWatch:
    """Counts the optimizer's steps against the monitor's. The hook that counts changes nothing."""

    def __init__(self) -> None:
        self.steps = 0
        self._marks = deque([0], _LOOKED_AT + 1)  # the optimizer's steps at the last of the monitor's
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
                watch.closure = closure_of(args, kwargs) is not None

        self._handle = optimizer.register_step_post_hook(count)

    def call(self) -> None:
        """A step of the monitor's."""
        self._marks.append(self.steps)

    def leave(self) -> None:
        """Count no more."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def refusal(self) -> str | None:
        """Why nothing may be applied in this loop; None where it may. "" while that is not known yet."""
        if is_distributed():
            return DISTRIBUTED
        calls, steps = len(self._marks) - 1, self.steps - self._marks[0]
        if self._handle is None or steps >= calls:
            return None
        if calls < _SURE:
            return ""
        if steps > _SHARE * calls:
            return None
        return (
            f"actions can't be applied while gradients are accumulated (the optimizer took {steps} steps in the last "
            f"{calls} of the monitor's): call monitor.step once after each optimizer.step"
        )

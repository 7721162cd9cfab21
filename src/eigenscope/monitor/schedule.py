"""When to measure: so that it takes at most its share of the time, whatever the model."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from eigenscope.errors import InputError

_MARGIN = 1.25  # a check may take this much longer than the last of its kind and still keep the budget


class Schedule:
    """A bank account of time: training earns `budget` of each second, and a check must be paid for in full.

    `every` replaces the account by a fixed number of steps. The clock is a parameter so that tests need no sleep.
    """

    def __init__(self, budget: float, every: int | None, clock: Callable[[], float]) -> None:
        self.budget, self.every, self.clock = budget, every, clock
        self.start = clock()
        self.measured = 0.0  # seconds spent measuring
        self.prices: dict[str, float] = {}  # seconds of the last check of each kind
        self.next_time = 0.0 if every is None else float("inf")

    def due(self, step: int, now: float) -> bool:
        """To be asked at each step, with the time: one comparison when it is not due."""
        if self.every is not None:
            return step % self.every == 0
        return now >= self.next_time

    def spend(self, kind: str, seconds: float, next_kind: str, patience: float = 1.0) -> None:
        """A check of `kind` took `seconds`; work out when the next one, of `next_kind`, is paid for.

        `patience` times as long is waited: what keeps failing is tried ever less often.
        """
        self.measured += seconds
        self.prices[kind] = seconds
        if self.every is None:
            price = self.prices.get(next_kind, max(self.prices.values()))
            saved = self.start + self.measured + (self.measured + _MARGIN * price) / self.budget
            waited = self.clock() + patience * _MARGIN * price / self.budget if patience > 1 else 0.0
            self.next_time = max(saved, waited)

    @property
    def share(self) -> float:
        """The share of the time since the start that went into measuring."""
        total = self.clock() - self.start
        return self.measured / total if total > 0 else 0.0


def check_pace(budget: Any, every: Any) -> None:
    """Raise `InputError` for what is no share of the time, or no number of steps."""
    if not isinstance(budget, Real) or not 0 < float(budget) <= 1:
        raise InputError(f"budget={budget!r}: a share of the training time is needed, over 0 and at most 1")
    if every is not None and (not isinstance(every, Integral) or every < 1):
        raise InputError(f"every={every!r}: a whole number of steps is needed, at least 1")

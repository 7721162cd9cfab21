"""Has the training loss risen for good? Judged at each step, in about a microsecond, through mini-batch noise."""

from __future__ import annotations

import math
from typing import Any

_SPAN = 50  # losses that the average looks back on
_SETTLED = 20  # losses before an average counts as the lowest
_FLOOR = 0.1  # of the first loss: what lies below it counts as this much
_ERRORS = 4  # standard errors that a rise must exceed


class LossWatch:
    """How many times its lowest level a loss has risen to, at the least.

    It follows the average of the log loss (a single wild batch hardly moves it) and the average jump from one loss to
    the next, which tells the noise. `rise` is the factor between that average and its lowest (or the first loss),
    less four standard errors of both, so that noise alone does not pass for a rise. Losses under a tenth of the first
    count as that tenth: what moves below it is near 0, not risen. A loss that starts at or below 0 has no scale to be
    judged by, and its rise is 1.
    """

    def __init__(self) -> None:
        self._count = 0
        self._floor = self._first = self._last = self._mean = self._jump = 0.0
        self._lowest = math.inf

    def feed(self, loss: float) -> float:
        """Take in the next finite loss. The log of the factor, noise included: to see cheaply that it is small."""
        if self._count == 0:
            if loss > 0:
                self._floor, self._count = _FLOOR * loss, 1
                self._first = self._last = self._mean = math.log(loss)
            return 0.0
        value = math.log(loss if loss > self._floor else self._floor)
        count = self._count = self._count + 1
        share = 1 / (count if count < _SPAN else _SPAN)
        self._mean += share * (value - self._mean)
        self._jump += share * (abs(value - self._last) - self._jump)
        self._last = value
        if count >= _SETTLED and self._mean < self._lowest:
            self._lowest = self._mean
        return self._mean - (self._first if self._first < self._lowest else self._lowest)

    @property
    def rise(self) -> float:
        """The factor, proven against the noise; at least 1."""
        noise = _ERRORS * self._jump * math.sqrt(math.pi) / 2  # of normal values, a jump is 2/√π standard deviations
        low = min(self._first + noise, self._lowest + noise / math.sqrt(_SETTLED))
        excess = self._mean - noise / math.sqrt(min(max(self._count, 1), _SPAN)) - low
        return math.exp(min(max(excess, 0.0), 700.0))

    @property
    def average(self) -> float:
        """The typical loss now."""
        return math.exp(min(self._mean, 700.0))

    @property
    def lowest(self) -> float:
        """The lowest that it has been."""
        return math.exp(min(self._first, self._lowest))


def as_number(loss: Any) -> float | None:
    """What was given as a loss (a number, or a tensor or array of one element) as a float; None where it is none."""
    if isinstance(loss, str | bytes):
        return None
    try:
        return float(loss.item() if hasattr(loss, "item") else loss)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def described(loss: object) -> str:
    """What was given in place of a loss, in a few words that are the same at each step."""
    name, shape = type(loss).__name__, getattr(loss, "shape", None)
    kind = f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    return kind if shape is None else f"{kind} of shape {tuple(shape)}"

"""Does the loss fall faster than it did anyway?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float

LAST = 30  # losses that count as the loss of now
_LONGER = 4  # times the steps since the action: so far the trend before it is looked at
_FEWEST = 30  # losses of which a trend can be told
_DOUBT = 2.0  # standard errors that the loss must be lower by
_TIED = 0.9  # the most that one residual may say of the next: along a smooth curve it says all
_ROUNDING = 1e-9

_Losses = Float[np.ndarray, " n"]


class Side(Protocol):
    """The losses of one side of an action, as `Evidence`."""

    @property
    def step(self) -> int: ...

    @property
    def losses(self) -> Sequence[float]: ...

    @property
    def history(self) -> Mapping[str, Sequence[float]]: ...


def beats_trend(before: Side, after: Side) -> bool:
    """Whether the losses since are lower than those before, carried on, led to expect.

    Carried on is a line through the log of the losses of four times as many steps before, by least squares: a descent
    as it mostly is slows down, and then the line promises too much. Where it was speeding up, as off a plateau, nothing
    can be told. The later half of the losses since must lie under the line, and under the mean before, by two standard
    errors, which hold the noise on both sides and its ties from step to step.
    """
    since = max(after.step - before.step, LAST)
    x, y = _points(before, _LONGER * since)
    x_now, y_now = _points(after, (since + 1) // 2)
    if len(y) < _FEWEST or len(y_now) < 2:
        return False
    if min(y.min(), y_now.min()) > 0:
        y, y_now = np.log(y), np.log(y_now)
    x, x_now = (x - before.step) / since, (x_now - before.step) / since
    bend, _ = _fitted(x, y, 2, np.array([1.0, 0.0, 0.0]))
    if bend < -_ROUNDING:
        return False
    noise = float(y_now.var(ddof=1)) / len(y_now)
    for degree in (0, 1):
        expected, variance = _fitted(x, y, degree, np.vander(x_now, degree + 1).mean(0))
        doubt = _DOUBT * math.sqrt(variance + noise) + _ROUNDING * max(abs(expected), 1.0)
        if not float(y_now.mean()) < expected - doubt:
            return False
    return True


def _fitted(x: _Losses, y: _Losses, degree: int, wanted: Float[np.ndarray, " k"]) -> tuple[float, float]:
    """Of a polynomial through (x, y) a sum of coefficients, highest power first, and its variance."""
    design = np.vander(x, degree + 1)
    coefficients, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    rest = y - design @ coefficients
    power = float(rest @ rest)
    tie = min(max(float(rest[1:] @ rest[:-1]) / power, 0.0), _TIED) if power > 0 else 0.0
    variance = power / max(len(y) - int(rank), 1) * (1 + tie) / (1 - tie)
    return float(wanted @ coefficients), variance * float(wanted @ np.linalg.pinv(design.T @ design) @ wanted)


def _points(side: Side, reach: int) -> tuple[_Losses, _Losses]:
    """The steps of the last `reach` steps that have a finite loss, and the losses."""
    count = len(side.losses)
    losses, known = np.array(side.losses, dtype=np.float64), side.history.get("loss_step", ())
    steps = np.arange(side.step - count + 1, side.step + 1, dtype=np.float64)
    if count and len(known) >= count:
        steps = np.array(known[-count:], dtype=np.float64)
    near = (steps > side.step - reach) & np.isfinite(losses)
    return steps[near], losses[near]

"""How many steps may pass until what moves with training is measured again."""

from __future__ import annotations

import math

_LONGER = 4  # times the last distance between two measurements, at the most
_CALM = 0.04  # how far the value may move, relatively, until it is measured again
_QUIET = 1e-9  # the least that it is taken to move
_FADING = 0.8  # what remains of an earlier movement from one measurement to the next


class Pace:
    """Measured after each step while the value moves, at most `every` steps apart once it is calm.

    In minibatches it never calms, and the measurements are set `least` steps apart, reached by fours (1, 4, 16, ...).
    """

    def __init__(self, least: int, every: int) -> None:
        self.least, self.every = least, every
        self.interval = self.left = 1
        self._since = 0  # steps since the last measurement
        self.apart = least == 1  # whether the measurements have come to lie `least` apart: the warm-up is over
        self._unrest = 1.0  # how fast the value has lately moved, relatively, per step

    @property
    def passed(self) -> int:
        """Steps since the last measurement, at the least 1."""
        return max(self._since, 1)

    @property
    def early(self) -> bool:
        """Whether a measurement now comes ahead of its time."""
        return self.left > 0

    @property
    def calm(self) -> bool:
        """Whether the value has hardly moved of late."""
        return self._unrest < _CALM / 2

    @property
    def warmth(self) -> float:
        """1, and less until the measurements lie `least` apart: the root of the share that they have come to."""
        return 1.0 if self.apart else math.sqrt(self.interval / self.least)

    def tick(self) -> bool:
        """A step was taken; whether it is time to measure."""
        self.left -= 1
        self._since += 1
        return self.left <= 0

    def begin(self) -> None:
        """The first measurement: the next one comes after a step."""
        self.interval, self.left, self._since = 1, 1, 0

    def measured(self, change: float, *, between: bool = False) -> None:
        """The value has moved by this logarithm since it was last measured; `between`: the next time set before holds.

        One ahead of its time makes the distance no longer.
        """
        self._unrest = max(abs(change) / self.passed, _FADING * self._unrest, _QUIET)
        longest = self.interval if self.early else _LONGER * self.interval
        self.interval = max(min(self.least, longest), min(int(_CALM / self._unrest), longest, self.every))
        self.left = min(self.left, self.interval) if between and self.early else self.interval
        self._since = 0
        self.apart = self.apart or self.interval >= self.least

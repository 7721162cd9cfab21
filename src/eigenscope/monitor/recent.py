"""The last values of a few numbers, and how many there have been: what an action looks back on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

_KEPT = 1000


class Recent:
    """Values by name, oldest first; a mark says which of them came later."""

    def __init__(self) -> None:
        self._values: dict[str, deque[float]] = {}
        self._counts: dict[str, int] = {}
        self._broken: dict[str, int] = {}  # the count at the last value that is not finite

    def add(self, name: str, value: float) -> None:
        """The newest value."""
        try:
            self._values[name].append(value)
            self._counts[name] += 1
        except KeyError:
            self._values[name], self._counts[name] = deque([value], _KEPT), 1
        if not math.isfinite(value):
            self._broken[name] = self._counts[name]

    def values(self, since: Mapping[str, int] | None = None) -> dict[str, list[float]]:
        """All that are kept, or those that came after a mark."""
        if since is None:
            return {name: list(values) for name, values in self._values.items()}
        new = {name: self._counts[name] - since.get(name, 0) for name in self._values}
        return {name: list(values)[-new[name] :] if new[name] else [] for name, values in self._values.items()}

    def mark(self) -> dict[str, int]:
        """Now."""
        return dict(self._counts)

    def broken(self, name: str, since: Mapping[str, int]) -> bool:
        """Whether a value that came after the mark is not finite; cheap enough for each step."""
        return self._broken.get(name, 0) > since.get(name, 0)

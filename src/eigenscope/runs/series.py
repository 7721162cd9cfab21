"""A metric over the steps of a run, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64


@dataclass(frozen=True, eq=False)
class Series:
    """One metric: `values[i]`, with `errors[i]`, at step `steps[i]`; steps increase.

    An error is NaN where none was stated and infinite where it was stated to be unknown.
    """

    name: str
    steps: Int64[np.ndarray, " n"]
    values: Float64[np.ndarray, " n"]
    errors: Float64[np.ndarray, " n"]

    @classmethod
    def from_rows(cls, name: str, rows: Sequence[tuple[int, float | None, float | None]]) -> "Series":
        """From `(step, value, error)` rows as the file holds them, in the order of their steps."""
        steps, values, errors = zip(*rows, strict=True) if rows else ((), (), ())
        numbers = np.array(values, dtype=float), np.array(errors, dtype=float)
        return cls(name, np.array(steps, dtype=np.int64), *numbers)

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        if not len(self):
            return f"Series({self.name!r}, empty)"
        return (
            f"Series({self.name!r}, {len(self):,} values, steps {self.steps[0]} to {self.steps[-1]}, "
            f"last {self.values[-1]:.6g})"
        )

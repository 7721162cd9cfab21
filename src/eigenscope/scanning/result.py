"""What a scan found: a row a matrix, a line for everything that was not analysed, and a summary."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from eigenscope.scanning.picture import notebook_table, plotted
from eigenscope.weights.reading import WeightReading

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LAYER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


@dataclass(frozen=True)
class MatrixRow:
    """One matrix: where it is from, and its spectrum. `part` is "" for a whole tensor, else such as "query"."""

    name: str
    part: str
    dtype: str
    reading: WeightReading | None  # None where its entries are not finite
    problem: str | None = None
    operator_norm: float | None = None  # of a convolution, on the input size that was given

    @property
    def title(self) -> str:
        return f"{self.name} [{self.part}]" if self.part else self.name

    @property
    def layer(self) -> int | None:
        """The number in its name: its place in the stack."""
        found = _LAYER.search(self.name)
        return int(found[1]) if found else None

    @property
    def kind(self) -> str:
        """Its name without that number: the same in each layer."""
        whole = _LAYER.sub(".", self.name, count=1).strip(".")
        kind = whole.removesuffix(".weight").rpartition("layers.")[2] or whole
        return f"{kind} [{self.part}]" if self.part else kind

    def to_dict(self) -> dict[str, object]:
        """The row as JSON has it."""
        plain: dict[str, object] = {"name": self.name, "part": self.part, "dtype": self.dtype}
        if self.reading is None:
            return {**plain, "problem": self.problem}
        shape = [self.reading.rows, self.reading.columns]
        plain |= {"layer": self.layer, "kind": self.kind, "shape": shape, **self.reading.to_dict()}
        return plain | ({} if self.operator_norm is None else {"operator_norm": self.operator_norm})


@dataclass(frozen=True)
class Skipped:
    """A tensor that was not analysed, and why."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    reason: str

    def to_dict(self) -> dict[str, object]:
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype, "reason": self.reason}


@dataclass(frozen=True)
class Scan:
    """Every tensor of a checkpoint: analysed in `matrices`, or in `skipped` with its reason."""

    source: str
    format: str
    matrices: tuple[MatrixRow, ...]
    skipped: tuple[Skipped, ...]
    seconds: float
    notes: tuple[str, ...] = field(default=())

    @property
    def whole(self) -> tuple[MatrixRow, ...]:
        """Every tensor once: as one matrix, or the layers of a stack that is none; no parts of a fused projection."""
        known = {row.name for row in self.matrices if not row.part}
        return tuple(row for row in self.matrices if not row.part or row.name not in known)

    @property
    def summary(self) -> dict[str, object]:
        """The checkpoint in a few numbers: over the whole matrices, without their parts."""
        whole = [row.reading for row in self.whole if row.reading is not None]
        shares = [reading.effective_rank / min(reading.rows, reading.columns) for reading in whole]
        known = [reading.condition_number.value for reading in whole if reading.condition_number.value is not None]
        return {
            "source": self.source,
            "format": self.format,
            "tensors": len({row.name for row in self.matrices}) + len(self.skipped),
            "matrices": len(whole),
            "parameters": sum(reading.rows * reading.columns for reading in whole),
            "skipped": len(self.skipped),
            "effective_rank_share": float(np.median(shares)) if shares else None,
            "worst_condition_number": max(known, default=None),
            "spectrum_shapes": dict(Counter(reading.spectrum_shape for reading in whole)),
            "problems": sum(row.reading is None for row in self.matrices),
            "seconds": self.seconds,
        }

    def __getitem__(self, title: str) -> MatrixRow:
        """A row by its name, with its part in brackets where it has one."""
        for row in self.matrices:
            if title in (row.title, row.name):
                return row
        raise KeyError(title)

    def __iter__(self) -> Iterator[MatrixRow]:
        return iter(self.matrices)

    def plot(self, kind: str = "map", matrix: str | None = None, *, quantity: str = "effective_rank_share") -> Figure:
        """Draw with matplotlib (``pip install 'eigenscope[plot]'``) and return the figure.

        `kind`: "map", kinds of matrices by layers, coloured by `quantity` (one of `curves.QUANTITIES`); "spectra", all
        in one plot; "matrix", the three plots of the one whose title is `matrix`, as also where that is given alone.
        """
        return plotted(self.matrices, self.source, kind, matrix, quantity)

    def _repr_html_(self) -> str:
        left = f"{len(self.skipped):,} tensors not analysed: .skipped says why"
        return notebook_table(self.matrices, f"{self.source} ({self.format}); {left}")

    def to_dict(self) -> dict[str, object]:
        """The scan as JSON: `matrices`, `skipped`, `summary`, `notes`."""
        return {
            "matrices": [row.to_dict() for row in self.matrices],
            "skipped": [item.to_dict() for item in self.skipped],
            "summary": self.summary,
            "notes": list(self.notes),
        }

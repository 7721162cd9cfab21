"""What a scan found: a row a matrix, a line for everything that was not analysed, and a summary."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from eigenscope.errors import InputError, printable
from eigenscope.scanning.curves import QUANTITIES
from eigenscope.scanning.flat import NUMBERS, frame, numbers
from eigenscope.scanning.picture import Pictured, plotted
from eigenscope.scanning.tables import Table
from eigenscope.weights.reading import WeightReading
from eigenscope.words import counted, did_you_mean, percent

if TYPE_CHECKING:
    import pandas as pd
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
        """Its name for people, with its part: on one line, without control characters."""
        name = printable(self.name)
        return f"{name} [{self.part}]" if self.part else name

    @property
    def layer(self) -> int | None:
        """The number in its name: its place in the stack."""
        found = _LAYER.search(self.name)
        return int(found[1]) if found else None

    @property
    def kind(self) -> str:
        """Its name without that number: the same in each layer."""
        whole = _LAYER.sub(".", printable(self.name), count=1).strip(".")
        kind = whole.removesuffix(".weight").rpartition("layers.")[2] or whole
        return f"{kind} [{self.part}]" if self.part else kind

    def __repr__(self) -> str:
        r = self.reading
        said = self.problem if r is None else f"{r.rows}×{r.columns}, {r.sentence}"
        return f"<MatrixRow {self.title}: {said}>"

    def flat(self) -> dict[str, object]:
        """The row without the singular values, as CSV and pandas have it."""
        plain: dict[str, object] = {"name": self.name, "part": self.part, "dtype": self.dtype}
        known = numbers(self.reading) if self.reading else {}
        return plain | known | {"operator_norm": self.operator_norm, "reason": self.problem}

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

    @property
    def title(self) -> str:
        """Its name for people: on one line, without control characters."""
        return printable(self.name)

    def to_dict(self) -> dict[str, object]:
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype, "reason": self.reason}


COLUMNS = ("name", "part", "dtype", *NUMBERS, "operator_norm", "reason")  # of `MatrixRow.flat`


@dataclass(frozen=True)
class Scan:
    """Every tensor of a checkpoint: analysed in `matrices`, or in `skipped` with its reason.

    It has the length of its `matrices`.
    """

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
        return named(self.matrices, title)

    def __iter__(self) -> Iterator[MatrixRow]:
        return iter(self.matrices)

    def __len__(self) -> int:
        return len(self.matrices)

    def __repr__(self) -> str:
        left = f"{counted(len(self.skipped), 'tensor')} not analysed"
        return f"<Scan of {self.source}: {len(self.matrices):,} matrices, {left}>"

    def __str__(self) -> str:
        return self._table().text()

    def plot(self, kind: str = "map", matrix: str | None = None, *, quantity: str = "effective_rank_share") -> Figure:
        """Draw with matplotlib (``pip install 'eigenscope[plot]'``) and return the figure.

        `kind`: "map", kinds of matrices by layers, coloured by `quantity` (one of `curves.QUANTITIES`); "spectra", all
        in one plot; "matrix", the three plots of the one whose title is `matrix`, as also where that is given alone.
        """
        shown = Pictured(self.matrices, self.source, QUANTITIES, [row.reading for row in self.matrices])
        return plotted(shown, kind, matrix, quantity)

    def to_pandas(self) -> pd.DataFrame:
        """A table with a row a matrix and a column a number, without the singular values.

        Raises `InputError` where pandas is not installed.
        """
        return frame([row.flat() for row in self.matrices], [row.title for row in self.matrices], COLUMNS)

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        left = f"{counted(len(self.skipped), 'tensor')} not analysed: .skipped says why"
        return Table(f"{self.source} ({self.format}); {left}", _HEADS, [_cells(row) for row in self.matrices])

    def to_dict(self) -> dict[str, object]:
        """The scan as JSON: `matrices`, `skipped`, `summary`, `notes`."""
        return {
            "matrices": [row.to_dict() for row in self.matrices],
            "skipped": [item.to_dict() for item in self.skipped],
            "summary": self.summary,
            "notes": list(self.notes),
        }


class _Titled(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...


Row = TypeVar("Row", bound=_Titled)


def named(rows: Sequence[Row], title: str) -> Row:
    """The row of a title or a name. Raises `InputError`, with the name that is near, where there is none."""
    for row in rows:
        if title in (row.title, row.name):
            return row
    near = did_you_mean(str(title), [row.title for row in rows], most=8)
    raise InputError(f"there is no matrix {title!r}{near}")


_HEADS = ("matrix", "shape", "eff. rank", "of full", "κ", "99 %", "top 10", "spectrum")


def _cells(row: MatrixRow) -> list[str]:
    r = row.reading
    if r is None:
        return [row.title, *[""] * 6, "not finite"]
    kappa = r.condition_number.value
    bound = "≥ " if r.condition_number.reason else ""
    return [
        row.title,
        f"{r.rows}×{r.columns}",
        f"{r.effective_rank:,.0f}",
        percent(r.effective_rank / min(r.rows, r.columns)),
        "∞" if kappa is None else f"{bound}{_three(kappa)}",
        f"{r.rank_at_99:,}",
        percent(r.variance_at_10, 1),
        r.spectrum_shape.replace("_", " "),
    ]


def _three(value: float) -> str:
    """To three digits; 3,190 rather than 3.19e+03."""
    return f"{float(f'{value:.3g}'):,.0f}" if 1000 <= value < 1e6 else f"{value:.3g}"

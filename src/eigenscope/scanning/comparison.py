"""What a comparison found: a change a matrix, what stayed the same, and what could not be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eigenscope.scanning.curves import Quantity
from eigenscope.scanning.flat import NUMBERS, frame, numbers
from eigenscope.scanning.picture import Pictured, plotted
from eigenscope.scanning.result import MatrixRow, Skipped, named
from eigenscope.scanning.tables import Table
from eigenscope.weights.reading import WeightReading
from eigenscope.words import counted, percent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

OWN = ("relative_size", "overlap", "intruders")  # a change's numbers beside those of ΔW


@dataclass(frozen=True)
class Change:
    """One matrix of BASE and what TUNED made of it."""

    name: str
    part: str
    difference: WeightReading  # of ΔW
    relative_size: float  # ‖ΔW‖_F/‖W‖_F
    overlap: float | None  # mean squared cosine between the leading left and right subspaces; None where W is 0
    intruders: int | None  # of TUNED's leading outputs, those that BASE lacks; None where W is 0

    @property
    def row(self) -> MatrixRow:
        """ΔW as a matrix of its own."""
        return MatrixRow(self.name, self.part, "", self.difference)

    @property
    def title(self) -> str:
        """Its name for people, with its part: on one line, without control characters."""
        return self.row.title

    def __repr__(self) -> str:
        r = self.difference
        return f"<Change of {self.title}: {r.rows}×{r.columns}, {percent(self.relative_size, 2)} of W, rank {r.rank:,}>"

    def to_dict(self) -> dict[str, object]:
        """The row as JSON has it."""
        shape = [self.difference.rows, self.difference.columns]
        mine = {name: getattr(self, name) for name in OWN}
        return {"name": self.name, "part": self.part, "shape": shape, **mine, "difference": self.difference.to_dict()}

    def flat(self) -> dict[str, object]:
        """The row without the singular values, as CSV and pandas have it."""
        mine = {name: getattr(self, name) for name in OWN}
        return {"name": self.name, "part": self.part, **mine, **numbers(self.difference)}


COLUMNS = ("name", "part", *OWN, *NUMBERS)  # of `flat`
CHANGES: Mapping[str, Quantity[Change]] = {
    "relative_size": Quantity("relative size of ΔW", lambda change: change.relative_size, logarithmic=True, share=True),
    "rank_at_99": Quantity("rank of ΔW at 99 %", lambda change: change.difference.rank_at_99, logarithmic=True),
    "overlap": Quantity("overlap of the leading directions", lambda change: change.overlap, share=True),
    "intruders": Quantity("intruders", lambda change: change.intruders),
}


@dataclass(frozen=True)
class Comparison:
    """Every matrix that both have, and what could not be compared. It has the length of its `changes`."""

    base: str
    tuned: str
    changes: tuple[Change, ...]
    unchanged: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    seconds: float

    def __getitem__(self, title: str) -> Change:
        """A change by the matrix's name, with its part in brackets where it has one."""
        return named(self.changes, title)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def __repr__(self) -> str:
        same = f"{len(self.unchanged):,} unchanged, {len(self.skipped):,} not compared"
        return f"<Comparison {self.base} → {self.tuned}: {len(self.changes):,} changed, {same}>"

    def __str__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        same = f"{len(self.unchanged):,} bit for bit the same; {counted(len(self.skipped), 'tensor')} not compared"
        heads = ("matrix", "shape", "ΔW/W", "rank", "90 %", "95 %", "99 %", "overlap", "intruders")
        return Table(f"{self.base} → {self.tuned}; {same}", heads, [_cells(change) for change in self.changes])

    def plot(self, kind: str = "map", matrix: str | None = None, *, quantity: str = "relative_size") -> Figure:
        """Draw with matplotlib (``pip install 'eigenscope[plot]'``) and return the figure.

        `kind` and `matrix` are those of `Scan.plot`, of ΔW; `quantity` is "relative_size", "rank_at_99", "overlap" or
        "intruders".
        """
        shown = Pictured([change.row for change in self.changes], f"{self.base} → {self.tuned}", CHANGES, self.changes)
        return plotted(shown, kind, matrix, quantity)

    def to_pandas(self) -> pd.DataFrame:
        """A table with a row a change and a column a number; those after `intruders` are ΔW's.

        Raises `InputError` where pandas is not installed.
        """
        return frame([change.flat() for change in self.changes], [change.title for change in self.changes], COLUMNS)

    def to_dict(self) -> dict[str, object]:
        """The comparison as JSON."""
        return {
            "base": self.base,
            "tuned": self.tuned,
            "changes": [change.to_dict() for change in self.changes],
            "unchanged": list(self.unchanged),
            "skipped": [item.to_dict() for item in self.skipped],
            "seconds": self.seconds,
        }


def _cells(change: Change) -> list[str]:
    r = change.difference
    known = ("—", "—") if change.overlap is None else (f"{change.overlap:.2f}", str(change.intruders))
    ranks = (r.rank, r.rank_at_90, r.rank_at_95, r.rank_at_99)
    size = f"{100 * change.relative_size:.2g} %"
    return [change.title, f"{r.rows}×{r.columns}", size, *[f"{rank:,}" for rank in ranks], *known]

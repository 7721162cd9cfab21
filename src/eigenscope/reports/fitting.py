"""Tables of matrices that fit the terminal: columns step aside for names, then names lose their middle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_GAP = 2
_NAME = 24  # columns that a long name keeps before anything else is left out


@dataclass(frozen=True)
class Column:
    """A column of a table; of those that do not fit the one with the highest `spare` goes first, with 0 none."""

    title: str
    cells: Sequence[Text | str]
    right: bool = True
    spare: int = 0

    @property
    def width(self) -> int:
        return max(map(cell_len, (self.title, *map(str, self.cells))))


def fitted(title: str, names: Sequence[Text], columns: Sequence[Column], width: int) -> Table:
    """The names, and as many of the columns beside them as there is room for."""
    kept = list(columns)
    longest = max((cell_len(name.plain) for name in names), default=0)
    while True:
        room = width - sum(column.width + _GAP for column in kept)
        spare = max(kept, key=lambda column: column.spare)
        if room >= min(longest, _NAME) or spare.spare == 0:
            break
        kept.remove(spare)
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="dim", pad_edge=False)
    table.add_column(title, no_wrap=True)
    for column in kept:
        table.add_column(Text(column.title), justify="right" if column.right else "left", no_wrap=True)
    for index, name in enumerate(names):
        short = Text(shortened(name.plain, max(room, 8)), name.style)
        table.add_row(short, *[_text(column.cells[index]) for column in kept])
    return table


def shortened(name: str, width: int) -> str:
    """A tensor's name in so many columns: without ".weight", then without its middle, which tells least."""
    if cell_len(name) > width:
        name = name.replace(".weight [", " [").removesuffix(".weight")
    if cell_len(name) <= width:
        return name
    head = (width - 1) // 3
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"


def _text(cell: Text | str) -> Text:
    """Never as markup: a name may hold brackets."""
    return cell if isinstance(cell, Text) else Text(cell)

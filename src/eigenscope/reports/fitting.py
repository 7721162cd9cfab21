"""Tables of matrices that fit the terminal: columns step aside for names, then names lose what tells least."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_GAP = 2
_NAME = (8, 24)  # columns that long names keep at least: three tenths of the terminal's, between these
_STEP = re.compile(r"[^./]+[./]?|[./]")  # of a name, with the sign that ends it
_NESTED = "  "  # how the name of a part begins that stands under its tensor


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
    """The names, and as many of the columns beside them as there is room for.

    Where names don't fit, what all of them begin with stands in the head alone.
    """
    kept, plain = list(columns), [name.plain for name in names]
    longest = max(map(cell_len, plain), default=0)
    least = min(max(3 * width // 10, _NAME[0]), _NAME[1])
    while True:
        left = width - sum(column.width + _GAP for column in kept)
        room = max(left, _NAME[0])
        head, shown = _in_room(title, plain, room)
        spare = max(kept, key=lambda column: column.spare)
        if spare.spare == 0 or (left >= min(longest, least) and len(set(shown)) == len(set(plain))):
            break
        kept.remove(spare)
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="dim", pad_edge=False)
    table.add_column(Text(head), no_wrap=True)
    for column in kept:
        table.add_column(Text(column.title), justify="right" if column.right else "left", no_wrap=True)
    for index, name in enumerate(names):
        table.add_row(Text(shown[index], name.style), *[_text(column.cells[index]) for column in kept])
    return table


def _in_room(title: str, names: Sequence[str], room: int) -> tuple[str, list[str]]:
    """The head and the names in so many columns."""
    if max(map(cell_len, names), default=0) <= room:
        return title, list(names)
    prefix = common_prefix([name for name in names if not name.startswith(_NESTED)])
    steps = _STEP.findall(prefix)
    ends = (f"in …{''.join(steps[i:])}" for i in range(1, len(steps)))
    heads = (f"{title} in {prefix}", f"in {prefix}", *ends) if prefix else ()
    head = next((head for head in heads if cell_len(head) <= room), title)
    return head, [shortened(_bare(name.removeprefix(prefix)), room) for name in names]


def common_prefix(names: Sequence[str]) -> str:
    """What several names begin with, up to a dot or a slash."""
    steps = [_STEP.findall(name)[:-1] for name in names]
    alike = takewhile(lambda met: len(set(met)) == 1, zip(*steps, strict=False))
    return "".join(met[0] for met in alike) if len(names) > 1 else ""


def _bare(name: str) -> str:
    return name.replace(".weight [", " [").removesuffix(".weight")


def shortened(name: str, width: int) -> str:
    """A tensor's name in so many columns: without ".weight", then without what stands first.

    The number of a layer stays, and so do the name's end and its part in brackets.
    """
    if cell_len(name) <= width:
        return name
    whole, bracket, part = _bare(name).partition(" [")
    steps: list[str | None] = list(_STEP.findall(whole))
    droppable = [i for i, step in enumerate(steps[:-1]) if step and not step.rstrip("./").isdigit()]
    for i in (None, *droppable):
        if i is not None:
            steps[i] = None
        short = f"{_joined(steps)}{bracket}{part}"
        if cell_len(short) <= width:
            return short
    head = max((width - 1) // 3, 1)
    return f"{short[:head]}…{short[len(short) - (width - 1 - head) :]}"


def _joined(steps: Sequence[str | None]) -> str:
    """With one … for each run of steps that are left out."""
    text = ""
    for step in steps:
        if step is not None:
            text += step
        elif not text.endswith("…"):
            text = f"{text.rstrip('./')}…"
    return text


def _text(cell: Text | str) -> Text:
    """Never as markup: a name may hold brackets."""
    return cell if isinstance(cell, Text) else Text(cell)

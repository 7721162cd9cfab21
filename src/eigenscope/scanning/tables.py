"""A scan or a comparison that shows itself: as text where it is printed, as HTML in a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

_ROWS = 60  # that are shown
_GAP = "  "


@dataclass(frozen=True)
class Table:
    """Heads and cells of a few columns; the first holds names, the others mostly numbers."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """The first 60 rows in columns, under the caption."""
        lines = [self.heads, *self.rows[:_ROWS]] if self.rows else []
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        shown = [_GAP.join(map(_padded, cells, widths, range(len(cells)))).rstrip() for cells in lines]
        return "\n".join([self.caption, *shown, *([self._rest] if self._rest else [])])

    def html(self) -> str:
        """The same as a table; a name is only ever text."""
        heads = "".join(f"<th>{head}</th>" for head in self.heads)
        cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self.rows[:_ROWS])
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        rest = f"<p>{self._rest}</p>" if self._rest else ""
        return (
            f"<table><caption>{html.escape(self.caption)}</caption><thead><tr>{heads}</tr></thead>"
            f"<tbody>{body}</tbody></table>{rest}"
        )

    @property
    def _rest(self) -> str:
        return f"and {len(self.rows) - _ROWS:,} more" if len(self.rows) > _ROWS else ""


def _padded(cell: str, width: int, column: int) -> str:
    """Names to the left, numbers to the right."""
    room = " " * (width - cell_len(cell))
    return f"{cell}{room}" if column == 0 else f"{room}{cell}"

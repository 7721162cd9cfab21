"""The strongest directions of a matrix in the terminal: what it listens to, and what that makes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eigenscope.reports.numbers import number
from eigenscope.scanning.directions import Direction
from eigenscope.words import percent

_MEANING = "each direction answers its inputs, σ times as strongly, with its outputs; signs belong together"
_WIDE = 100  # columns from which inputs and outputs stand side by side
_BESIDE = 26  # columns of the rest


def print_directions(out: Console, title: str, found: Sequence[Direction]) -> None:
    """σ, its share of Σσ², and the entries with the largest weight on either side, the largest first."""
    out.print(Text(title, "bold"))
    out.print(Text(_MEANING, "dim"))
    out.print()
    out.print((_side_by_side if out.width >= _WIDE else _stacked)(found, out.width))
    shown = sum(direction.share for direction in found)
    out.print()
    out.print(Text(f"together {percent(shown, 1)} of Σσ²", "dim"))


def _side_by_side(found: Sequence[Direction], width: int) -> Table:
    table = _table("", "σ", "share", "inputs", "outputs")
    for index, direction in enumerate(found, 1):
        both = (_weights(named, (width - _BESIDE) // 2) for named in (direction.inputs, direction.outputs))
        table.add_row(*_head(index, direction), *both)
        table.add_row()
    return table


def _stacked(found: Sequence[Direction], width: int) -> Table:
    table = _table("", "σ", "share", "", "")
    for index, direction in enumerate(found, 1):
        table.add_row(*_head(index, direction), Text("inputs", "dim"), _weights(direction.inputs, width - _BESIDE - 9))
        table.add_row("", "", "", Text("outputs", "dim"), _weights(direction.outputs, width - _BESIDE - 9))
        table.add_row()
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if index < 3 else "left", no_wrap=True)
    return table


def _head(index: int, direction: Direction) -> tuple[Text, str, str]:
    return Text(f"{index}", "dim"), number(direction.sigma), percent(direction.share, 1)


def _weights(named: Sequence[tuple[str, float]], width: int) -> Text:
    """Name and signed weight; a token is quoted, so that its spaces show. Lines break between entries only."""
    text, column = Text(), 0
    for name, weight in named:
        shown = name if name.startswith("#") and name[1:].isdigit() else repr(name)
        entry = f"{shown} {weight:+.2f}"
        if text and column + 2 + cell_len(entry) > width:
            text, column = text.append("\n"), 0
        elif text:
            text.append("  ")
        text.append(shown, "cyan" if weight > 0 else "magenta").append(f" {weight:+.2f}")
        column += 2 + cell_len(entry)
    return text

"""The strongest directions of a matrix in the terminal: what it listens to, and what that makes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eigenscope.reports.numbers import number
from eigenscope.scanning.directions import Direction

_WIDE = 100  # columns from which inputs and outputs stand side by side


def print_directions(out: Console, title: str, found: Sequence[Direction]) -> None:
    """σ, its share of Σσ², and the entries with the largest weight on either side, the largest first."""
    out.print(Text(title, "bold"))
    out.print(Text("each direction answers its inputs, σ times as strongly, with its outputs; signs belong together", "dim"))
    out.print()
    out.print(_side_by_side(found) if out.width >= _WIDE else _stacked(found))
    shown = sum(direction.share for direction in found)
    out.print()
    out.print(Text(f"together {shown:.1%} of Σσ²", "dim"))


def _side_by_side(found: Sequence[Direction]) -> Table:
    table = _table("", "σ", "share", "inputs", "outputs")
    for index, direction in enumerate(found, 1):
        table.add_row(*_head(index, direction), _weights(direction.inputs), _weights(direction.outputs))
        table.add_row()
    return table


def _stacked(found: Sequence[Direction]) -> Table:
    table = _table("", "σ", "share", "", "")
    for index, direction in enumerate(found, 1):
        table.add_row(*_head(index, direction), Text("inputs", "dim"), _weights(direction.inputs))
        table.add_row("", "", "", Text("outputs", "dim"), _weights(direction.outputs))
        table.add_row()
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if index < 3 else "left", no_wrap=index < 3)
    return table


def _head(index: int, direction: Direction) -> tuple[Text, str, str]:
    return Text(f"{index}", "dim"), number(direction.sigma), f"{direction.share:.1%}"


def _weights(named: Sequence[tuple[str, float]]) -> Text:
    """Name and signed weight; a token is quoted, so that its spaces show."""
    text = Text()
    for index, (name, weight) in enumerate(named):
        shown = name if name.startswith("#") and name[1:].isdigit() else repr(name)
        text.append("  " if index else "")
        text.append(shown.replace(" ", "\u00a0"), "cyan" if weight > 0 else "magenta")
        text.append(f"\u00a0{weight:+.2f}")
    return text

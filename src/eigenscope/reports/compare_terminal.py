"""A comparison in the terminal: a line a matrix that changed, and in words what fine-tuning did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eigenscope.errors import InputError, printable
from eigenscope.reports.fitting import Column, fitted
from eigenscope.reports.numbers import number
from eigenscope.reports.scan_terminal import ledger, name, spark
from eigenscope.reports.scan_words import matrices
from eigenscope.scanning.comparison import Change, Comparison
from eigenscope.words import counted
from eigenscope.words import percent as whole_percent

_KEYS: Mapping[str, Callable[[Change], float]] = {
    "relative_size": lambda change: change.relative_size,
    "rank_at_99": lambda change: change.difference.rank_at_99,
    "overlap": lambda change: -1.0 if change.overlap is None else -change.overlap,  # those that turned furthest first
    "intruders": lambda change: change.intruders or 0,
    "size": lambda change: change.difference.rows * change.difference.columns,
}
COMPARE_SORTS = ("name", *_KEYS)


def print_comparison(out: Console, found: Comparison, *, sort: str = "name") -> None:
    """Every change, what could not be compared, and the whole in words."""
    changes = sorted_changes(found.changes, sort)
    if changes:
        out.print(_table(changes, out.width, nested=sort == "name"))
        out.print()
    if found.skipped:
        out.print(ledger(found.skipped, "not compared"))
        out.print()
    out.print(Text(printable(f"{found.base} → {found.tuned}"), "bold"))
    out.print(Text(compared(found)))
    out.print(Text(f"{found.seconds:.2g} s", "dim"))


def sorted_changes(changes: Sequence[Change], sort: str) -> list[Change]:
    """As stored, or by a number: what changed most first."""
    if sort not in COMPARE_SORTS:
        raise InputError(f"sort={sort!r} is not one of {', '.join(COMPARE_SORTS)}")
    return list(changes) if sort == "name" else sorted(changes, key=_KEYS[sort], reverse=True)


def percent(share: float) -> str:
    """A share as people read it: "1.6 %", "0.004 %", "∞"."""
    if not np.isfinite(share):
        return "∞"
    return f"{number(float(f'{100 * share:.2g}'))} %"


def _table(changes: Sequence[Change], width: int, nested: bool) -> Table:
    whole = {change.name for change in changes if nested and not change.part}
    names = [name(change.row, change.name in whole) for change in changes]
    deltas = [change.difference for change in changes]
    ranks = [f"{d.rank_at_90:,}/{d.rank_at_95:,}/{d.rank_at_99:,}" for d in deltas]
    sparks = [Text(spark(d.singular_values[: max(d.rank, 1)]), "cyan") for d in deltas]
    columns = [
        Column("shape", [f"{d.rows}×{d.columns}" for d in deltas], spare=4),
        Column("ΔW/W", [percent(change.relative_size) for change in changes]),
        Column("rank", [f"{d.rank:,}" for d in deltas], spare=6),
        Column("90/95/99 %", ranks, spare=1),
        Column("overlap", [cosine(change) for change in changes]),
        Column("intruders", [_intruders(change) for change in changes], spare=5),
        Column("ΔW's σ, log", sparks, right=False, spare=3),
    ]
    return fitted("matrix", names, columns, width)


def cosine(change: Change, digits: int = 2) -> str:
    """The overlap; a dash where BASE or TUNED is 0 and has no directions."""
    return "—" if change.overlap is None else f"{change.overlap:.{digits}f}"


def strangers(change: Change) -> str:
    """The number of intruders, or a dash."""
    return "—" if change.intruders is None else str(change.intruders)


def _intruders(change: Change) -> Text:
    return Text(strangers(change), "yellow" if change.intruders else "dim")


def compared(found: Comparison) -> str:
    """What fine-tuning did, in a few sentences."""
    changes = whole_changes(found.changes)
    kept = len(found.unchanged)
    same = f"{matrices(kept)} {'is' if kept == 1 else 'are'} bit for bit the same"
    if not changes:
        return f"Nothing changed: {same}."
    largest = max(changes, key=lambda change: change.relative_size)
    where = f" ({largest.title})" if len(changes) > 1 else ""
    said = [
        f"{matrices(len(changes))} changed{f', {same}' if kept else ''}",
        f"{_ranks(changes)}; the largest change is {percent(largest.relative_size)} of its matrix{where}",
        _turned(changes),
    ]
    return ". ".join(said) + "."


def whole_changes(changes: Sequence[Change]) -> list[Change]:
    """Every tensor once, without the parts of a fused one."""
    whole = {change.name for change in changes if not change.part}
    return [change for change in changes if not change.part or change.name not in whole]


def _ranks(changes: Sequence[Change]) -> str:
    """The rank that most differences share exactly, or how many directions they spread over."""
    low = [change.difference for change in changes if change.difference.spectrum_shape == "rank_deficient"]
    common = Counter(delta.rank for delta in low).most_common(1)
    if common and 2 * common[0][1] >= len(changes):
        rank, count = common[0]
        where = {1: "", 2: " in both"}.get(len(changes), f" in all {count:,}")
        return f"ΔW has rank exactly {rank:,}{where if count == len(changes) else f' in {matrices(count)}'}"
    shares = [change.difference.rank_at_90 / len(change.difference.singular_values) for change in changes]
    half = whole_percent(float(np.median(shares)))
    return f"ΔW is of full rank: half of them need {half} of their directions or more for 90 %"


def _turned(changes: Sequence[Change]) -> str:
    overlaps = [change.overlap for change in changes if change.overlap is not None]
    if not overlaps:
        return "There are no leading directions to compare: one of the two is 0"
    intruders, places = sum(change.intruders or 0 for change in changes), sum(bool(c.intruders) for c in changes)
    kept = f"The leading directions overlap by {np.median(overlaps):.2f} (median)"
    if not intruders:
        return f"{kept}; none is new"
    return f"{kept}; {counted(intruders, 'new dominant direction')} in {matrices(places)}"

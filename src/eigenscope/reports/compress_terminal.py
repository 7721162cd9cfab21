"""A compression in the terminal: a line a layer, before and after, and the curve of a dry run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eigenscope.compression.report import CompressionReport, LayerReport, TradeOff
from eigenscope.reports.compress_words import (
    LATENCY,
    Curve,
    asked,
    budget_table,
    changes,
    curves_of,
    headline,
    priced,
    share,
    size,
)
from eigenscope.reports.fitting import Column, fitted, shortened
from eigenscope.reports.numbers import number
from eigenscope.reports.plot_terminal import plotted
from eigenscope.reports.terminal import titled
from eigenscope.words import few

_BAR = 10  # columns of the share of the full rank
_HEIGHT = 8  # lines of a curve
_WIDEST = 72  # columns of a curve


def print_compression(out: Console, report: CompressionReport, source: str, metric: str = "metric") -> None:
    """Every compressed layer, what was left as it is, and the whole model before and after."""
    if report.compressed:
        out.print(_layers(report.compressed, out.width))
        out.print()
    left = [layer for layer in report.layers if layer.rank is None]
    ledger = [("left as is", (layer.reason or "").partition(": ")[0], layer.name) for layer in left]
    _print_ledger(out, ledger + [("skipped", item.reason, item.name) for item in report.skipped])
    out.print(Text(source, "bold"))
    out.print(Text(headline(report)))
    out.print(_before_and_after(report, metric))
    _print_notes(out, report.notes if report.flops is not None else (*report.notes, *_no_flops(report)))
    samples = "" if report.samples is None else f"{report.samples:,} calibration samples; "
    out.print(Text(f"{asked(report.target)}; {samples}{report.seconds:.2g} s", "dim"))


def _no_flops(report: CompressionReport) -> Iterator[str]:
    if report.flops_reason and report.samples is not None:
        yield f"no FLOPs: {report.flops_reason}"


def _layers(layers: Sequence[LayerReport], width: int) -> Table:
    rows = [_cells(layer) for layer in layers]
    columns = [
        Column(title, [row[place] for row in rows], right, spare)
        for place, (title, right, spare) in enumerate(_COLUMNS)
        if any(str(row[place]) not in ("", "—") for row in rows)
    ]
    return fitted("layer", [Text(layer.name) for layer in layers], columns, width)


_COLUMNS = (  # title, to the right, how soon it is left out
    ("shape", True, 2), ("rank", True, 0), ("of full", False, 3), ("kept", True, 1), ("weight error", True, 4),
    ("output error", True, 0), ("at least", True, 5),
)  # fmt: skip


def _cells(layer: LayerReport) -> tuple[Text | str, ...]:
    rank = layer.rank or 0
    return (
        size(layer),
        f"{rank:,}",
        Text.assemble((bar(rank / layer.rank_full), "cyan"), (f" {layer.rank_full:,}", "dim")),
        share(layer.kept),
        _share(layer.weight_error),
        _share(layer.output_error),
        Text(_share(layer.output_error_bound), "dim"),
    )


def bar(part: float) -> str:
    """A share of one as a bar of fixed width, to an eighth of a character."""
    eighths = min(max(round(part * _BAR * 8), 1), _BAR * 8)
    whole, rest = divmod(eighths, 8)
    return f"{'█' * whole}{' ▏▎▍▌▋▊▉'[rest] if rest else ''}".ljust(_BAR, "·")


def _share(value: float | None) -> str:
    return "—" if value is None else share(value)


def _before_and_after(report: CompressionReport, metric: str) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for justify in ("left", "right", "left", "right", "right", "left"):
        table.add_column(justify="right" if justify == "right" else "left", no_wrap=justify == "right")
    for row in changes(report, metric):
        style = "yellow" if row.worse else "bold"
        after = Text(row.after, style)
        table.add_row(
            Text(row.label, "dim"), row.before, Text("→", "dim"), after, Text(row.written, style), Text(row.note, "dim")
        )
    return table


def _print_notes(out: Console, notes: Sequence[str]) -> None:
    for note in notes:
        out.print(titled("note", note, "yellow"))


def _print_ledger(out: Console, left: Sequence[tuple[str, str, str]]) -> None:
    """What was not compressed: how many, why, and a few of the names."""
    if not left:
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(style="dim", ratio=1)
    for (what, reason), count in Counter((what, reason) for what, reason, _ in left).most_common():
        names = few([name for other, why, name in left if (other, why) == (what, reason)])
        table.add_row(f"{count:,} {what}", Text(f"{reason}: {names}"))
    out.print(table)
    out.print()


def print_trade_off(out: Console, found: TradeOff, source: str, metric: str = "metric") -> None:
    """A line a budget, and a curve of each thing that was measured."""
    out.print(_budgets(found, metric, out.width))
    for curve in curves_of(found, metric):
        if curve.title != LATENCY:
            out.print()
            _print_curve(out, curve)
    out.print()
    _print_ledger(out, [("skipped", item.reason, item.name) for item in found.skipped])
    out.print(Text(source, "bold"))
    out.print(Text(priced(found)))
    _print_notes(out, found.notes)
    out.print(Text(f"{found.seconds:.2g} s", "dim"))


def _print_curve(out: Console, curve: Curve) -> None:
    up: Callable[[float], str] = share if curve.relative else number
    out.print(Text.assemble(curve.title, ("  over the share of the compressible parameters kept", "dim")))
    for line in plotted(curve.xs, curve.ys, min(out.width, _WIDEST), _HEIGHT, share, up):
        out.print(line)


_SPARE = {"layers": 5, "weight error": 4, "asked": 3, "parameters": 2, LATENCY: 1}  # how soon a column is left out


def _budgets(found: TradeOff, metric: str, width: int) -> Table:
    (first, *titles), rows = budget_table(found, metric)
    kept = [row[0] for row in rows]
    wide = max(map(len, (first, *kept)))
    spare = _SPARE if "output error" in titles else _SPARE | {"weight error": 0}
    columns = [
        Column(shortened(title, width // 3), [row[place] for row in rows], spare=spare.get(title, 0))
        for place, title in enumerate(titles, 1)
    ]
    return fitted(first.rjust(wide), [Text(share.rjust(wide)) for share in kept], columns, width)

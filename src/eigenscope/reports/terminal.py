"""Readings and runs in the terminal. Progress goes to standard error, so that standard output can be piped."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from eigenscope.diagnostics.definitions import DEFINITIONS
from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.reading import CountEstimate, CurvatureReading, Density
from eigenscope.monitor import Monitor
from eigenscope.monitor.alerts import Alert
from eigenscope.reports.numbers import number, sparkline
from eigenscope.runs import load_run

STYLES = {"ok": "green", "warning": "yellow", "critical": "bold red"}
_LABEL = 32  # columns: the longest label and a gap
_ROWS = {
    "loss": "",
    "gradient_norm": "",
    "lambda_max": "",
    "lambda_min": "",
    "condition_number": "stretch of the landscape",
    "iterations_to_halve": "what κ costs descent",
    "condition_mean": "steepest over average",
    "negative_count_certified": "a proven lower bound",
    "negative_count_estimate": "below −τ",
    "escape": "",
    "trace": "",
    "stability_ratio": "1 is the edge",
    "sharpness_score": "50 is the edge",
}
_COURSES = ("loss", "lambda_max", "stability_ratio", "condition_number", "negative_count_certified")


class Advance(Protocol):
    def __call__(self, done: int, total: int) -> None: ...


def console() -> Console:
    return Console(highlight=False)


def error_console() -> Console:
    return Console(highlight=False, stderr=True)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Advance]:
    """A bar on standard error, gone when done; silent where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    out = error_console()
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=max(done, total))


def titled(title: str, text: str, style: str = "bold") -> Table:
    """A word in front of a sentence, whose further lines stand under its first."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_row(Text(title, style), Text(text))
    return grid


def print_reading(out: Console, reading: CurvatureReading) -> None:
    """The reading as a table: each number, its error, and what it means."""
    saddle = reading.verdict == "saddle"
    out.print(titled(reading.verdict.replace("_", " ").upper(), reading.verdict_reason, "bold red" if saddle else "bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True, min_width=_LABEL - 2)
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for name, note in _rows(reading).items():
        table.add_row(DEFINITIONS[name].label, *_cells(reading, name, note))
    out.print(table)
    if reading.density is not None:
        _print_density(out, reading.density)
    for text in reading.notes:
        out.print(titled("note", text, "yellow"))
    _print_bill(out, reading)


def _rows(reading: CurvatureReading) -> Mapping[str, str]:
    """The rows that say something of this reading: no optimizer, no threshold; no κ, no steps to halve."""
    absent = {"stability_ratio", "sharpness_score"} if reading.optimizer == "none" else set()
    if reading.condition_number.value is None:
        absent.add("iterations_to_halve")
    if reading.escape is None:
        absent.add("escape")
    return {name: note for name, note in _ROWS.items() if name not in absent}


def _cells(reading: CurvatureReading, name: str, note: str) -> tuple[str, str]:
    item = getattr(reading, name)
    if name == "escape":
        sign = "+" if item.sign > 0 else "−"
        return f"loss {number(-item.measured)}", f"predicted {-item.predicted:.2g}, step {item.step:.2g} along {sign}v"
    if isinstance(item, Estimate | CountEstimate) and item.value is None:
        return "—", (item.reason or "").partition(":")[0]
    notes = [note] if note else []
    if isinstance(item, Estimate):
        if item.sampling_error is not None:
            notes.append(f"± {item.sampling_error:.1g} over the batches")
    elif isinstance(item, CountEstimate):
        notes = [note if item.resolved else "not resolved"]
    if name in ("trace", "negative_count_estimate") and reading.spectrum_step != reading.step:
        notes.append(f"from step {reading.spectrum_step:,}")
    return _value(item), ", ".join(notes)


def _value(item: object) -> str:
    if isinstance(item, Estimate):
        return number(item.value, item.spread)
    if isinstance(item, CountEstimate):
        return number(item.value, item.standard_error)
    return number(item) if isinstance(item, float) else str(item)


def _print_density(out: Console, density: Density) -> None:
    """The density as bars on its asinh axis, between its ends, zero marked."""
    low, high = f"{density.grid[0]:.2g}", f"{density.grid[-1]:.2g}"
    if not density.grid[0] < density.grid[-1] or not density.values.any():
        return
    bars = sparkline([math.log10(1 + v) for v in density.values], max(out.width - _LABEL - len(low) - len(high) - 3, 8))
    zero = bisect.bisect(density.grid.tolist(), 0.0) * len(bars) // len(density.grid)
    if 0 < zero < len(bars):
        bars = bars[:zero] + "┊" + bars[zero + 1 :]
    label = f"density, {len(density.outliers)} outliers"
    out.print(Text(f"{label:{_LABEL}}", "dim") + Text(f"{low} {bars} {high}", "none"), no_wrap=True)


def _print_bill(out: Console, reading: CurvatureReading) -> None:
    method = reading.method.replace("_", " ")
    price = f"{reading.num_matvecs} products, {reading.cost_in_gradients:,.0f} gradients' time, {reading.seconds:.2g} s"
    scope = f"{reading.probe_samples:,} probe samples, {reading.num_parameters:,} parameters, {reading.kind} start"
    out.print(f"{price}; {method}", style="dim")
    out.print(f"{scope}; {reading.matrix.replace('_', '-')}", style="dim")


def print_alert(out: Console, alert: Alert) -> None:
    """One change of a rule's state, its action first."""
    style = STYLES[alert.level]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, min_width=8)
    grid.add_row(Text(f"step {alert.step:>5,}"), Text(alert.level, style), _alert_words(alert))
    out.print(grid)


def _alert_words(alert: Alert) -> Text:
    return Text(f"{alert.action}  ", STYLES[alert.level]) + Text(alert.message, "none") if alert.action else Text(alert.message)


def print_summary(out: Console, monitor: Monitor, zigzag: float | None = None) -> None:
    """The end of a run: its last reading, the course of the main numbers, every alert, and what to do."""
    if monitor.reading is not None:
        print_reading(out, monitor.reading)
    out.print()
    if monitor.run_path is not None:
        _print_courses(out, monitor)
    if zigzag is not None:
        turn = "each step undoes part of the last" if zigzag < -0.2 else "steps agree" if zigzag > 0.2 else "unrelated steps"
        label = "cosine of successive gradients"
        out.print(Text(f"{label:{_LABEL}}", "dim") + Text(f"{zigzag:.2f} on average: {turn}", "none"))
    out.print()
    for alert in monitor.history:
        print_alert(out, alert)
    worst = monitor.alerts.worst()
    if worst is None:
        out.print(Text("● no alert stands", style="green"))
    else:
        out.print(titled(f"▲ {worst.action}", worst.reason, STYLES[worst.level]))
    out.print(
        f"{monitor.run_path}: {monitor.step_count:,} steps, measuring took {monitor.measuring_share:.0%} of the time",
        style="dim",
        soft_wrap=True,
    )


def _print_courses(out: Console, monitor: Monitor) -> None:
    assert monitor.run_path is not None
    with load_run(monitor.run_path) as run:
        for name in _COURSES:
            if name in run and len(run[name]):
                values = run[name].values.tolist()
                ends = f"{number(values[0])} → {number(values[-1])}"
                bars = sparkline(values, max(min(out.width - _LABEL - len(ends) - 2, 60), 8))
                out.print(Text(f"{DEFINITIONS[name].label:{_LABEL}}", "dim") + Text(f"{bars}  {ends}", "none"), no_wrap=True)

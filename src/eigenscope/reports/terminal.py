"""Readings and runs in the terminal. Progress goes to standard error, so that standard output can be piped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from eigenscope.diagnostics.definitions import DEFINITIONS
from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.reading import CountEstimate, CurvatureReading
from eigenscope.monitor import Monitor
from eigenscope.runs import load_run

STYLES = {"ok": "green", "warning": "yellow", "critical": "bold red"}
_BARS = "▁▂▃▄▅▆▇█"


def console() -> Console:
    return Console(highlight=False)


class Advance(Protocol):
    def __call__(self, done: int, total: int) -> None: ...


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Advance]:
    """A bar on standard error, gone when done; silent where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=max(done, total))


def number(value: float | None, spread: float | None = None) -> str:
    """A value to four digits, with its error to one."""
    if value is None:
        return "—"
    text = f"{value:,.4g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.3e}"
    return text if spread is None else f"{text} ± {spread:.1g}"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The course of a series in one line of text: each cell is the mean of its stretch, infinite ones are marked."""
    if not len(values):
        return ""
    cells = min(width, len(values))
    stretches = [values[len(values) * i // cells : len(values) * (i + 1) // cells] for i in range(cells)]
    means = [sum(s) / len(s) for s in stretches]
    finite = [m for m in means if math.isfinite(m)]
    if not finite:
        return "×" * cells
    low, span = min(finite), max(finite) - min(finite)
    return "".join(
        _BARS[round((m - low) / span * 7) if span else 0] if math.isfinite(m) else "×" for m in means
    )  # fmt: skip


def density_line(reading: CurvatureReading, width: int = 48) -> Text | None:
    """The spectral density as a sparkline on its asinh axis, with outliers marked below zero and above."""
    if reading.density is None:
        return None
    values = [math.log10(1 + v) for v in reading.density.values]
    low, high = reading.density.grid[0], reading.density.grid[-1]
    return Text(f"{low:.2g} {sparkline(values, width)} {high:.2g}   {len(reading.density.outliers)} outliers")


def print_reading(out: Console, reading: CurvatureReading) -> None:
    """The reading as a table: each number, its error, and what it means."""
    out.print(_headline(reading))
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="left")
    table.add_column(style="dim")
    for name, note in _ROWS.items():
        table.add_row(DEFINITIONS[name].label, *_cell(getattr(reading, name), note))
    out.print(table)
    if (line := density_line(reading)) is not None:
        out.print(Text("density, signed asinh axis  ", style="dim") + line)
    for text in reading.notes:
        out.print(f"note: {text}", style="yellow")
    out.print(
        f"{reading.num_matvecs} products, {reading.cost_in_gradients:.0f} gradients, {reading.seconds:.2g} s; "
        f"{reading.method}; {reading.probe_samples:,} samples, {reading.num_parameters:,} parameters",
        style="dim",
    )


_ROWS = {
    "loss": "",
    "gradient_norm": "",
    "lambda_max": "",
    "lambda_min": "",
    "condition_number": "how stretched the landscape is",
    "iterations_to_halve": "what κ costs gradient descent",
    "condition_mean": "how far the steepest direction stands out",
    "negative_count_certified": "a proven lower bound",
    "negative_count_estimate": "below −τ, from the density",
    "trace": "",
    "stability_ratio": "1 is the edge of stability",
    "sharpness_score": "50 is the edge of stability",
}


def _headline(reading: CurvatureReading) -> Text:
    style = "bold red" if reading.verdict == "saddle" else "bold"
    return Text(reading.verdict.replace("_", " ").upper(), style=style) + Text(f"  {reading.verdict_reason}", "none")


def _cell(item: object, note: str) -> tuple[str, str]:
    if isinstance(item, Estimate):
        sampled = f" (over batches ± {item.sampling_error:.1g})" if item.sampling_error is not None else ""
        return number(item.value, item.spread) + sampled, note if item.value is not None else item.reason or ""
    if isinstance(item, CountEstimate):
        unsure = "" if item.resolved or item.value is None else ", not resolved by this many steps"
        return number(item.value, item.standard_error), note + unsure
    return (number(item) if isinstance(item, float) else str(item)), note


def print_summary(out: Console, monitor: Monitor, zigzag: float | None = None) -> None:
    """The end of a run: its last reading, the course of the main numbers, and every alert."""
    if monitor.reading is not None:
        print_reading(out, monitor.reading)
    if monitor.run_path is not None:
        _print_courses(out, monitor)
    if zigzag is not None:
        turn = "each step undoes part of the last: a zig-zag" if zigzag < -0.2 else "steps agree with each other"
        out.print(f"successive gradients: mean cosine {zigzag:.2f} ({turn})", style="dim")
    for alert in monitor.history:
        words = f"{alert.message}: {alert.action}" if alert.level != "ok" else alert.message
        out.print(Text(f"step {alert.step:>5,}  {alert.level:8} ", STYLES[alert.level]) + Text(words, "none"))
    worst = monitor.alerts.worst()
    if worst is None:
        out.print(Text("no alert stands", style="green"))
    else:
        out.print(Text(f"▲ {worst.action}", STYLES[worst.level]) + Text(f"  {worst.reason}", "none"))
    out.print(f"{monitor.run_path}: {monitor.step_count:,} steps, measuring took {monitor.measuring_share:.1%} of the time")


def _print_courses(out: Console, monitor: Monitor) -> None:
    assert monitor.run_path is not None
    with load_run(monitor.run_path) as run:
        for name in ("loss", "lambda_max", "stability_ratio", "condition_number", "negative_count_certified"):
            if name in run and len(run[name]):
                values = run[name].values
                line = sparkline(values.tolist())
                ends = f"{number(float(values[0]))} → {number(float(values[-1]))}"
                out.print(Text(f"{DEFINITIONS[name].label:32}", "dim") + Text(f"{line}  {ends}", "none"))

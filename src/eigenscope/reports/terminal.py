"""Readings in the terminal. Progress goes to standard error, so that standard output can be piped."""

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
from eigenscope.operators.loss_operator import RECOMPUTED
from eigenscope.reports.numbers import number, sparkline
from eigenscope.settings import Settings
from eigenscope.words import counted

LABEL = 32  # columns: the longest label and a gap
_ROWS = {
    "loss": "",
    "gradient_norm": "",
    "lambda_max": "",
    "lambda_min": "",
    "negative_share": "depth of the negative side",
    "noise_floor": "counts are relative to it",
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


class Advance(Protocol):
    """Told how many of how many products are done."""

    def __call__(self, done: int, total: int) -> None: ...


def console() -> Console:
    """Standard output, without colours that mean nothing."""
    return Console(highlight=False)


def error_console() -> Console:
    """Standard error, for progress."""
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


def labelled(label: str, text: str) -> Text:
    """A line under the table of a reading, in its columns."""
    return Text.assemble((f"{label:{LABEL}}", "dim"), text)


def print_reading(out: Console, reading: CurvatureReading) -> None:
    """The reading as a table: each number, its error, and what it means."""
    style = "bold red" if reading.verdict == "saddle" else "bold"
    out.print(titled(reading.verdict.replace("_", " ").upper(), reading.verdict_reason, style))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True, min_width=LABEL - 2)
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for name, note in _rows(reading).items():
        table.add_row(DEFINITIONS[name].label, *_cells(reading, name, note))
    out.print(table)
    _print_top(out, reading.top_eigenvalues)
    if reading.density is not None:
        _print_density(out, reading.density)
    for text in (*reading.notes, *_doubts(reading)):
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
        return f"loss {-item.measured:.2g}", f"predicted {-item.predicted:.2g}, step {item.step:.2g}"
    if isinstance(item, Estimate | CountEstimate) and item.value is None:
        return "—", (item.reason or "").partition(":")[0]
    notes = [note] if note else []
    if isinstance(item, Estimate):
        if item.sampling_error is not None:
            notes.append(f"± {item.sampling_error:.1g} over the batches")
    elif isinstance(item, CountEstimate):
        notes = [note if item.resolved else "not resolved"]
    if name in ("trace", "negative_count_estimate", "condition_mean") and reading.spectrum_step != reading.step:
        notes.append(f"from step {reading.spectrum_step:,}")
    return _value(item), ", ".join(notes)


def _value(item: object) -> str:
    if isinstance(item, Estimate):
        return number(item.value, item.spread)
    if isinstance(item, CountEstimate):
        return number(item.value, item.standard_error)
    return number(item) if isinstance(item, float) else str(item)


def _print_top(out: Console, found: tuple[Estimate, ...]) -> None:
    """The first five, as far as they fit in a line; an error stands where it is over 1 %."""
    line, room = "", out.width - LABEL
    for item in found[:5]:
        value, error = item.value or 0.0, item.error or 0.0
        text = f"{line}{',  ' * bool(line)}{number(value, error) if error > 0.01 * abs(value) else number(value)}"
        if len(text) > room:
            break
        line = text
    out.print(labelled(DEFINITIONS["top_eigenvalues"].label, line), no_wrap=True)


def _print_density(out: Console, density: Density) -> None:
    """The density as bars on its asinh axis, between its ends, zero marked."""
    low, high = f"{density.grid[0]:.2g}", f"{density.grid[-1]:.2g}"
    if not density.grid[0] < density.grid[-1] or not density.values.any():
        return
    bars = sparkline([math.log10(1 + v) for v in density.values], max(out.width - LABEL - len(low) - len(high) - 3, 8))
    zero = bisect.bisect(density.grid.tolist(), 0.0) * len(bars) // len(density.grid)
    if 0 < zero < len(bars):
        bars = bars[:zero] + "┊" + bars[zero + 1 :]
    count = len(density.outliers)
    out.print(labelled(f"density, {count} outlier{'s' * (count != 1)}", f"{low} {bars} {high}"), no_wrap=True)


def _doubts(reading: CurvatureReading) -> Iterator[str]:
    loose = [] if reading.converged else _loose(reading)
    if loose:
        rest = f", and {len(loose) - 4} more" if len(loose) > 4 else ""
        yield f"known only roughly: {', '.join(loose[:4])}{rest}; more products (max_matvecs) sharpen them"
    check = reading.self_check
    if check is not None and check.status != "passed":
        yield f"the self-check is {check.status}: finite differences of the gradient contradict each other here"


def _loose(reading: CurvatureReading) -> list[str]:
    """The eigenvalues whose stated error exceeds the tolerance of such a look by default, with that error."""
    tolerance = Settings.tolerance if reading.kind == "cold" else Settings.warm_tolerance
    named = {"λmin": reading.lambda_min, "λmax": reading.lambda_max}
    named |= {f"λ{rank}": item for rank, item in enumerate(reading.top_eigenvalues[1:], 2)}
    floor = 0.1 * tolerance * (reading.spectral_radius.value or 0.0)
    return [
        f"{name} = {number(item.value, item.error)}"
        for name, item in named.items()
        if (item.error or 0.0) > max(tolerance * abs(item.value or 0.0), floor)
    ]


def _print_bill(out: Console, reading: CurvatureReading) -> None:
    method = reading.method.replace("_", " ")
    each = 3 if reading.method == RECOMPUTED else 2  # gradients that a product is made of
    products = f"{counted(reading.num_matvecs, 'product')} of about {each} gradients each"
    gradients = counted(round(reading.cost_in_gradients), "gradient")
    price = f"{products}; in all {reading.seconds:.2g} s, the time of {gradients}"
    samples, size = counted(reading.probe_samples, "probe sample"), counted(reading.num_parameters, "parameter")
    scope = f"{samples}, {size}, {reading.kind} start; {method}"
    out.print(price, style="dim")
    out.print(f"{scope}; {reading.matrix.replace('_', '-')}", style="dim")

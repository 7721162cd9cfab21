"""The signal flow in the terminal: a line a block, with its gradient as a bar; then what may help."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.flow import BlockFlow, Distribution, FlowReading, Remedy
from eigenscope.reports.numbers import number
from eigenscope.reports.terminal import titled
from eigenscope.words import counted

_BAR, _ABOUT = 16, 28  # columns at most
_SHORTEST_BAR = 6
_STYLES = {"exploding": "bold red", "vanishing": "bold red", "healthy": "bold green"}


def print_flow(out: Console, reading: FlowReading) -> None:
    """Verdict, blocks, remedies, price."""
    out.print(titled(reading.verdict.upper(), reading.verdict_reason, _STYLES.get(reading.verdict, "bold")))
    if reading.growth is not None:
        growth = f"growth {_figure(reading.growth, 4)} a block, {_figure(reading.depth_factor, 4)}× over the depth"
        out.print(Text(growth, "dim"))
    if measured := [block for block in reading.blocks if block.reason is None]:
        out.print()
        out.print(_blocks(reading, measured, out.width))
    for reason in dict.fromkeys(block.reason for block in reading.blocks if block.reason is not None):
        names = ", ".join(block.name for block in reading.blocks if block.reason == reason)
        out.print(titled("not measured", f"{names}: {reason}", "yellow"))
    if reading.remedies:
        out.print()
        _print_remedies(out, reading)
    for note in reading.notes:
        out.print(titled("note", note, "yellow"))
    samples, products = counted(reading.probe_samples, "probe sample"), counted(reading.num_matvecs, "product")
    price = f"{reading.seconds:.2g} s, the time of {counted(round(reading.cost_in_gradients), 'gradient')}"
    out.print(Text(f"{samples}; {products} in {price}", "dim"))


def _blocks(reading: FlowReading, measured: Sequence[BlockFlow], width: int) -> Table:
    columns = {
        "σ max": [_sigma(block.sigma_max) for block in measured],
        "σ rms": [_sigma(block.sigma_rms) for block in measured],
        "σ min": [_sigma(block.sigma_min) for block in measured if block.sigma_min],
        "10 · 50 · 90 %": [_quantiles(block.spectrum) for block in measured if block.spectrum],
        "branch σ": [_sigma(b.branch.sigma_max if b.branch else None) for b in measured if reading.has_branches],
        "growth": [_figure(block.growth) for block in measured],
    }
    columns = {title: cells for title, cells in columns.items() if cells}
    norms = [block.gradient_norm[0] if block.gradient_norm else 0.0 for block in measured]
    fixed = sum(max(map(len, (title, *cells))) + 2 for title, cells in columns.items())
    room = width - fixed - max(len(_figure(norm, 2)) for norm in norms) - 2 * bool(reading.layers_at_fault) - 3
    longest, about = max(len(block.name) for block in measured), max(len(block.about) for block in measured)
    name, about, bar = _widths(room, longest, min(about, _ABOUT))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("block", no_wrap=True)
    if about:
        table.add_column("", style="dim", no_wrap=True, overflow="ellipsis", max_width=about)
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("‖∂L/∂x‖ at its input" if bar == _BAR else "‖∂L/∂x‖", no_wrap=True)
    for index, block in enumerate(measured):
        cells = [cells[index] for cells in columns.values()]
        table.add_row(_name(block, reading, name), *[block.about] * bool(about), *cells, _bar(norms[index], norms, bar))
    return table


def _widths(room: int, name: int, about: int) -> tuple[int, int, int]:
    """Columns for the name, what it is, and the bar: the bar gets shorter, then there is no room for what it is, then
    names lose their start."""
    for part in (about, 0):
        bar = room - name - (part + 2 if part else 0)
        if bar >= _SHORTEST_BAR:
            return name, part, min(bar, _BAR)
    return max(room - _SHORTEST_BAR, 8), 0, _SHORTEST_BAR


def _name(block: BlockFlow, reading: FlowReading, width: int) -> Text:
    name = block.name if len(block.name) <= width else f"…{block.name[1 - width :]}"
    if not reading.layers_at_fault:
        return Text(name)
    fault = block.name in reading.layers_at_fault
    return Text(f"{'▲' if fault else ' '} {name}", "bold red" if fault else "")


def _sigma(estimate: Estimate | None) -> str:
    return _figure(estimate.value if estimate else None)


def _quantiles(spectrum: Distribution) -> str:
    """The σ below which so many of the singular values lie."""
    order = np.argsort(spectrum.sigma)
    sigma, reached = np.array(spectrum.sigma)[order], np.cumsum(np.array(spectrum.share)[order])
    places = np.minimum(np.searchsorted(reached, [0.1, 0.5, 0.9]), len(sigma) - 1)
    return " · ".join(_figure(float(value), 2) for value in sigma[places])


def _figure(value: float | None, digits: int = 3) -> str:
    """To so many digits."""
    return number(None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}"))


def _bar(norm: float, norms: Sequence[float], width: int) -> Text:
    """The gradient's norm on a log axis, over all blocks."""
    known = [math.log(other) for other in norms if other > 0]
    if not norm or not known:
        return Text("0", "red")
    low, high = min(known), max(known)
    share = (math.log(norm) - low) / (high - low) if high > low + 0.01 else 1.0
    filled = 1 + round(share * (width - 1))
    return Text.assemble(("━" * filled, "cyan"), (" " * (width - filled)), f" {_figure(norm, 2)}")


def _print_remedies(out: Console, reading: FlowReading) -> None:
    """In order of evidence; once tried, what each did, the best first."""
    if any(remedy.tried for remedy in reading.remedies):
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        for title in ("tried on a copy", "", "over the depth", "largest σ", "gradient"):
            table.add_column(title, no_wrap=title != "gradient")
        for remedy in reading.remedies:
            table.add_row(Text(remedy.name, "bold"), *_outcome(reading, remedy))
        out.print(table)
        out.print()
    words = Table.grid(padding=(0, 2, 0, 0))
    words.add_column(no_wrap=True)
    for remedy in reading.remedies:
        words.add_row(Text(remedy.name, "bold"), Text.assemble(remedy.what, (f"\n{remedy.why}", "dim")))
    out.print(words)


def _outcome(reading: FlowReading, remedy: Remedy) -> tuple[Text | str, ...]:
    done, worst = remedy.tried, reading.worst
    if done is None or done.reason is not None:
        return "can't be tried", "", "", (done.reason or "") if done else ""
    verdict = Text(done.verdict, "green" if done.verdict == "healthy" else "red")
    factor = f"{_figure(reading.depth_factor, 2)}× → {_figure(done.depth_factor, 2)}×"
    sigma = f"{_figure(worst.sigma_max.value if worst else None, 2)} → {_figure(done.sigma_max, 2)}"
    return verdict, factor, sigma, f"{_figure(reading.gradient_norm, 2)} → {_figure(done.gradient_norm, 2)}"

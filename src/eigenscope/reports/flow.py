"""The signal flow in the terminal: a line a block, with its gradient as a bar; then what may help."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.flow import BlockFlow, FlowReading, Remedy
from eigenscope.diagnostics.words import counted
from eigenscope.reports.numbers import number
from eigenscope.reports.terminal import titled

_BAR = 16  # columns
_STYLES = {"exploding": "bold red", "vanishing": "bold red", "healthy": "bold green"}


def print_flow(out: Console, reading: FlowReading) -> None:
    """Verdict, blocks, remedies, price."""
    out.print(titled(reading.verdict.upper(), reading.verdict_reason, _STYLES.get(reading.verdict, "bold")))
    if reading.growth is not None:
        growth = f"growth {number(reading.growth)} a block, {number(reading.depth_factor)}× over the depth"
        out.print(Text(growth, "dim"))
    out.print()
    out.print(_blocks(reading))
    for block in reading.blocks:
        if block.reason is not None:
            out.print(titled(block.name, f"not measured: {block.reason}", "yellow"))
    if reading.remedies:
        out.print()
        out.print(_remedies(reading))
    for note in reading.notes:
        out.print(titled("note", note, "yellow"))
    samples, products = counted(reading.probe_samples, "probe sample"), counted(reading.num_matvecs, "product")
    price = f"{reading.seconds:.2g} s, the time of {reading.cost_in_gradients:,.0f} gradients"
    out.print(Text(f"{samples}; {products} with block Jacobians in {price}", "dim"))


def _blocks(reading: FlowReading) -> Table:
    measured = [block for block in reading.blocks if block.reason is None]
    branches, minima = any(block.branch for block in measured), any(block.sigma_min for block in measured)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("block", no_wrap=True, overflow="ellipsis")
    table.add_column("", style="dim", no_wrap=True, overflow="ellipsis", max_width=28)
    for title in ("σ max", "σ rms", *["σ min"] * minima, *["branch σ"] * branches, "growth"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("‖∂L/∂x‖ at its input", no_wrap=True)
    norms = [block.gradient_norm[0] for block in measured if block.gradient_norm]
    for block in measured:
        fault = block.name in reading.layers_at_fault
        cells = [_sigma(block.sigma_max), _sigma(block.sigma_rms)]
        cells += [_sigma(block.sigma_min)] * minima
        cells += [_sigma(block.branch.sigma_max if block.branch else None)] * branches
        cells += [number(_rounded(block.growth))]
        name = Text(f"{'▲ ' if fault else ''}{block.name}", "bold red" if fault else "")
        table.add_row(name, block.about, *cells, _bar(block, norms))
    return table


def _sigma(estimate: Estimate | None) -> str:
    return "—" if estimate is None or estimate.value is None else number(_rounded(estimate.value))


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _bar(block: BlockFlow, norms: Sequence[float]) -> Text:
    """The gradient's norm on a log axis, over all blocks."""
    norm = block.gradient_norm[0] if block.gradient_norm else 0.0
    known = [math.log(other) for other in norms if other > 0]
    if not norm or not known:
        return Text("0", "red")
    low, high = min(known), max(known)
    share = (math.log(norm) - low) / (high - low) if high > low else 1.0
    filled = 1 + round(share * (_BAR - 1))
    return Text.assemble(("━" * filled, "cyan"), (" " * (_BAR - filled)), f" {norm:.2g}")


def _remedies(reading: FlowReading) -> Table:
    """In order of evidence; once tried, with what each did."""
    tried = any(remedy.tried for remedy in reading.remedies)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("remedy", style="bold", no_wrap=True)
    if tried:
        table.add_column("over the depth", no_wrap=True)
        table.add_column("largest σ", no_wrap=True)
        table.add_column("gradient", no_wrap=True)
    table.add_column("what and why" if not tried else "")
    for remedy in reading.remedies:
        words = Text.assemble(remedy.what, (f"\n{remedy.why}", "dim"))
        table.add_row(remedy.name, *(_outcome(reading, remedy) if tried else ()), words)
    return table


def _outcome(reading: FlowReading, remedy: Remedy) -> tuple[Text | str, str, str]:
    done, worst = remedy.tried, reading.worst
    if done is None or done.reason is not None:
        return "not tried", "", done.reason if done is not None and done.reason else ""
    style = "green" if done.verdict == "healthy" else "red"
    factor = Text(f"{_short(reading.depth_factor)}× → {_short(done.depth_factor)}×  {done.verdict}", style)
    before = worst.sigma_max.value if worst else None
    gradient = f"{_short(reading.gradient_norm)} → {_short(done.gradient_norm)}"
    return factor, f"{_short(before)} → {_short(done.sigma_max)}", gradient


def _short(value: float | None) -> str:
    return "—" if value is None else f"{value:.2g}"

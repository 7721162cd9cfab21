"""Lipschitz bounds in the terminal: the bounds, the layers behind them, and what they promise each sample."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eigenscope.bounds.reading import LipschitzReading
from eigenscope.reports.numbers import number
from eigenscope.reports.terminal import titled
from eigenscope.words import counted

_SHOWN = 12  # samples; --json has them all


def print_lipschitz(out: Console, reading: LipschitzReading) -> None:
    """Bounds, layers, samples, risk, price."""
    lower, upper, product = reading.lipschitz_lower, reading.lipschitz_upper, reading.lipschitz_product
    certified = f"{_short(upper.value)} certified" if upper.value is not None else "nothing certified"
    out.print(Text(f"{_short(lower.value)} proven … {certified}", "bold"))
    if upper.value is None:
        out.print(titled("no bound", reading.no_global_bound or upper.reason or "", "yellow"))
    else:
        loose = f"naive product of the layers {_short(product.value)} (loose); upper ÷ lower {_short(reading.ratio)}"
        out.print(Text(f"by {reading.method.replace('_', ' ')}, {reading.ball}; {loose}", "dim"))
    if reading.local is not None:
        out.print(Text(f"steepest on the probe itself: {_short(reading.local)}", "dim"))
    if reading.layers:
        out.print()
        out.print(_layers(reading))
    if reading.samples:
        out.print()
        out.print(_samples(reading))
        if len(reading.samples) > _SHOWN:
            out.print(Text(f"and {len(reading.samples) - _SHOWN} more (--json has them all)", "dim"))
    out.print()
    out.print(titled("risk", reading.risk))
    for note in reading.notes:
        out.print(titled("note", note, "yellow"))
    products, samples = counted(reading.num_matvecs, "product"), counted(reading.probe_samples, "sample")
    out.print(Text(f"{samples}; {products} with the network's Jacobian; {reading.seconds:.2g} s", "dim"))


def _layers(reading: LipschitzReading) -> Table:
    table = _table("layer", ("norm", "right"), "how it is known")
    for layer in reading.layers:
        size = "×".join(map(str, layer.input_shape))
        how = f"{'=' if layer.exact else '≤'} {layer.method}"
        name = Text.assemble(layer.name, (f"  {layer.kind} on {size}", "dim"))
        table.add_row(name, _short(layer.norm), Text(how, "dim"))
    return table


def _samples(reading: LipschitzReading) -> Table:
    table = _table(
        "sample", ("label", "right"), ("answer", "right"), ("margin", "right"), ("certified radius", "right"),
        ("attacked radius", "right"),
    )  # fmt: skip
    for sample in reading.samples[:_SHOWN]:
        wrong = sample.label is not None and sample.label != sample.predicted
        answer = Text(str(sample.predicted), "red" if wrong else "")
        radii = (_short(sample.certified_radius), _short(sample.attacked_radius))
        label = "" if sample.label is None else str(sample.label)
        table.add_row(str(sample.index), label, answer, _short(sample.margin), *radii)
    return table


def _table(*columns: str | tuple[str, str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in columns:
        title, justify = (column, "left") if isinstance(column, str) else column
        table.add_column(title, justify="right" if justify == "right" else "left")
    return table


def _short(value: float | None) -> str:
    return "—" if value is None else number(float(f"{value:.3g}"))

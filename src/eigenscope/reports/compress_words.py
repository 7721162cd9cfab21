"""A compression in words and short numbers, the same in the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from eigenscope.compression.report import CompressionReport, Latency, LayerReport, TradeOff, TradeOffPoint
from eigenscope.reports.numbers import number
from eigenscope.words import counted

LATENCY = "latency, ms"
METHODS = {"activation": "activation-aware", "plain": "plain truncated SVD"}


@dataclass(frozen=True)
class Change:
    """A number of the whole model before and after."""

    label: str
    before: str
    after: str
    change: float | None = None  # after ÷ before − 1; null where that says nothing
    note: str = ""
    worse: bool = False  # it was meant to fall, and rose

    @property
    def written(self) -> str:
        """ "−19.4 %", or nothing."""
        return "" if self.change is None else signed(self.change)


def headline(report: CompressionReport) -> str:
    """What is left, of how many layers, by which method."""
    layers = f"{len(report.compressed):,} of {counted(len(report.layers), 'layer')} became two thin ones"
    how = METHODS[report.method] + (", refitted" if report.refit else "")
    kept = f"{share(report.kept_of_model)} of the parameters are left ({share(report.kept)} of the compressible ones)"
    return f"{kept}; {layers}; {how}"


def changes(report: CompressionReport, metric: str = "metric") -> Iterator[Change]:
    """Before and after, as far as it was measured; `metric` is what the user's own number is called."""
    yield _change("parameters", report.parameters, report.parameters_after, short)
    yield _change("memory", report.memory_bytes, report.memory_bytes_after, sized)
    if report.flops is not None and report.flops_after is not None:
        yield _change("FLOPs", report.flops, report.flops_after, short, "of one calibration batch")
    if report.latency is not None and report.latency_after is not None:
        yield _latency(report.latency, report.latency_after)
    if report.metric is not None and report.metric_after is not None:
        yield Change(metric, number(report.metric), number(report.metric_after))
    if report.output_error is not None:
        yield Change("output error", "0 %", share(report.output_error), note="of the spread of the model's output")


def _latency(before: Latency, after: Latency) -> Change:
    """A change only where the quartiles of the two leave no doubt of one."""
    apart = after.high < before.low or after.low > before.high
    spread = f"quartiles {_ms(before.low)}–{_ms(before.high)} and {_ms(after.low)}–{_ms(after.high)} ms"
    change = after.median / before.median - 1 if apart else None
    note = f"{'' if apart else 'no difference that could be told; '}{spread}"
    return Change(
        "latency", f"{_ms(before.median)} ms", f"{_ms(after.median)} ms", change, note, after.low > before.high
    )


def _change(label: str, before: float, after: float, written: Callable[[float], str], note: str = "") -> Change:
    change = after / before - 1 if before else None
    return Change(label, written(before), written(after), change, note, worse=after > before)


def asked(target: dict[str, float]) -> str:
    """The target as it is written on the command line."""
    return ", ".join(f"--{name} {value:g}" for name, value in target.items())


def priced(found: TradeOff) -> str:
    """What a dry run looked at."""
    part = f"{short(found.compressible)} of {short(found.parameters)} parameters are in layers that low rank can take"
    return f"{part}; {METHODS[found.method]}; nothing was written"


@dataclass(frozen=True)
class Curve:
    """What was measured over the share kept, ascending, up to the model as it is."""

    title: str
    note: str
    relative: bool  # a share, else a number
    xs: tuple[float, ...]
    ys: tuple[float, ...]


def curves_of(found: TradeOff, metric: str) -> Iterator[Curve]:
    """Error, metric and latency, each where there are two points at least."""
    points = sorted(found.points, key=lambda point: point.kept)
    calibrated = any(point.output_error is not None for point in points)
    if calibrated:
        errors, title, note = (
            [point.output_error for point in points],
            "output error",
            "of the model on the calibration batches",
        )
    else:
        errors, title, note = [point.weight_error for point in points], "weight error", "of all compressible weights"
    measured = "measured on the compressed model"
    for curve in (
        _curve(title, note, True, points, [*errors, 0.0]),
        _curve(metric, measured, False, points, [*(point.metric for point in points), found.metric]),
        _curve(LATENCY, "median", False, points, [*(point.latency_ms for point in points), found.latency_ms]),
    ):
        if len(curve.xs) > 1:
            yield curve


def _curve(
    title: str, note: str, relative: bool, points: Sequence[TradeOffPoint], values: Sequence[float | None]
) -> Curve:
    shares = [*(point.kept for point in points), 1.0]
    known = [(kept, value) for kept, value in zip(shares, values, strict=True) if value is not None]
    return Curve(title, note, relative, tuple(x for x, _ in known), tuple(y for _, y in known))


def budget_table(found: TradeOff, metric: str) -> tuple[list[str], list[list[str]]]:
    """A row a budget, the model as it is first; columns without a number are left out."""
    titles = ("kept", "asked", "parameters", "layers", "weight error", "output error", metric, LATENCY)
    whole = ("100 %", "—", short(found.parameters), "0", "0 %", "0 %", number(found.metric), _ms(found.latency_ms))
    rows = [whole, *(_budget(point) for point in sorted(found.points, key=lambda point: -point.kept))]
    shown = [place for place in range(len(titles)) if any(row[place] != "—" for row in rows[1:])]
    return [titles[place] for place in shown], [[row[place] for place in shown] for row in rows]


def _budget(point: TradeOffPoint) -> tuple[str, ...]:
    error = "—" if point.output_error is None else share(point.output_error)
    return (
        share(point.kept), f"{100 * point.keep:g} %", short(point.parameters_after), str(point.compressed_layers),
        share(point.weight_error), error, number(point.metric), _ms(point.latency_ms),
    )  # fmt: skip


def break_even(layer: LayerReport) -> int:
    """The rank from which on two thin layers of m·r + r·n parameters are no smaller than one of m·n."""
    rows, columns = layer.shape[0], math.prod(layer.shape[1:])
    return math.ceil(rows * columns / (rows + columns))


def size(layer: LayerReport) -> str:
    """ "768×2304"."""
    return "×".join(map(str, layer.shape))


def share(value: float) -> str:
    """A share to a tenth of a percent, or two digits below that: "80.6 %", "0.012 %"."""
    if not math.isfinite(value):
        return "∞"
    percent = 100 * value
    if percent in (0, 100):
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.1 else f"{percent:.2g} %"


def signed(change: float) -> str:
    """A relative change: "−19.4 %"."""
    return f"{'−' if change < 0 else '+'}{100 * abs(change):.1f} %"


def short(count: float) -> str:
    """A count to three digits: "22.7 M"; exact below a hundred thousand."""
    if abs(count) < 1e5:
        return f"{count:,.0f}"
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if abs(count) >= scale:
            return f"{float(f'{count / scale:.3g}'):g} {unit}"
    return f"{float(f'{count / 1e3:.3g}'):g} k"


def sized(count: float) -> str:
    """Bytes to three digits: "90.9 MB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{float(f'{count / scale:.3g}'):g} {unit}"
    return f"{count:,.0f} B"


def _ms(value: float | None) -> str:
    return "—" if value is None else f"{float(f'{value:.3g}'):g}"

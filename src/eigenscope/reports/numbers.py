"""Numbers as people read them: as many digits as the error allows, and a course in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def number(value: float | None, spread: float | None = None) -> str:
    """A value to four digits, or to its error's first digit where that is coarser; "—" where there is none."""
    if value is None:
        return "—"
    if spread is None or not math.isfinite(spread) or spread <= 0:
        text = _rounded(value, 4, trailing=False)
        return text if spread is None else f"{text} ± {spread:g}"
    coarse = value == 0 or not math.isfinite(value)
    digits = 1 if coarse else math.floor(math.log10(abs(value))) - math.floor(math.log10(spread)) + 1
    return f"{_rounded(value, min(max(digits, 1), 4))} ± {_rounded(spread, 1)}"


def _rounded(value: float, digits: int, *, trailing: bool = True) -> str:
    """To so many significant digits, with commas; with an exponent below 0.0001 and from a million on."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude < 6:
        text = f"{value:.{digits - 1}e}"
        mantissa, _, exponent = text.partition("e")
        return text if trailing or "." not in mantissa else f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"
    decimals = digits - 1 - magnitude
    text = f"{round(value, decimals):,.{max(decimals, 0)}f}"
    return text if trailing or "." not in text else text.rstrip("0").rstrip(".")


def sparkline(values: Sequence[float], width: int) -> str:
    """The course of a series: each cell is the mean of its stretch, infinite ones are marked ×.

    Positive values that span more than a factor of ten are drawn on a log axis; a range under half a percent is flat.
    """
    cells = min(width, len(values))
    stretches = [values[len(values) * i // cells : len(values) * (i + 1) // cells] for i in range(cells)]
    means = [sum(stretch) / len(stretch) for stretch in stretches]
    finite = [mean for mean in means if math.isfinite(mean)]
    if finite and min(finite) > 0 and max(finite) > 10 * min(finite):
        means = [math.log(mean) if mean < math.inf else mean for mean in means]
        finite = [math.log(mean) for mean in finite]
    return "".join(_bar(mean, finite) for mean in means)


def _bar(value: float, finite: Sequence[float]) -> str:
    if not math.isfinite(value):
        return "×"
    low, high = min(finite), max(finite)
    flat = high - low <= 0.005 * max(abs(low), abs(high))
    return _BARS[0 if flat else round((value - low) / (high - low) * 7)]

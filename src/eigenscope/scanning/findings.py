"""Rules that fail someone's CI: a number, a comparison, a limit."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

from eigenscope.diagnostics.words import did_you_mean
from eigenscope.errors import InputError
from eigenscope.scanning.result import MatrixRow, Scan

_RULE = re.compile(r"^\s*([a-z_0-9]+)\s*(>=|<=|==|!=|>|<)\s*(\S+)\s*$")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_NUMBERS = (
    "effective_rank", "entropy_rank", "stable_rank", "condition_number", "spectral_norm", "frobenius_norm",
    "variance_at_10", "rank_at_90", "rank_at_95", "rank_at_99", "rank", "alpha", "noise_edge", "spikes",
)  # fmt: skip


def check_rule(rule: str) -> None:
    """Complain, in one line, of a rule that can't be judged."""
    _parsed(rule)


def failing(scan: Scan, rule: str) -> Iterator[str]:
    """A line for each row that meets the rule, such as ``condition_number>1e6`` or ``spectrum_shape==noise``.

    A singular matrix counts as of infinite condition number; a row without finite entries meets every rule.
    """
    name, compare, limit = _parsed(rule)
    for row in scan.matrices:
        value = _value(row, name)
        if row.reading is None:
            yield f"{row.title}: {row.problem}"
        elif value is not None and compare(value, limit):
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            yield f"{row.title}: {name} = {shown}, meets {rule.strip()!r}"


def _parsed(rule: str) -> tuple[str, Callable[[Any, Any], bool], object]:
    found = _RULE.match(rule)
    if found is None:
        raise InputError(
            f"{rule!r} is no rule: a number, a comparison and a limit are needed, as 'condition_number>1e6'"
        )
    name, sign, text = found.groups()
    if name == "spectrum_shape":
        if sign not in ("==", "!="):
            raise InputError(f"{rule!r}: spectrum_shape is a word, compare it by == or !=")
        return name, _COMPARE[sign], text
    if name not in _NUMBERS:
        raise InputError(f"{rule!r}: there is no number {name!r}{did_you_mean(name, (*_NUMBERS, 'spectrum_shape'))}")
    try:
        return name, _COMPARE[sign], float(text)
    except ValueError:
        raise InputError(f"{rule!r}: {text!r} is no number") from None


def _value(row: MatrixRow, name: str) -> float | str | None:
    reading = row.reading
    if reading is None:
        return None
    if name == "spectrum_shape":
        return reading.spectrum_shape
    if name == "condition_number":
        return float("inf") if reading.condition_number.value is None else reading.condition_number.value
    if name == "spectral_norm":
        return reading.spectral_norm.value
    if name == "alpha":
        return reading.alpha.alpha if reading.alpha else None
    if name in ("noise_edge", "spikes"):
        return float(reading.noise.edge if name == "noise_edge" else reading.noise.spikes)
    return float(getattr(reading, name))

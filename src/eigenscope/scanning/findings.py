"""Rules that fail someone's CI: a number, a comparison, a limit."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eigenscope.errors import InputError
from eigenscope.scanning.comparison import OWN, Change, Comparison
from eigenscope.scanning.result import MatrixRow, Scan
from eigenscope.weights.reading import WeightReading
from eigenscope.weights.shapes import SHAPES
from eigenscope.words import did_you_mean

_RULE = re.compile(r"^\s*([a-z_0-9]+)\s*(>=|<=|==|!=|>|<|=)\s*(\S+)\s*$")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_WORD = "spectrum_shape"
_OF_MATRICES = (
    "effective_rank", "entropy_rank", "stable_rank", "condition_number", "spectral_norm", "frobenius_norm",
    "variance_at_10", "rank_at_90", "rank_at_95", "rank_at_99", "rank", "alpha", "noise_edge", "spikes", _WORD,
)  # fmt: skip
OF_SCANS = (*_OF_MATRICES, "operator_norm")
OF_CHANGES = (*OWN, *_OF_MATRICES)  # those after its own are ΔW's


@dataclass(frozen=True)
class Rule:
    """Such as ``condition_number>1e6`` or ``spectrum_shape==noise``."""

    text: str
    name: str
    compare: Callable[[Any, Any], bool]
    limit: float | str

    def meets(self, value: float | str | None) -> bool:
        """A number that there is none of meets no rule."""
        return value is not None and self.compare(value, self.limit)


def parsed(rule: str, known: Sequence[str] = OF_SCANS) -> Rule:
    """Read a rule over the numbers in `known`; complain, in one line, of one that can't be judged."""
    found = _RULE.match(rule)
    if found is None:
        raise InputError(
            f"{rule!r} is no rule: a number, a comparison and a limit are needed, as 'condition_number>1e6'"
        )
    name, sign, text = found.groups()
    if name not in known:
        raise InputError(f"{rule!r}: there is no number {name!r}{did_you_mean(name, known)}")
    if sign == "=":
        raise InputError(f"{rule!r}: use == to ask for a value, or >= and <=")
    return Rule(rule.strip(), name, _COMPARE[sign], _word(rule, sign, text) if name == _WORD else _limit(rule, text))


def _word(rule: str, sign: str, text: str) -> str:
    if sign not in ("==", "!="):
        raise InputError(f"{rule!r}: spectrum_shape is a word, compare it by == or !=")
    if text not in SHAPES:
        raise InputError(f"{rule!r}: there is no spectrum_shape {text!r}{did_you_mean(text, SHAPES)}")
    return text


def _limit(rule: str, text: str) -> float:
    try:
        limit = float(text)
    except ValueError:
        raise InputError(f"{rule!r}: {text!r} is no number") from None
    if not math.isfinite(limit):
        raise InputError(f"{rule!r}: the limit must be finite (a singular matrix meets 'condition_number>1e300')")
    return limit


def failing(found: Scan | Comparison, rule: str) -> Iterator[str]:
    """A line for each row that meets the rule.

    A matrix that is singular, or can't be told from one, counts as of infinite condition number; a row without finite
    entries meets every rule, and a number that there is none of meets none. Raises `InputError` where there is no row:
    a check of nothing is no success.
    """
    if isinstance(found, Scan):
        wanted = parsed(rule, OF_SCANS)
        if not found.matrices:
            raise InputError(f"nothing to check {wanted.text!r} on: {found.source} has no matrix that was analysed")
        for row in found.matrices:
            if row.reading is None:
                yield f"{row.title}: {row.problem}"
            else:
                yield from _told(wanted, row.title, row.reading, _of_row(row, row.reading, wanted.name))
        return
    wanted = parsed(rule, OF_CHANGES)
    if not found.changes and not found.unchanged:
        raise InputError(f"nothing to check {wanted.text!r} on: no matrix was compared")
    for change in found.changes:
        yield from _told(wanted, change.title, change.difference, _of_change(change, wanted.name))


def _told(rule: Rule, title: str, reading: WeightReading, value: float | str | None) -> Iterator[str]:
    """A line where it is met: the value, and with it what an exponent means nothing without."""
    if rule.meets(value):
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        shown = reading.alpha.told if rule.name == "alpha" and reading.alpha else shown
        yield f"{title}: {rule.name} = {shown}, meets {rule.text!r}"


def _of_row(row: MatrixRow, reading: WeightReading, name: str) -> float | str | None:
    return row.operator_norm if name == "operator_norm" else _of_matrix(reading, name)


def _of_change(change: Change, name: str) -> float | str | None:
    if name not in OWN:
        return _of_matrix(change.difference, name)
    value = getattr(change, name)
    return None if value is None else float(value)


def _of_matrix(reading: WeightReading, name: str) -> float | str | None:
    if name == _WORD:
        return reading.spectrum_shape
    if name == "condition_number":
        known = reading.condition_number
        return known.value if known.value is not None and not known.reason else math.inf
    if name == "spectral_norm":
        return reading.spectral_norm.value
    if name == "alpha":
        return reading.alpha.alpha if reading.alpha else None
    if name in ("noise_edge", "spikes"):
        return float(reading.noise.edge if name == "noise_edge" else reading.noise.spikes)
    return float(getattr(reading, name))

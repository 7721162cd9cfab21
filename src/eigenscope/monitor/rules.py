"""Readings become alerts: thresholds from the literature, each of which a TOML file can override.

The default thresholds and where they come from are listed in docs/alerts.md; `DEFAULTS` is the same table.
"""

from __future__ import annotations

import os
import tomllib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from eigenscope.errors import InputError
from eigenscope.words import did_you_mean

LEVELS = ("ok", "warning", "critical")
_CRITICAL_LEFT = 0.8  # of its threshold
_MOST_CHECKS = 100


@dataclass(frozen=True)
class Limits:
    """When a rule speaks. So that it does not flap, it is over only below `hysteresis` times the warning's threshold.

    Critical ends below 0.8 of its own threshold, or `hysteresis` of it where that is more. A level is reached once
    `checks` readings in a row call for it.
    """

    warning: float
    critical: float
    hysteresis: float = 0.8
    checks: int = 1
    enabled: bool = True

    def level(self, value: float, before: str) -> str:
        """The level of `value`, given the level that stood before; NaN is over every threshold."""
        for name, threshold in (("critical", self.critical), ("warning", self.warning)):
            held = LEVELS.index(before) >= LEVELS.index(name)
            left = self.hysteresis if name == "warning" else max(self.hysteresis, _CRITICAL_LEFT)
            if not value < (threshold * left if held else threshold):
                return name
        return "ok"

    def threshold(self, level: str) -> float:
        """Where a level begins."""
        return self.critical if level == "critical" else self.warning


class Calls:
    """The levels that the last readings called for: one that is higher than what stands has to be called for again."""

    def __init__(self, limits: Limits) -> None:
        self._last: deque[int] = deque([0] * limits.checks, limits.checks)

    def confirmed(self, level: str, before: str) -> str:
        """The level that a reading leads to that calls for `level`, where `before` stands."""
        self._last.append(LEVELS.index(level))
        return LEVELS[max(min(self._last), min(self._last[-1], LEVELS.index(before)))]


DEFAULTS: dict[str, Limits] = {
    "edge_of_stability": Limits(1.0, 1.5),
    "adaptive_edge": Limits(0.5, 1.5, hysteresis=0.5, checks=2),
    "ill_conditioned": Limits(1e3, 1e4),
    "stretched": Limits(1e4, 1e6),
    "saddle": Limits(1, 1),
    "signal_flow": Limits(100, 1e4),
    "loss_rise": Limits(4, 20),
    "diverged": Limits(1, 1),
}
_AT_ONCE = {"signal_flow", "loss_rise", "diverged"}  # rules that no check of the curvature judges


def load_rules(source: str | os.PathLike[str] | Mapping[str, Mapping[str, object]] | None = None) -> dict[str, Limits]:
    """The default rules, overridden by a TOML file (or a dictionary): one table a rule.

    ::

        [edge_of_stability]
        warning = 0.9
        critical = 1.2

    Raises `InputError` in one line that names the file, the key and what is allowed.
    """
    if source is None:
        return dict(DEFAULTS)
    if isinstance(source, Mapping):
        return _override("rules", source)
    path = Path(source)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the rules file {str(path)!r} can't be read: {getattr(error, 'strerror', error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the rules file {str(path)!r} is not TOML: {error}") from None
    return _override(str(path), table)


def _override(name: str, table: Mapping[str, object]) -> dict[str, Limits]:
    rules = dict(DEFAULTS)
    for rule, values in table.items():
        if rule not in DEFAULTS:
            raise InputError(f"{name}: there is no rule {rule!r}{did_you_mean(rule, DEFAULTS)}")
        if not isinstance(values, Mapping):
            raise InputError(f"{name}: {rule} must be a table, [{rule}], with warning = and critical =")
        rules[rule] = _limits(f"{name}: [{rule}]", DEFAULTS[rule], values, settings(rule))
    return rules


def settings(rule: str) -> list[str]:
    """What a rule's table may hold."""
    return [field.name for field in fields(Limits) if field.name != "checks" or rule not in _AT_ONCE]


def _limits(where: str, limits: Limits, values: Mapping[str, object], allowed: Sequence[str]) -> Limits:
    for key, value in values.items():
        if key not in allowed:
            raise InputError(f"{where} has no setting {key!r}{did_you_mean(key, allowed)}")
        kind = "true or false" if key == "enabled" else "a number"
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if not (isinstance(value, bool) if key == "enabled" else numeric):
            raise InputError(f"{where} {key} = {value!r} must be {kind}")
    changed = replace(limits, **values)  # type: ignore[arg-type]
    if not 0 < changed.warning <= changed.critical:
        got = (
            f"{key} = {getattr(changed, key):g}{'' if key in values else ' (the default: set it as well)'}"
            for key in ("warning", "critical")
        )
        raise InputError(f"{where} needs 0 < warning ≤ critical, got {' and '.join(got)}")
    if not 0 < changed.hysteresis <= 1:
        raise InputError(f"{where} hysteresis = {changed.hysteresis:g} must be over 0 and at most 1")
    if not 1 <= changed.checks <= _MOST_CHECKS or changed.checks % 1:
        raise InputError(f"{where} checks = {changed.checks:g} must be a whole number, 1 to {_MOST_CHECKS}")
    return replace(changed, checks=int(changed.checks))

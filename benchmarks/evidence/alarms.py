"""The stability rule judged from readings of runs: spikes warned of, lead and false alarms, by rule and threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from eigenscope.monitor.rules import DEFAULTS, LEVELS, Calls, Limits
from evidence import intervals

LATELY = 100  # steps before a spike in which an alert that ended again still was a warning, by the milder count
CALM = 200  # steps at the tuned step size before a run is driven to a spike
DRIVES: dict[str, Callable[[int], float]] = {  # times the tuned step size, so many steps after the calm
    "doubled every 50": lambda step: 2.0 ** (step / 50),
    "doubled every 200": lambda step: 2.0 ** (step / 200),
    "16 times at once": lambda step: 16.0,
}
SCHEDULES: dict[str, Callable[[int, int], float]] = {  # healthy: times the tuned step size, at a step of so many
    "warm-up of 50 steps, cosine": lambda step, steps: min(1.0, (step + 1) / 50) * _cosine(step / steps),
    "warm-up of a tenth, cosine": lambda step, steps: min(1.0, 10 * (step + 1) / steps) * _cosine(step / steps),
}
LEVELS_TRIED = (0.05, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0, 1.5)
RULE = "adaptive_edge"
MULTIPLES_TRIED = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_FEWEST = 5  # readings before a median is one


def _cosine(share: float) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * share)


@dataclass
class Course:
    """What became of a run: readings at their steps, and the first step of its spike."""

    task: str
    drive: str | None  # of DRIVES, or of SCHEDULES, which are healthy
    readings: list[tuple[int, float]] = field(default_factory=list)
    spike: int | None = None
    steps: int = 0
    alerts: list[int] = field(default_factory=list)  # the steps at which the monitor itself raised its alert
    share: float = 0.0
    planned: int = 0  # steps, from which a schedule follows

    @property
    def healthy(self) -> int:
        """Steps in which nothing was the matter."""
        return min(self.steps, CALM) if self.drive in DRIVES else self.steps if self.spike is None else 0

    def rate(self, step: int) -> float:
        """The step size, in units of the tuned one."""
        if self.drive in DRIVES:
            return DRIVES[self.drive](step - CALM) if step >= CALM else 1.0
        return SCHEDULES[self.drive](step, self.planned) if self.drive else 1.0


def heard(course: Course, rule: str) -> Iterator[tuple[int, float, bool]]:
    """What a rule judges, by step: the ratio, the ratio over its usual one, or the ratio as it follows from the rate.

    The last is known at each step for nothing: the ratio is proportional to the learning rate, which the loop sets. It
    comes with True, and needs no second check.
    """
    known: list[float] = []
    begun = 1.0  # the step size when it was last measured
    followed = dict(course.readings)
    told = course.steps - (course.spike is not None)  # the step at which a spike is seen is the run's end
    for step in range(told) if rule == "foreseen" else followed:
        if rule == "foreseen" and known and course.rate(step) > begun:
            yield step, known[-1] * course.rate(step) / begun, True  # before the check of the same step
        if step in followed:
            usual = median(known) if len(known) >= _FEWEST else math.inf
            known.append(followed[step])
            begun = course.rate(step)
            yield step, followed[step] / usual if rule == "multiple" else followed[step], False


def raised(course: Course, rule: str, threshold: float, checks: int) -> Iterator[tuple[int, int | None]]:
    """The alerts of a run as pairs: the step of the check that raised one, and of the check that ended it."""
    level, begun, limits = "ok", 0, Limits(threshold, math.inf, DEFAULTS[RULE].hysteresis, checks)
    calls = Calls(limits)
    for step, value, foreseen in heard(course, rule):
        before, level = level, limits.level(value, level)
        level = max(level, before, key=LEVELS.index) if foreseen else calls.confirmed(level, before)
        if LEVELS.index(level) > LEVELS.index(before):
            begun = step
        elif LEVELS.index(level) < LEVELS.index(before):
            yield begun, step
    if level != "ok":
        yield begun, None


def scored(
    courses: Sequence[Course], rule: str, threshold: float, checks: int = DEFAULTS[RULE].checks
) -> dict[str, Any]:
    """Spikes warned of, the lead, and false alarms, at one threshold that so many checks in a row have to pass."""
    leads, spikes, lately, false, exposure = [], 0, 0, 0, 0
    for course in courses:
        alerts = list(raised(course, rule, threshold, checks))
        exposure += course.healthy
        false += sum(begun < course.healthy for begun, _ in alerts)
        if course.spike is not None:
            spikes += 1
            standing = [b for b, e in alerts if b < course.spike and (e is None or e >= course.spike)]
            leads += [course.spike - standing[-1]] if standing else []
            lately += any(b < course.spike and (e is None or e > course.spike - LATELY) for b, e in alerts)
    return {
        "rule": rule,
        "threshold": threshold,
        "checks": checks,
        "warned": intervals.share(len(leads), spikes) if spikes else None,
        "warned_lately": intervals.share(lately, spikes) if spikes else None,
        "lead": intervals.median(leads) if leads else None,
        "false_alarms": intervals.rate(false, max(exposure, 1)),
        "healthy_steps": exposure,
    }


def curve(courses: Sequence[Course]) -> list[dict[str, Any]]:
    """The three rules at all their thresholds, passed once and as often as the monitor asks."""
    tried = [(rule, value) for rule in ("level", "foreseen") for value in LEVELS_TRIED]
    tried += [("multiple", value) for value in MULTIPLES_TRIED]
    return [scored(courses, *one, checks) for checks in sorted({1, DEFAULTS[RULE].checks}) for one in tried]


def agrees(course: Course, default: float) -> bool:
    """Whether the monitor itself raised the alerts that `raised` does."""
    return [begun for begun, _ in raised(course, "foreseen", default, DEFAULTS[RULE].checks)] == course.alerts

"""The edge of stability between two checks: the ratio is proportional to the learning rate, which the loop sets."""

from __future__ import annotations

import math
from dataclasses import replace

from eigenscope.diagnostics.reading import CurvatureReading
from eigenscope.monitor.alerts import Alert, AlertBook
from eigenscope.monitor.judgements import edge_rule
from eigenscope.monitor.rules import LEVELS


class Foreseeing:
    """Knows up to which learning rate the last reading's ratio stays below the rule's next threshold."""

    def __init__(self, alerts: AlertBook) -> None:
        self._alerts = alerts
        self._reading: CurvatureReading | None = None
        self._rate = 0.0  # when it was measured
        self.limit = math.inf  # all that a step has to compare with

    def checked(self, reading: CurvatureReading, rate: float) -> None:
        """A new reading, measured at this learning rate."""
        self._reading, self._rate = reading, rate
        self._look_ahead()

    def forget(self) -> None:
        """Until the next reading nothing is foreseen: another optimizer, or a newer reading at a rate not noted."""
        self.limit = math.inf

    def rise(self, step: int, rate: float) -> Alert | None:
        """The learning rate has passed the limit: the alert that the next check would raise if nothing else changed."""
        assert self._reading is not None
        ratio = self._reading.stability_ratio
        assert ratio.value is not None
        coming = replace(ratio, value=ratio.value * rate / self._rate)
        raised = self._alerts.foresee(replace(self._reading, step=step, stability_ratio=coming))
        self._look_ahead(above=rate)
        return raised

    def _look_ahead(self, above: float = 0.0) -> None:
        self.limit = math.inf
        if self._reading is None:
            return
        ratio, rule = self._reading.stability_ratio.value, edge_rule(self._reading)
        limits, level = self._alerts.limits[rule], self._alerts.level(rule)
        if not ratio or not 0 < ratio < math.inf or self._rate <= 0 or not limits.enabled:
            return
        worse = [limits.threshold(name) for name in LEVELS[LEVELS.index(level) + 1 :]]
        risen = math.nextafter(self._rate, math.inf)  # a threshold that was passed once only: any rise confirms it
        rates = [max(self._rate * threshold / ratio, risen) for threshold in worse]
        self.limit = min((rate for rate in rates if rate > above), default=math.inf)

"""From readings to the run file; without one, to nowhere."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.reading import CountEstimate, CurvatureReading
from eigenscope.errors import RunFileError
from eigenscope.monitor.alerts import Alert
from eigenscope.runs import RunWriter

_METRICS = (
    "lambda_max", "lambda_min", "spectral_radius", "resolution", "noise_floor", "condition_number", "condition_mean",
    "iterations_to_halve", "negative_count_certified", "negative_count_estimate", "negative_share", "trace",
    "stability_ratio", "sharpness_score", "gradient_norm", "num_matvecs", "cost_in_gradients",
)  # fmt: skip
_OF_SPECTRUM = {"trace", "negative_count_estimate", "condition_mean"}  # written only where they were measured afresh


class Recorder:
    """Writes a run through `eigenscope.runs.RunWriter`; `problem` says what keeps it from writing."""

    def __init__(
        self, run: str | os.PathLike[str] | None, config: Mapping[str, object], environment: Mapping[str, object]
    ) -> None:
        self._writer: RunWriter | None = None
        self._unopened: str | None = None
        self._lost = 0
        if run is not None:
            try:
                self._writer = RunWriter(run, config=config, environment=environment)
            except RunFileError as error:
                self._unopened = str(error)
        self.scalar = self._writer.scalar if self._writer else self._keep_none  # said at each step: the shortest way

    @property
    def path(self) -> Path | None:
        return self._writer.path if self._writer else None

    @property
    def problem(self) -> str | None:
        return self._writer.problem if self._writer else self._unopened

    @property
    def dropped(self) -> int:
        return self._writer.dropped if self._writer else self._lost

    def _keep_none(self, name: str, step: int, value: Any, error: float | None = None) -> None:
        if self._unopened:
            self._lost += 1

    def reading(self, reading: CurvatureReading, share: float) -> None:
        for name, (value, spread) in _scalars(reading).items():
            self.scalar(name, reading.step, value, spread)
        self.scalar("measuring_share", reading.step, share)
        if self._writer is not None:
            plain = reading.to_dict()
            if reading.spectrum_step != reading.step:
                plain["density"] = None
            self._writer.reading(reading.step, plain)
        elif self._unopened:
            self._lost += 1

    def measurement(
        self,
        kind: str,
        step: int,
        plain: Mapping[str, object],
        scalars: Mapping[str, float | None] = MappingProxyType({}),
    ) -> None:
        """A reading of another kind than the curvature, and its figures."""
        for name, value in scalars.items():
            if value is not None:
                self.scalar(name, step, value)
        if self._writer is not None:
            self._writer.measurement(kind, step, {**plain, "step": step})
        elif self._unopened:
            self._lost += 1

    def alert(self, alert: Alert) -> None:
        if self._writer is not None:
            self._writer.alert(alert.step, alert.to_dict())
        elif self._unopened:
            self._lost += 1

    def reword(self, alert: Alert) -> None:
        """The alert that stands has other words now."""
        if self._writer is not None:
            self._writer.reword_alert(alert.to_dict())

    def action(self, step: int, plain: Mapping[str, object]) -> None:
        """An action has another state."""
        if self._writer is not None:
            self._writer.action(step, plain)
        elif self._unopened:
            self._lost += 1

    def await_requests(self, keys: Collection[int]) -> deque[tuple[int, str]]:
        """Where the answers to these actions come in, if others may give any."""
        return self._writer.await_requests(keys) if self._writer is not None else deque()

    def close(self, status: str) -> None:
        if self._writer is not None:
            self._writer.close(status)


def _scalars(reading: CurvatureReading) -> dict[str, tuple[float, float | None]]:
    found: dict[str, tuple[float, float | None]] = {}
    for name in _METRICS:
        if name in _OF_SPECTRUM and reading.spectrum_step != reading.step:
            continue
        item = getattr(reading, name)
        if isinstance(item, Estimate):
            pair = item.value, item.spread
        elif isinstance(item, CountEstimate):
            pair = item.value, item.standard_error
        else:
            pair = float(item), None
        if pair[0] is not None:
            found[name] = (float(pair[0]), pair[1])
    return found

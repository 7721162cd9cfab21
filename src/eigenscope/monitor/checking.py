"""A check: what is due is measured and paid for; what fails becomes an alert."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from eigenscope.diagnostics.flow import FlowReading
from eigenscope.diagnostics.reading import CurvatureReading
from eigenscope.look import look
from eigenscope.monitor.alerts import not_recorded
from eigenscope.monitor.hearing import Hearing
from eigenscope.monitor.instruments import Instruments, Reading, not_measured
from eigenscope.monitor.recording import Recorder
from eigenscope.monitor.schedule import Schedule
from eigenscope.monitor.telling import Telling
from eigenscope.operators import Probe
from eigenscope.operators.probe import Batches, BatchWeight, LossFunction
from eigenscope.settings import Memory, Settings

log = logging.getLogger("eigenscope")
_T = TypeVar("_T")
_COLD_EVERY = 8  # a warm start can miss an eigenvalue that has risen elsewhere: now and then a check starts afresh
_FIRST_CHECK_SECONDS = 0.1  # what a first check takes on the smallest model, for the Python in it


class Checks:
    """Measures a model within a schedule; `reading` and `readings` are the last of each kind."""

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        batches: Any,
        batch_weight: BatchWeight | None,
        settings: Settings,
        schedule: Schedule,
        instruments: Instruments,
        telling: Telling,
        hearing: Hearing,
        recorder: Recorder,
    ) -> None:
        self.model, self.loss_fn, self.batches, self.batch_weight = model, loss_fn, batches, batch_weight
        self.settings, self.schedule, self.instruments = settings, schedule, instruments
        self.reading: CurvatureReading | None = None
        self.readings: dict[str, Reading] = {}
        self.failures = 0
        self._memory = Memory()
        self._telling, self._hearing, self._recorder = telling, hearing, recorder

    def due(self, step: int, optimizer: torch.optim.Optimizer | None) -> CurvatureReading | None:
        """Measure what is due at this step; the first time, where a budget is to be kept, what it will cost."""
        fixed = self.schedule.every is not None
        if not fixed and "cold" not in self.schedule.prices:
            self._book("estimate", self._estimate_prices)
            return None
        kinds, reading = self.instruments.due(fixed), None
        self.instruments.checks += 1
        for kind in kinds:
            try:
                if kind == "curvature":
                    reading = self.curvature(step, optimizer)
                else:
                    self.instrument(kind, step)
            except Exception as error:  # of one kind: the others are measured all the same
                self._telling.contain(step, error)
        return reading

    def curvature(
        self, step: int, optimizer: torch.optim.Optimizer | None, *, cold: bool | None = None
    ) -> CurvatureReading:
        """Measure the curvature now; `cold=None` lets the schedule choose."""
        kind = self._kind() if cold is None else "cold" if cold else "warm"
        self._hearing.judge_pending(step)
        reading = self._book(
            kind,
            lambda: look(
                self.probe(), self.settings, self._memory, optimizer=optimizer, step=step, cold=kind == "cold"
            ),
        )
        self._take(reading, step)
        return reading

    def instrument(self, kind: str, step: int) -> None:
        """Measure something besides the curvature; what the model does not allow is noted, and not tried again."""
        start, one = self._now(), self.instruments.known[kind]
        try:
            reading = one.measure(self.probe(first=True), step)
            one.worked()
        except Exception as error:
            if not one.failed(error, self.instruments.checks):
                raise
            self._recorder.measurement(kind, step, not_measured(kind, str(one.refused)))
            log.info("%s is not measured: %s", kind, one.refused)
            return
        finally:
            self._spend(kind, start)
        self.readings[kind] = reading
        self._recorder.measurement(kind, step, reading.to_dict(), one.scalars(reading))
        if isinstance(reading, FlowReading):
            self._telling.tell(self._telling.alerts.judge_flow(reading))

    def probe(self, *, first: bool = False) -> Probe:
        """The probe, or its first batch."""
        return Probe(
            self.model,
            self.loss_fn,
            Batches(self.batches[:1]) if first else self.batches,
            batch_weight=self.batch_weight,
            train_mode=self.settings.train_mode,
        )

    def _take(self, reading: CurvatureReading, step: int) -> None:
        """What comes of a reading: alerts and records."""
        self.reading = reading
        alerts, tell, problem = self._telling.alerts, self._telling.tell, self._recorder.problem
        tell(alerts.clear("measurement_failed", step))
        for alert in alerts.update(reading):
            tell(alert)
        self._hearing.judge_rise(step)
        if problem:
            tell(alerts.raise_(not_recorded(step, problem, self._recorder.dropped)))
        else:
            tell(alerts.clear("run_file", step))
        self._hearing.recent.add("gradient_norm", reading.gradient_norm)
        if reading.stability_ratio.value is not None:
            self._hearing.recent.add("stability_ratio", reading.stability_ratio.value)
        self._recorder.reading(reading, self.schedule.share)

    # -- what it costs --------------------------------------------------------------------------------------------

    def _book(self, kind: str, measure: Callable[[], _T]) -> _T:
        """Measure, and pay for it; what fails again and again is tried ever less often."""
        start = self._now()
        try:
            found = measure()
        except Exception:  # out of memory, a model that changed, a bug of ours: training goes on
            self.failures += 1
            self._spend(kind, start, patience=float(2 ** min(self.failures, 6)))
            raise
        self.failures = 0
        self._spend(kind, start)
        return found

    def _spend(self, kind: str, start: float, patience: float = 1.0) -> None:
        """Book what was measured since `start`, and save for what is next."""
        (following, *_) = self.instruments.due(self.schedule.every is not None)
        after = self._kind() if following == "curvature" else following
        self.schedule.spend(kind, self._now() - start, after, patience)

    def _kind(self) -> str:
        return "cold" if self._memory.vectors is None or self._memory.looks % _COLD_EVERY == 0 else "warm"

    def _estimate_prices(self) -> None:
        """Before the first check: what will each cost? From one gradient, so that the budget holds from the start."""
        probe = self.probe()
        for _ in range(2):  # the first pass warms caches
            begin = self._now()
            with probe.isolated():
                torch.autograd.grad(probe.loss(0), probe.leaves, allow_unused=True)
        gradient, prices = self._now() - begin, self.schedule.prices
        for kind, one in self.instruments.known.items():
            prices[kind] = one.seconds + one.gradients * gradient
        whole = gradient / max(probe.weights[0], 1e-3)
        prices["cold"] = _FIRST_CHECK_SECONDS + 3.3 * self.settings.max_matvecs * whole

    def _now(self) -> float:
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()  # what training has queued is training's time
        return self.schedule.clock()

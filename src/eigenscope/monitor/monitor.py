"""The training loop's companion: measures when it can afford to, raises alerts, and never gets in the way."""

from __future__ import annotations

import inspect
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from eigenscope.bounds.reading import LipschitzReading
from eigenscope.diagnostics.flow import FlowReading
from eigenscope.diagnostics.reading import CurvatureReading
from eigenscope.errors import EigenscopeError
from eigenscope.look import look
from eigenscope.monitor.alerts import Alert, AlertBook, check_failed, diverged, no_loss, not_recorded
from eigenscope.monitor.environment import describe_model, describe_optimizer, environment
from eigenscope.monitor.instruments import Instruments, Reading, not_measured
from eigenscope.monitor.losses import LossWatch, as_number, described
from eigenscope.monitor.recording import Recorder
from eigenscope.monitor.rules import load_rules
from eigenscope.monitor.schedule import Schedule, check_pace
from eigenscope.operators import Probe
from eigenscope.operators.probe import Batches, BatchWeight, LossFunction, as_batches
from eigenscope.settings import Memory, Settings

log = logging.getLogger("eigenscope")
_T = TypeVar("_T")
_COLD_EVERY = 8  # a warm start can miss an eigenvalue that has risen elsewhere: now and then a check starts afresh
_HISTORY = 1000  # alerts kept in memory; the run file has them all
_FIRST_CHECK_SECONDS = 0.1  # what a first check takes on the smallest model, for the Python in it


class Monitor:
    """Measure the curvature of a training run while it runs.

    ::

        monitor = es.Monitor(model, loss_fn, probe=batches, optimizer=optimizer, run="runs/first")
        for batch in loader:
            ...
            optimizer.step()
            monitor.step(loss)
        monitor.close()

    Training is left as it is to the bit. Checks are spaced so that they take at most `budget` of the training time;
    `every` measures at each so many steps instead. Nothing that goes wrong in here reaches the loop: it becomes an
    alert. Also a context manager.

    Parameters
    ----------
    model, loss_fn, probe
        As in `curvature`; `probe` is one batch or a fixed list of them, kept for the whole run.
    optimizer
        For `stability_ratio`: its state and current learning rates are read at each check.
    run
        Where to write the run, such as ``"runs/first"``; None keeps it in memory only.
    rules
        A TOML file or a dictionary that overrides the alerts' thresholds.
    config
        Anything to be stored with the run (JSON).
    flow, lipschitz
        Also measure the signal flow and the Lipschitz bounds on the probe's first batch, out of the same budget: at
        every fourth and every eighth check with `every`, two and one of eight with a budget. `signal_flow` and
        `lipschitz` measure them at any other time.
    **settings
        Fields of `eigenscope.Settings`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        probe: Any,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        run: str | os.PathLike[str] | None = None,
        budget: float = 0.02,
        every: int | None = None,
        rules: str | os.PathLike[str] | Mapping[str, Mapping[str, object]] | None = None,
        config: Mapping[str, object] | None = None,
        batch_weight: BatchWeight | None = None,
        flow: bool = True,
        lipschitz: bool = True,
        clock: Callable[[], float] = time.perf_counter,
        **settings: Any,
    ) -> None:
        check_pace(budget, every)
        self.settings = Settings.of(settings, inspect.signature(Monitor).parameters.keys() - {"settings"})
        self.model, self.loss_fn, self.optimizer = model, loss_fn, optimizer
        self.batches, self.batch_weight = as_batches(probe), batch_weight
        self.alerts = AlertBook(load_rules(rules))
        self.history: deque[Alert] = deque(maxlen=_HISTORY)
        self.reading: CurvatureReading | None = None
        self.readings: dict[str, Reading] = {}  # the last of each other kind
        self.step_count = 0
        self._memory, self._failures, self._closed = Memory(), 0, False
        self._pending: list[Tensor] = []  # losses on a device: the first and the last since they were judged
        self._losses = LossWatch()
        self._instruments = Instruments.chosen(flow, lipschitz)
        rise = self.alerts.limits["loss_rise"]
        self._alarming = math.log(rise.warning) if rise.enabled else math.inf
        first = self._probe()  # bad input is told here, before training starts
        about = {
            "model": describe_model(model),
            "optimizer": describe_optimizer(optimizer),
            "probe_samples": first.samples,
            "budget": budget,
            "every": every,
            **(config or {}),
        }
        self._recorder = Recorder(run, about, environment(first.parameters.device))
        self._record = self._recorder.scalar
        self._schedule = Schedule(budget, every, clock)
        if self._recorder.problem:
            self._tell(self.alerts.raise_(not_recorded(0, self._recorder.problem, 0)))

    # -- the loop -------------------------------------------------------------------------------------------------

    def step(self, loss: Tensor | float | None = None) -> CurvatureReading | None:
        """Tell the monitor that a step is done; returns a reading when one was due."""
        if self._closed:
            return None
        try:
            self.step_count = step = self.step_count + 1
            if loss is not None:
                self._note_loss(step, loss)
            if self.optimizer is not None:
                self._note_rate(step, self.optimizer.param_groups[0]["lr"])
            return self._check() if self._schedule.due(step) else None
        except Exception as error:  # the loop goes on whatever happens here
            self._contain(error)
            return None

    def measure(self, *, cold: bool | None = True) -> CurvatureReading | None:
        """Measure now, due or not; None if that failed (an alert says why). `cold=None` lets the schedule choose."""
        if self._closed:
            return None
        try:
            return self._curvature(self._kind() if cold is None else "cold" if cold else "warm")
        except Exception as error:
            self._contain(error)
            return None

    # -- a check --------------------------------------------------------------------------------------------------

    def _check(self) -> CurvatureReading | None:
        """What is due now; the first time, where a budget is to be kept, what it will cost."""
        fixed = self._schedule.every is not None
        if not fixed and "cold" not in self._schedule.prices:
            self._book("estimate", self._estimate_prices)
            return None
        kinds, reading = self._instruments.due(fixed), None
        self._instruments.checks += 1
        for kind in kinds:
            try:
                if kind == "curvature":
                    reading = self._curvature(self._kind())
                else:
                    self._instrument(kind)
            except Exception as error:  # of one kind: the others are measured all the same
                self._contain(error)
        return reading

    def _curvature(self, kind: str) -> CurvatureReading:
        self._judge_pending()
        reading = self._book(
            kind,
            lambda: look(
                self._probe(),
                self.settings,
                self._memory,
                optimizer=self.optimizer,
                step=self.step_count,
                cold=kind == "cold",
            ),
        )
        self._take(reading)
        return reading

    def _book(self, kind: str, measure: Callable[[], _T]) -> _T:
        """Measure, and pay for it; what fails again and again is tried ever less often."""
        start = self._now()
        try:
            found = measure()
        except Exception:  # out of memory, a model that changed, a bug of ours: training goes on
            self._failures += 1
            self._spend(kind, start, patience=float(2 ** min(self._failures, 6)))
            raise
        self._failures = 0
        self._spend(kind, start)
        return found

    def _instrument(self, kind: str) -> None:
        """Measure something besides the curvature; what the model does not allow is noted, and not tried again."""
        start, one = self._now(), self._instruments.known[kind]
        try:
            reading = one.measure(self._probe(first=True), self.step_count)
            one.worked()
        except Exception as error:
            if not one.failed(error, self._instruments.checks):
                raise
            self._recorder.measurement(kind, self.step_count, not_measured(kind, str(one.refused)))
            log.info("%s is not measured: %s", kind, one.refused)
            return
        finally:
            self._spend(kind, start)
        self.readings[kind] = reading
        self._recorder.measurement(kind, self.step_count, reading.to_dict(), one.scalars(reading))
        if isinstance(reading, FlowReading):
            self._tell(self.alerts.judge_flow(reading))

    def _spend(self, kind: str, start: float, patience: float = 1.0) -> None:
        """Book what was measured since `start`, and save for what is next."""
        (following, *_) = self._instruments.due(self._schedule.every is not None)
        after = self._kind() if following == "curvature" else following
        self._schedule.spend(kind, self._now() - start, after, patience)

    def _kind(self) -> str:
        return "cold" if self._memory.vectors is None or self._memory.looks % _COLD_EVERY == 0 else "warm"

    def _probe(self, *, first: bool = False) -> Probe:
        return Probe(
            self.model,
            self.loss_fn,
            Batches(self.batches[:1]) if first else self.batches,
            batch_weight=self.batch_weight,
            train_mode=self.settings.train_mode,
        )

    def _note_loss(self, step: int, loss: Tensor | float) -> None:
        if isinstance(loss, Tensor) and loss.numel() == 1:
            if loss.device.type != "cpu":  # reading it here would wait for the device: the writer's thread does
                self._pending[1:] = [loss.detach()]
                self._record("loss", step, self._pending[-1])
                return
            loss = loss.item()
        number = loss if type(loss) is float else as_number(loss)
        if number is None:
            self._tell(self.alerts.raise_(no_loss(step, described(loss))))
            return
        if "bad_loss" in self.alerts.active:
            self._tell(self.alerts.clear("bad_loss", step))
        self._record("loss", step, number)
        self._judge_loss(step, number)

    def _judge_pending(self) -> None:
        """Losses on a device are judged when a check waits for the device anyway."""
        pending, self._pending = self._pending, []
        for loss in pending:
            self._judge_loss(self.step_count, float(loss))

    def _judge_loss(self, step: int, loss: float) -> None:
        if not math.isfinite(loss):
            if self.alerts.limits["diverged"].enabled:
                self._tell(self.alerts.raise_(diverged(step, loss)))
            return
        if "diverged" in self.alerts.active:
            self._tell(self.alerts.clear("diverged", step))
        if self._losses.feed(loss) > self._alarming or "loss_rise" in self.alerts.active:
            self._tell(self.alerts.judge_rise(step, self._losses))

    def _note_rate(self, step: int, rate: Tensor | float) -> None:
        if isinstance(rate, Tensor):  # a scheduler may change it in place before it is written
            rate = float(rate) if rate.device.type == "cpu" else rate.detach().clone()
        self._record("learning_rate", step, rate)

    def _estimate_prices(self) -> None:
        """Before the first check: what will each cost? From one gradient, so that the budget holds from the start."""
        probe = self._probe()
        for _ in range(2):  # the first pass warms caches
            begin = self._now()
            with probe.isolated():
                torch.autograd.grad(probe.loss(0), probe.leaves, allow_unused=True)
        gradient, prices = self._now() - begin, self._schedule.prices
        for kind, one in self._instruments.known.items():
            prices[kind] = one.seconds + one.gradients * gradient
        whole = gradient / max(probe.weights[0], 1e-3)
        prices["cold"] = _FIRST_CHECK_SECONDS + 3.3 * self.settings.max_matvecs * whole

    def _now(self) -> float:
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()  # what training has queued is training's time
        return self._schedule.clock()

    # -- what came of it ------------------------------------------------------------------------------------------

    def _take(self, reading: CurvatureReading) -> None:
        self.reading = reading
        self._tell(self.alerts.clear("measurement_failed", self.step_count))
        for alert in self.alerts.update(reading):
            self._tell(alert)
        self._tell(self.alerts.judge_rise(self.step_count, self._losses, reword=True))
        if self._recorder.problem:
            self._tell(self.alerts.raise_(not_recorded(self.step_count, self._recorder.problem, self.dropped)))
        else:
            self._tell(self.alerts.clear("run_file", self.step_count))
        self._recorder.reading(reading, self._schedule.share)

    def _contain(self, error: Exception) -> None:
        """Turn what went wrong into an alert; whatever that throws in turn ends here too."""
        with suppress(Exception):
            lines = str(error).strip().splitlines() or [""]
            what = lines[0] if isinstance(error, EigenscopeError) else f"{type(error).__name__}: {lines[0]}"
            self._tell(self.alerts.raise_(check_failed(self.step_count, what[:300])))

    def _tell(self, alert: Alert | None) -> None:
        if alert is None:
            return
        if alert.reworded:
            self._recorder.reword(alert)
            return
        self.history.append(alert)
        self._recorder.alert(alert)
        if alert.level != "ok":
            with suppress(Exception):  # a logging handler of the user's may raise
                log.warning("%s", alert)

    # -- the state ------------------------------------------------------------------------------------------------

    @property
    def flow(self) -> FlowReading | None:
        """The last signal flow."""
        reading = self.readings.get("flow")
        return reading if isinstance(reading, FlowReading) else None

    @property
    def lipschitz(self) -> LipschitzReading | None:
        """The last Lipschitz bounds."""
        reading = self.readings.get("lipschitz")
        return reading if isinstance(reading, LipschitzReading) else None

    @property
    def run_path(self) -> os.PathLike[str] | None:
        """The run file that is really written."""
        return self._recorder.path

    @property
    def dropped(self) -> int:
        """Records that could not be written."""
        return self._recorder.dropped

    @property
    def measuring_share(self) -> float:
        """The share of the time since the start that measuring has taken."""
        return self._schedule.share

    def close(self, status: str = "finished") -> None:
        """Write what is left; later calls do nothing."""
        if not self._closed:
            if self.reading is None and self.step_count and self._schedule.every is None and not self._failures:
                log.warning(
                    "no check fitted into %g %% of this run's time: use every=N, a larger budget, or measure()",
                    100 * self._schedule.budget,
                )
            self._closed = True
            self._recorder.close(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close(_ending(kind))

    def __repr__(self) -> str:
        worst, seen = self.alerts.worst(), self.reading.verdict if self.reading else "not measured yet"
        alert = f"{worst.level}: {worst.message}" if worst else "no alert"
        place = f"run {str(self.run_path)!r}" if self.run_path else "no run file"
        return f"Monitor({describe_model(self.model)}, step {self.step_count:,}, {seen}, {alert}, {place})"


def _ending(kind: type[BaseException] | None) -> str:
    """The status of a run whose loop was left by an exception of that kind."""
    if kind is None:
        return "finished"
    return "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"

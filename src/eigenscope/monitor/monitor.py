"""The training loop's companion: measures when it can afford to, raises alerts, and never gets in the way."""

from __future__ import annotations

import inspect
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from eigenscope.actions import Action, Situation
from eigenscope.bounds.reading import LipschitzReading
from eigenscope.diagnostics.flow import FlowReading
from eigenscope.diagnostics.reading import CurvatureReading
from eigenscope.diagnostics.step_factor import step_factor
from eigenscope.errors import InputError
from eigenscope.monitor.acting import Acting
from eigenscope.monitor.alerts import Alert, AlertBook, not_recorded
from eigenscope.monitor.checking import Checks
from eigenscope.monitor.environment import describe_model, describe_optimizer, environment
from eigenscope.monitor.foreseeing import Foreseeing
from eigenscope.monitor.hearing import Hearing
from eigenscope.monitor.instruments import Instruments, Reading
from eigenscope.monitor.policy import Policy
from eigenscope.monitor.recording import Recorder
from eigenscope.monitor.records import ActionRecord
from eigenscope.monitor.rules import load_rules
from eigenscope.monitor.schedule import Schedule, check_pace
from eigenscope.monitor.telling import Telling
from eigenscope.operators import Probe
from eigenscope.operators.probe import BatchWeight, LossFunction, as_batches
from eigenscope.settings import Settings

log = logging.getLogger("eigenscope")


class Monitor:
    """Measure the curvature of a training run while it runs; if it may, act on what it sees.

    ::

        monitor = es.Monitor(model, loss_fn, probe=batches, optimizer=optimizer, run="runs/first")
        for batch in loader:
            ...
            optimizer.step()
            monitor.step(loss)
        monitor.close()

    Training is left as it is to the bit, unless an action is applied. Checks are spaced so that they take at most
    `budget` of the training time; `every` measures at each so many steps instead. Nothing that goes wrong in here
    reaches the loop: it becomes an alert. Also a context manager.

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
    act
        What follows an alert: nothing ("observe"), a recommendation ("advise"), a proposal that waits for Apply or
        Dismiss while training goes on ("ask"), or the action itself ("auto"). An action is applied between two steps,
        judged after the next check by its own criterion, and undone if it hurts.
    actions
        Which actions may be applied: names or objects of `eigenscope.actions`; None for all that are registered.
    action_limit, cool_down
        With "auto", the most actions in a run; and how many checks one that was applied rests.
    scheduler
        The learning-rate scheduler, so that an action goes with it.
    replace_optimizer
        Called with the new optimizer by an action that switches to another; without it none is switched.
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
        act: str = "advise",
        actions: Iterable[str | Action | type[Action]] | None = None,
        action_limit: int = 5,
        cool_down: int = 5,
        scheduler: Any = None,
        replace_optimizer: Callable[[torch.optim.Optimizer], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        **settings: Any,
    ) -> None:
        check_pace(budget, every)
        chosen = Settings.of(settings, inspect.signature(Monitor).parameters.keys() - {"settings"})
        policy = Policy.of(act, actions, action_limit, cool_down, optimizer)
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.step_count, self._closed = 0, False
        self._swap = replace_optimizer
        self._clock, self._alerts = clock, AlertBook(load_rules(rules), advise=act != "observe")
        batches = as_batches(probe)
        first = Probe(model, loss_fn, batches, batch_weight=batch_weight, train_mode=chosen.train_mode)
        about = {
            "model": describe_model(model),
            "optimizer": describe_optimizer(optimizer),
            "probe_samples": first.samples,
            "budget": budget,
            "every": every,
            "act": act,
            **(config or {}),
        }
        self._recorder = Recorder(run, about, environment(first.parameters.device))
        self._record = self._recorder.scalar
        self._telling = Telling(self._alerts, self._recorder)
        self._hearing = Hearing(self._alerts, self._telling, self._recorder)
        self._checks = Checks(
            model, loss_fn, batches, batch_weight, chosen, Schedule(budget, every, clock),
            Instruments.chosen(flow, lipschitz), self._telling, self._hearing, self._recorder,
        )  # fmt: skip
        if self._recorder.problem:
            self._telling.tell(self._alerts.raise_(not_recorded(0, self._recorder.problem, 0)))
        self._foreseeing = Foreseeing(self._alerts)
        self._acting: Acting | None = None
        if policy.actions:
            self._begin_to_act(policy)

    # -- the loop -------------------------------------------------------------------------------------------------

    def step(self, loss: Tensor | float | None = None) -> CurvatureReading | None:
        """Tell the monitor that a step is done; returns a reading when one was due."""
        if self._closed:
            return None
        reading = None
        try:
            self.step_count = step = self.step_count + 1
            now = self._clock()
            if loss is not None:
                self._hearing.hear(step, loss, now)
            rate = 0.0
            if self.optimizer is not None:
                rate = self._note_rate(step, self.optimizer)
                if rate >= self._foreseeing.limit:
                    self._hearing.catch_up()
                    self._telling.tell(self._foreseeing.rise(step, rate))
            checks = self._checks
            due = checks.schedule.due(step, now)
            if due:
                self._hearing.catch_up()
                reading = checks.due(step, self.optimizer)
                if reading is not None:
                    self._foreseeing.checked(reading, rate)
            if self._acting is not None:
                self._acting.step(due)
        except Exception as error:  # the loop goes on whatever happens here
            self._telling.contain(self.step_count, error)
        return reading

    def measure(self, *, cold: bool | None = True) -> CurvatureReading | None:
        """Measure now, due or not; None if that failed (an alert says why). `cold=None` lets the schedule choose."""
        if self._closed:
            return None
        self._foreseeing.forget()
        try:
            return self._checks.curvature(self.step_count, self.optimizer, cold=cold)
        except Exception as error:
            self._telling.contain(self.step_count, error)
            return None

    def _note_rate(self, step: int, optimizer: torch.optim.Optimizer) -> float:
        """Record the learning rate, and return it; 0 where only an accelerator knows it."""
        rate = optimizer.param_groups[0]["lr"] * step_factor(optimizer)
        if type(rate) is not float and isinstance(rate, Tensor):  # of its own: a scheduler may change the rate in place
            rate = float(rate) if rate.device.type == "cpu" else rate.detach()
        self._record("learning_rate", step, rate)
        return rate if type(rate) is float else 0.0 if isinstance(rate, Tensor) else float(rate)

    # -- acting ---------------------------------------------------------------------------------------------------

    def apply(self, action: int) -> None:
        """Have a proposal applied, by its number: at the next step, or once the action that is on trial is judged.

        Raises `InputError` where none waits.
        """
        self._policy().ledger.ask(action, "apply")

    def dismiss(self, action: int) -> None:
        """Have a proposal dismissed: it does not come again while its alert stands. Raises as `apply`."""
        self._policy().ledger.ask(action, "dismiss")

    @property
    def actions(self) -> list[ActionRecord]:
        """Every action that was proposed or applied, as it stands."""
        return list(self._acting.ledger.records.values()) if self._acting is not None else []

    def _policy(self) -> Acting:
        if self._acting is None:
            raise InputError("this monitor applies no actions: use act='ask' or 'auto'")
        if self._closed:
            raise InputError("the run has ended: nothing can be applied to it any more")
        return self._acting

    def _begin_to_act(self, policy: Policy) -> None:
        """With "auto" a network may be started anew, so its flow is measured before the first step."""
        recent = self._hearing.recent
        self._acting = Acting(policy, self._situation, self._alerts, recent, self._recorder, self._telling)
        self._acting.loop.follow(self.optimizer)
        restart = any("signal_flow" in action.rules for action in policy.actions)
        if policy.act != "auto" or not restart or "flow" not in self._checks.instruments.known:
            return
        try:
            self._checks.instrument("flow", 0)
            self._acting.first()
        except Exception as error:
            self._telling.contain(0, error)

    def _situation(self) -> Situation:
        checks = self._checks
        self._hearing.judge_pending(self.step_count)  # of both sides of what is done now
        return Situation(
            model=checks.model, optimizer=self.optimizer, loss_fn=checks.loss_fn, batches=checks.batches,
            batch_weight=checks.batch_weight, reading=checks.reading, flow=self.flow,
            history=self._hearing.recent.values(), step=self.step_count, scheduler=self.scheduler,
            limits=self._alerts.limits, replace_optimizer=self._replace_optimizer if self._swap else None,
            closure=self._acting is not None and self._acting.loop.closure, train_mode=checks.settings.train_mode,
        )  # fmt: skip

    def _replace_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """An action switches: the loop, the readings and the count of steps go on with the new one."""
        assert self._swap is not None
        self._policy().release()
        self._swap(optimizer)
        self.optimizer = optimizer
        self._foreseeing.forget()
        self._policy().loop.follow(optimizer)

    # -- the state ------------------------------------------------------------------------------------------------

    @property
    def reading(self) -> CurvatureReading | None:
        """The last reading."""
        return self._checks.reading

    @property
    def readings(self) -> dict[str, Reading]:
        """The last of each other kind."""
        return self._checks.readings

    @property
    def alerts(self) -> AlertBook:
        """The alerts that stand."""
        self._catch_up()
        return self._alerts

    @property
    def history(self) -> deque[Alert]:
        """The changes of alerts, the newest last."""
        self._catch_up()
        return self._telling.history

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
        return self._checks.schedule.share

    def _catch_up(self) -> None:
        try:
            self._hearing.catch_up()
        except Exception as error:
            self._telling.contain(self.step_count, error)

    def close(self, status: str = "finished") -> None:
        """Write what is left; later calls do nothing. What an action does in each step ends here."""
        if not self._closed:
            schedule = self._checks.schedule
            if self.reading is None and self.step_count and schedule.every is None and not self._checks.failures:
                log.warning(
                    "no check fitted into %g %% of this run's time: use every=N, a larger budget, or measure()",
                    100 * schedule.budget,
                )
            self._closed = True
            self._catch_up()
            try:
                if self._acting is not None:
                    self._acting.close()
            except Exception as error:
                self._telling.contain(self.step_count, error)
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

"""The step size held under the edge of stability, from measured curvature."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, ClassVar, Self

import torch
from torch import nn

from eigenscope.actions.base import Action
from eigenscope.actions.evidence import Evidence
from eigenscope.actions.hooks import Hooks, in_a_line
from eigenscope.actions.loudness import Loudness
from eigenscope.actions.pace import Pace
from eigenscope.actions.scaled_steps import ScaledSteps
from eigenscope.actions.situation import Situation
from eigenscope.actions.tracking import Tracker
from eigenscope.diagnostics.stability import stability_edge
from eigenscope.diagnostics.step_factor import step_controls
from eigenscope.errors import InputError
from eigenscope.operators import HessianOperator, Operator, ScaledOperator
from eigenscope.operators.probe import BatchWeight, LossFunction

_MARGIN = 0.92  # of the target: curvature goes on changing until the next measurement
_RISE = 2.0  # times: what the factor may rise with each step since the last measurement, in the warm-up
_SLOW_RISE = 1.2  # times: what it may rise with a measurement after the warm-up, where `least` is over 1
_RATES = ("lr", "initial_lr", "max_lr")  # of a group: schedulers write down where they begin, or lead to
_ALLOWED = 1.1  # by `helped`: the monitor measures at another moment, and to 1 %
_KEPT = (
    "factor", "ratio", "_level", "_level_rate", "_due", "_now", "_optimizer", "_follows", "_tracker", "_last", "_rate",
    "_peaks", "_resumes", "_pace", "_loudness",
)  # fmt: skip


def _own(state: dict[str, Any]) -> dict[str, Any]:
    """With copies of what is written into; vectors are only ever replaced."""
    return state | {name: copy(state[name]) for name in ("_tracker", "_loudness", "_peaks", "_pace")}


def _at_hand(rate: Any) -> bool:
    """Whether a learning rate can be read without waiting for a device."""
    return not isinstance(rate, torch.Tensor) or rate.device.type == "cpu"


def _momentum(group: Mapping[str, Any]) -> float:
    """Heavy ball's β or Adam's β₁: what of a gradient goes on into the next step."""
    return float(group.get("momentum", group.get("betas", (0.0,))[0]))


class ControlStep(Action, ScaledSteps):
    """Keep the step at or under `target` of the edge of stability by measuring λmax as training goes on.

    ::

        control = es.actions.ControlStep(target=0.9).bind(model, loss_fn, batches, optimizer)
        for batch in loader:
            ...
            optimizer.step()
            control.step()

    The learning rate stays what its scheduler says; only within `optimizer.step` it is multiplied by `factor` ≤ 1,
    so that any scheduler composes: the factor rises as the curvature falls, not as the learning rate does, so that a
    decay stays a decay, and a rate that is lowered by hand stays lower. No checkpoint holds the factor: it is measured
    anew. Bind before you load one, so that the schedule's place is known.

    The factor falls at once and at most doubles with each step since it was last measured. It is measured after each
    step while the curvature moves, and at most `every` steps apart once it is calm: 3 to 6 products each, from the last
    vectors. Whatever the distance, it is measured before a step whose gradient is twice as large as any of late, or
    whose learning rate has risen past the target; what that took, the next measurement on time may give back.

    In minibatches the curvature never calms, and a measurement may cost as much as many steps: `least` sets them so far
    apart, reached by fours (1, 4, 16, ...). Up to then the step is warmed up, and held lower; from then on the factor
    rises by at most a fifth with each measurement. `tolerance=0.1` nearly halves what one costs, half a batch to
    measure on halves it again. There the `target` is best a little over 1, such as 1.4: below the edge the curvature
    goes on rising and the step falling, at it descent itself holds the curvature down (Roulet et al. 2024).

    For SGD, heavy ball, Nesterov, RMSprop, Adam and AdamW; Adam's ratio is that of the preconditioned Hessian, which is
    why a warm-up comes out of it (Cohen et al. 2022).
    The edge is that of full-batch descent. In minibatches momentum β, Adam's β₁ no less than heavy ball's, gathers the
    noise of 1/(1 − β) steps, and where noise is all there is heavy ball's and Adam's edge is lower by (1 − β)/(1 + β).
    So with momentum the ratio is held under (1 − β) · target, between the two, unless `noisy=False`.

    Cohen, Kaur, Li, Kolter & Talwalkar 2021; Roulet, Agarwala, Grill, Swirszcz, Blondel & Pedregosa 2024; Gilmer et al.
    2022 (instability at the start, and what warm-up does).
    """

    name = "control_step"
    rules: ClassVar[tuple[str, ...]] = ("edge_of_stability", "adaptive_edge", "loss_rise")
    words = "LOWER THE STEP SIZE"
    criterion = "the stability ratio is at or under the target, to a tenth of it, and the loss is finite"

    def __init__(
        self,
        target: float = 0.9,
        *,
        noisy: bool = True,
        least: int = 1,
        every: int = 10,
        tolerance: float = 0.01,
        seed: int = 0,
    ) -> None:
        if not target > 0:
            raise InputError(f"target={target:g}: a share of the stability threshold over 0 is needed, such as 0.9")
        if not 1 <= least <= every:
            raise InputError(f"least={least}, every={every}: whole numbers of steps are needed, 1 ≤ least ≤ every")
        self.target, self.noisy, self.least, self.every = target, noisy, least, every
        self.tolerance, self.seed = tolerance, seed
        ScaledSteps.__init__(self)
        self._hooks: Hooks = Hooks(self._failed)
        self._forget()

    def _forget(self) -> None:
        self._now: Situation | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._follows = self._due = False  # `_follows`: the optimizer's hooks call `step`
        self.factor = self._level = 1.0  # the level: where the factor may return to after a fall ahead of time
        self._level_rate = 0.0  # the largest learning rate, when the level was set
        self.ratio: float | None = None  # as last measured, with the factor that was set upon it
        self._tracker = Tracker(self.tolerance, self.seed)
        self._last: float | None = None  # the ratio with factor 1
        self._rate = 0.0  # the largest learning rate, at the same measurement
        self._peaks: dict[int, float] = {}  # of the learning rates, by group
        self._resumes = False  # the next measurement is the first since a schedule was taken up in its midst
        self._pace = Pace(self.least, self.every)
        self._loudness = Loudness()

    @property
    def aim(self) -> float:
        """What the ratio is held under: the target, and in minibatches with momentum, Adam's β₁ too, 1 − β of it."""
        groups = self._optimizer.param_groups if self._optimizer is not None else []
        momentum = max((_momentum(group) for group in groups), default=0.0) if self.noisy else 0.0
        return self.target * (1 - momentum)

    @property
    def num_matvecs(self) -> int:
        """Products so far."""
        return self._tracker.num_matvecs

    @property
    def num_measurements(self) -> int:
        """Measurements so far."""
        return self._tracker.num_measurements

    # -- alone ----------------------------------------------------------------------------------------------------

    def bind(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        batches: Any,
        optimizer: torch.optim.Optimizer,
        *,
        batch_weight: BatchWeight | None = None,
    ) -> Self:
        """Measure once and control this optimizer's steps from the next on; `batches` are as in `curvature`."""
        now = Situation(model, optimizer, loss_fn, batches, batch_weight)
        if why := self.can_apply(now):
            raise InputError(why)
        self._bind(now)
        return self

    def step(self) -> float | None:
        """To be called after each `optimizer.step`: measures when it is time to; returns the ratio if it did."""
        if self._now is None:
            raise InputError("the control is not bound: call bind(model, loss_fn, batches, optimizer) first")
        return self._control() if self._pace.tick() else None

    def release(self) -> None:
        """Let the optimizer go: its steps are those of its learning rate again."""
        self._detach()
        self._forget()

    # -- as an action ---------------------------------------------------------------------------------------------

    def can_apply(self, now: Situation) -> str | None:
        if now.optimizer is None:
            return "there is no optimizer whose step could be controlled: pass optimizer="
        if self._handles:
            return "the step is controlled already"
        if step_controls(now.optimizer):
            return "another ControlStep controls this optimizer"
        parameters = [p for p in now.model.parameters() if p.requires_grad]
        return stability_edge(now.optimizer, parameters, parameters, 1.0).reason

    def apply(self, now: Situation) -> dict[str, object]:
        assert now.optimizer is not None
        self._bind(now, follows=True)
        rates = [float(group["lr"]) for group in now.optimizer.param_groups]
        changed = {"lr": [[rate, rate * self.factor] for rate in rates], "factor": self.factor}
        return {**changed, "target": self.aim, "stability_ratio": self.ratio}

    def undo(self, now: Situation) -> None:
        self.release()

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        if after.losses and not math.isfinite(after.losses[-1]):
            return False
        ratio = after.number("stability_ratio")
        return None if ratio is None else ratio <= _ALLOWED * self.target

    # -- the control ----------------------------------------------------------------------------------------------

    def _bind(self, now: Situation, follows: bool = False) -> None:
        assert now.optimizer is not None
        self._detach()
        self._forget()
        self._now, self._optimizer, self._follows, self.problem = now, now.optimizer, follows, None
        self._control()
        self._attach(now.optimizer)

    def _attach(self, optimizer: torch.optim.Optimizer) -> None:
        super()._attach(optimizer)
        self._hooks.add(optimizer, gradient=self._listen, after=self._after if self._follows else None)

    def _detach(self) -> None:
        super()._detach()
        self._hooks.remove()

    def _loaded(self, *_: Any) -> None:
        """A schedule goes on from where it was: its own record of the rates tells how far they have fallen."""
        assert self._optimizer is not None
        peaks = (max(float(group.get(key, 0.0)) for key in _RATES) for group in self._optimizer.param_groups)
        self._peaks, self._last, self._due, self._resumes = dict(enumerate(peaks)), None, True, True
        self._pace.apart = True  # a run in its midst is warm

    def kept(self) -> Callable[[bool], None]:
        state = _own({name: getattr(self, name) for name in _KEPT})

        def back(due: bool) -> None:
            vars(self).update(_own(state))
            self._due = self._due or due
            if not self._handles:
                self._attach(state["_optimizer"])

        return back

    def move(self, optimizer: torch.optim.Optimizer) -> None:
        """Another optimizer goes on with the hooks: its edge is another, and is measured before its first step."""
        left = self._decay()
        self._optimizer, self._last, self.factor, self._due, self._resumes = optimizer, None, 1.0, True, True
        self._pace = Pace(self.least, self.every)  # its state is new: it is warmed up as at a start
        self._peaks = {i: float(group["lr"]) / left for i, group in enumerate(optimizer.param_groups)}

    def _after(self, *_: Any) -> None:
        """In the loop of others: what goes wrong is told in `problem`, and the factor stays."""
        try:
            self.step()
        except Exception as error:
            self._pace.left = self._pace.interval
            self._failed(in_a_line(error))

    def _failed(self, why: str) -> None:
        self.problem = why

    def _control(self, risen: bool = False) -> float:
        """Measure, and set the factor so that the ratio stays at the target until the next measurement."""
        plain, before, rate, pace = self._measure(), self._last, self._largest_rate(), self._pace
        change = math.log(plain / before) if before and before > 0 and plain > 0 else 0.0
        coming = plain * math.exp(min(max(change / pace.passed, 0.0), math.log(_RISE)))  # a step later, as it rose
        early, rise = pace.early, self._rise()  # by the steps that have passed; what is warmed up, by those that come
        if before is None:
            pace.begin()
        elif rate > 0 and not self._rate:  # what was measured before was no step at all
            self._pace = pace = Pace(self.least, self.every)
        else:
            pace.measured(change - math.log(rate / self._rate) if change and self._rate else change, between=risen)
        allowed = _MARGIN * pace.warmth * self.aim / coming if coming > 0 else 1.0
        self._hold(allowed, rise, rate, early=early and before is not None)
        self._last, self._rate, self.ratio = plain, rate, plain * self.factor
        self._due = self._resumes = False
        self._loudness.measured()
        return self.ratio

    def _rise(self) -> float:
        """What the factor may rise by: in the warm-up with each step, then with each measurement of few samples."""
        return _SLOW_RISE if self._pace.apart and self.least > 1 else _RISE ** min(self._pace.passed, 64)

    def _hold(self, allowed: float, rise: float, rate: float, *, early: bool) -> None:
        """Set the factor and, on time, the level to which it may return after an early fall, at this learning rate."""
        decayed = allowed * self._decay()
        if self._last is None:
            self.factor = min(1.0, decayed if self._resumes else allowed)
        else:
            moved = rate / self._level_rate if rate > 0 < self._level_rate else 1.0
            level = min(self._level / max(moved, 1.0), allowed * min(moved, 1.0))  # no higher step, and decayed too
            start = self.factor if early else max(self.factor, level)
            self.factor = min(1.0, allowed, max(decayed, start), rise * start)
        if not early or self.factor > self._level:
            self._level, self._level_rate = self.factor, rate

    def _decay(self) -> float:
        """Note the learning rates, and give what is left of their highest: the least of the groups that still move."""
        assert self._optimizer is not None
        left = 1.0
        for index, group in enumerate(self._optimizer.param_groups):
            rate = float(group["lr"])
            peak = self._peaks[index] = max(self._peaks.get(index, 0.0), rate)
            left = min(left, rate / peak) if rate > 0 else left
        return left

    def _largest_rate(self) -> float:
        """Of all groups, as the schedule has it; within a step too."""
        assert self._optimizer is not None
        rates = [rate for _, rate, _ in self._scaled] or [group["lr"] for group in self._optimizer.param_groups]
        return max(float(rate) for rate in rates)

    def _has_risen(self) -> bool:
        """Whether the schedule alone has brought the ratio over the aim since it was measured."""
        if self._last is None or any(not _at_hand(rate) for _, rate, _ in self._scaled):
            return False
        rate = self._largest_rate()
        return self._last * rate * self.factor > self.aim * self._rate if self._rate else rate > 0

    def _measure(self) -> float:
        """The stability ratio of the optimizer as it stands, without the factor."""
        assert self._now is not None
        with self._now.hessian() as hessian:
            operator, scale = self._edge(hessian)
            gradient = hessian.gradient
            if isinstance(operator, ScaledOperator):
                gradient = operator.diagonal * gradient
            return scale * self._tracker.measure(operator, gradient, self._pace.calm, hessian.memory_limit / 2)

    def _edge(self, hessian: HessianOperator) -> tuple[Operator, float]:
        """The operator whose leading eigenvalue counts, and what it is multiplied by."""
        parameters = hessian.probe.parameters
        gradient = parameters.split(hessian.gradient)
        edge = stability_edge(self._optimizer, parameters.tensors, gradient, 1.0)
        if edge.reason is not None:
            raise InputError(edge.reason)
        if edge.scales is None:
            return hessian, edge.scale or 0.0
        return ScaledOperator(hessian, edge.scales.to(hessian.space.dtype).sqrt()), 1.0

    def _listen(self, optimizer: torch.optim.Optimizer) -> None:
        """Measure before this step where it is due, or its gradient or rate says that the ratio may have risen."""
        loud, risen = self._loudness.hear(optimizer), self._has_risen()
        if not loud and not self._due and not risen:
            return
        self._unscale()
        try:
            self._control(risen and not loud)
        except Exception:  # not in the midst of a step: the measurement after it will tell
            self._pace.left, self._due = 1, False
        self._scale(optimizer)

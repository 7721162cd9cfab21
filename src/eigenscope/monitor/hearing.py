"""The losses that the loop hands over: recorded, judged, and kept for a while."""

from __future__ import annotations

import math
from collections import deque

from torch import Tensor

from eigenscope.actions.trend import LAST
from eigenscope.monitor.alerts import AlertBook, diverged, no_loss
from eigenscope.monitor.losses import LossWatch, as_number, described
from eigenscope.monitor.recent import Recent
from eigenscope.monitor.recording import Recorder
from eigenscope.monitor.telling import Telling

_PATIENCE = 0.005  # seconds that a loss may wait to be judged with others: one by one would cost a step 5 µs more


class Hearing:
    """Takes each loss in about a microsecond, and judges them a few milliseconds' worth at a time.

    A loss that is alarming by itself is judged at once, one on a device only when a check waits for the device.
    """

    def __init__(self, alerts: AlertBook, telling: Telling, recorder: Recorder) -> None:
        self.watch, self.recent = LossWatch(), Recent()
        self.pending: deque[tuple[int, Tensor]] = deque(maxlen=LAST)  # on a device, with their steps, until a check
        self._unjudged: deque[tuple[int, float]] = deque()  # with their steps
        self._since = self._until = 0.0  # by the clock: only in between may a loss wait
        self._loud = -math.inf  # what is as large, or no number, is judged at once
        self._first: tuple[int, Tensor] | None = None  # of the run: what a rise is measured from
        self._alerts, self._tell, self._record = alerts, telling.tell, recorder.scalar
        rise = alerts.limits["loss_rise"]
        self._warning = rise.warning if rise.enabled else math.inf
        self._alarming = math.log(self._warning)

    def hear(self, step: int, loss: Tensor | float, now: float) -> None:
        """The loss of a step, at a time in seconds."""
        if isinstance(loss, Tensor) and loss.numel() == 1:
            if not loss.is_cpu:  # reading it here would wait for the device: the writer's thread does
                loss = loss.detach()
                self.hold(step, loss)
                self._record("loss", step, loss)
                return
            loss = loss.item()
        number = loss if type(loss) is float else as_number(loss)
        if number is None:
            self.catch_up()
            self._tell(self._alerts.raise_(no_loss(step, described(loss))))
            return
        if "bad_loss" in self._alerts.active:
            self.catch_up()
            self._tell(self._alerts.clear("bad_loss", step))
        self._record("loss", step, number)
        self._unjudged.append((step, number))
        if not (number < self._loud and self._since <= now < self._until):
            self._since, self._until = now, now + _PATIENCE
            self.catch_up()
            self._loud = self._warning * self.watch.lowest

    def catch_up(self) -> None:
        """Judge what waits."""
        while self._unjudged:
            self._judge(*self._unjudged.popleft())

    def hold(self, step: int, loss: Tensor) -> None:
        """Keep a loss until the next check, where it is among the last."""
        if self._first is None:
            self._first = step, loss
        self.pending.append((step, loss))

    def judge_pending(self, step: int) -> None:
        """Judge what waits, on a device too: a check waits for it anyway."""
        self.catch_up()
        held = list(self.pending)
        self.pending.clear()
        if held and self._first is not None and self._first[0] < held[0][0] and "loss" not in self.recent.mark():
            held.insert(0, self._first)
        for at, loss in held:
            self._judge(step, float(loss), at)

    def judge_rise(self, step: int) -> None:
        """Say how a rise that stands stands now."""
        self._tell(self._alerts.judge_rise(step, self.watch, reword=True))

    def _judge(self, step: int, loss: float, at: int | None = None) -> None:
        self.recent.add("loss", loss)
        self.recent.add("loss_step", step if at is None else at)
        if not math.isfinite(loss):
            if self._alerts.limits["diverged"].enabled:
                self._tell(self._alerts.raise_(diverged(step, loss)))
            return
        if "diverged" in self._alerts.active:
            self._tell(self._alerts.clear("diverged", step))
        if self.watch.feed(loss) > self._alarming or "loss_rise" in self._alerts.active:
            self._tell(self._alerts.judge_rise(step, self.watch))

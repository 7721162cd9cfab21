"""The losses that the loop hands over: recorded, judged, and kept for a while."""

from __future__ import annotations

import math
from collections import deque

from torch import Tensor

from eigenscope.monitor.alerts import AlertBook, diverged, no_loss
from eigenscope.monitor.losses import LossWatch, as_number, described
from eigenscope.monitor.recent import Recent
from eigenscope.monitor.recording import Recorder
from eigenscope.monitor.telling import Telling

_HELD = 30  # losses on a device that wait for a check: as many as an action is judged by


class Hearing:
    """Takes each loss in about a microsecond; one on a device is judged only when a check waits for the device."""

    def __init__(self, alerts: AlertBook, telling: Telling, recorder: Recorder) -> None:
        self.watch, self.recent = LossWatch(), Recent()
        self.pending: deque[tuple[int, Tensor]] = deque(maxlen=_HELD)  # on a device, with their steps, until a check
        self._first: tuple[int, Tensor] | None = None  # of the run: what a rise is measured from
        self._alerts, self._tell, self._record = alerts, telling.tell, recorder.scalar
        rise = alerts.limits["loss_rise"]
        self._alarming = math.log(rise.warning) if rise.enabled else math.inf

    def hear(self, step: int, loss: Tensor | float) -> None:
        """The loss of a step."""
        if isinstance(loss, Tensor) and loss.numel() == 1:
            if not loss.is_cpu:  # reading it here would wait for the device: the writer's thread does
                loss = loss.detach()
                self.hold(step, loss)
                self._record("loss", step, loss)
                return
            loss = loss.item()
        number = loss if type(loss) is float else as_number(loss)
        if number is None:
            self._tell(self._alerts.raise_(no_loss(step, described(loss))))
            return
        if "bad_loss" in self._alerts.active:
            self._tell(self._alerts.clear("bad_loss", step))
        self._record("loss", step, number)
        self._judge(step, number)

    def hold(self, step: int, loss: Tensor) -> None:
        """Keep a loss until the next check, where it is among the last."""
        if self._first is None:
            self._first = step, loss
        self.pending.append((step, loss))

    def judge_pending(self, step: int) -> None:
        """Look at those on a device: a check waits for it anyway."""
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

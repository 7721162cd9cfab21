"""The losses that the loop hands over: recorded, judged, and kept for a while."""

from __future__ import annotations

import math

from torch import Tensor

from eigenscope.monitor.alerts import AlertBook, diverged, no_loss
from eigenscope.monitor.losses import LossWatch, as_number, described
from eigenscope.monitor.recent import Recent
from eigenscope.monitor.recording import Recorder
from eigenscope.monitor.telling import Telling


class Hearing:
    """Takes each loss in about a microsecond; one on a device is judged only when a check waits for the device."""

    def __init__(self, alerts: AlertBook, telling: Telling, recorder: Recorder) -> None:
        self.watch, self.recent = LossWatch(), Recent()
        self.pending: list[Tensor] = []  # losses on a device: the first and the last since they were judged
        self._alerts, self._tell, self._record = alerts, telling.tell, recorder.scalar
        rise = alerts.limits["loss_rise"]
        self._alarming = math.log(rise.warning) if rise.enabled else math.inf

    def hear(self, step: int, loss: Tensor | float) -> None:
        """The loss of a step."""
        if isinstance(loss, Tensor) and loss.numel() == 1:
            if loss.device.type != "cpu":  # reading it here would wait for the device: the writer's thread does
                self.pending[1:] = [loss.detach()]
                self._record("loss", step, self.pending[-1])
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

    def judge_pending(self, step: int) -> None:
        """Look at those on a device: a check waits for it anyway."""
        pending, self.pending = self.pending, []
        for loss in pending:
            self._judge(step, float(loss))

    def judge_rise(self, step: int) -> None:
        """Say how a rise that stands stands now."""
        self._tell(self._alerts.judge_rise(step, self.watch, reword=True))

    def _judge(self, step: int, loss: float) -> None:
        self.recent.add("loss", loss)
        if not math.isfinite(loss):
            if self._alerts.limits["diverged"].enabled:
                self._tell(self._alerts.raise_(diverged(step, loss)))
            return
        if "diverged" in self._alerts.active:
            self._tell(self._alerts.clear("diverged", step))
        if self.watch.feed(loss) > self._alarming or "loss_rise" in self._alerts.active:
            self._tell(self._alerts.judge_rise(step, self.watch))

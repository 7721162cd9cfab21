"""One application of an action: applied on probation, then judged, and taken back where it hurts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch

from eigenscope.actions import Action, Evidence, Situation, Snapshot
from eigenscope.errors import EigenscopeError
from eigenscope.monitor.recent import Recent

_PATIENCE = 8  # further checks after which an action whose effect can't be told is kept: a budget's whole round


class ActionError(EigenscopeError):
    """An action noticed by itself, in a hook, that something is wrong."""


class Trial:
    """An action between its application and its verdict. Raises, with everything put back, where `apply` does."""

    def __init__(self, action: Action, now: Situation, recent: Recent) -> None:
        self.action, self.step, self.looks = action, now.step, 0
        self.mark, self._recent = recent.mark(), recent
        self.before, self._loss = Evidence.of(now), probe_loss(now)
        self._snapshot = Snapshot.of(now.model, now.optimizer, now.scheduler)
        try:
            self.changed = action.apply(now)
            if action.problem:
                raise ActionError(action.problem)
        except BaseException:
            self.undo_all(lambda: now)
            raise
        self._snapshot.mark()

    @property
    def broken(self) -> bool:
        """Whether the training loss is not finite since."""
        return self._recent.broken("loss", self.mark)

    def after(self, now: Situation) -> Evidence:
        """What was measured since, and nothing that was measured before."""
        history = self._recent.values(self.mark)
        reading = now.reading if now.reading is not None and now.reading.step > self.step else None
        flow = now.flow if now.flow is not None and now.flow.step > self.step else None
        return Evidence(now.step, tuple(history.get("loss", ())), reading, flow, history)

    def verdict(self, after: Evidence) -> bool | None:
        """After another check: whether it helped; None while that can't be told."""
        self.looks += 1
        return None if self.looks < self.action.checks else self.action.helped(self.before, after)

    @property
    def exhausted(self) -> bool:
        """No verdict will come any more."""
        return self.looks >= self.action.checks + _PATIENCE

    def undo(self, now: Callable[[], Situation], after: Evidence) -> str:
        """Take it back; returns in words what was put back.

        What training has learnt since is kept, unless the loss is worse than when the action was applied: then the
        weights and everything else go back to the bit. Compared is the loss over the probe, where the noise of
        mini-batches does not decide.
        """
        before, since = self._loss, probe_loss(now())
        if before is None or since is None:
            before, since = self.before.loss, after.loss
        if before is not None and since is not None and not since <= before:
            self.undo_all(now)
            return (
                f"the loss rose from {before:.4g} to {since:.4g}, so weights, optimizer and random streams "
                f"are as they were at step {self.step}"
            )
        self._take_back(now)
        self._snapshot.restore_settings()
        return "its settings are taken back; the loss has not risen, so what training has learnt since is kept"

    def undo_all(self, now: Callable[[], Situation]) -> None:
        """Put everything back as it was before, to the bit."""
        self._take_back(now)
        self._snapshot.restore()

    def _take_back(self, now: Callable[[], Situation]) -> None:
        with suppress(Exception):  # it promises not to raise; the rest is put back whether it keeps that or not
            self.action.undo(now())


def probe_loss(now: Situation) -> float | None:
    """The mean loss over the probe, which may be infinite; None where it can't be had."""
    try:
        probe = now.probe()
        with probe.isolated(), torch.no_grad():
            losses = [float(probe.loss_fn(probe.model, batch)) for batch in probe.batches]
    except Exception:
        return None
    return sum(weight * loss for weight, loss in zip(probe.weights, losses, strict=True))

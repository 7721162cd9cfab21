"""One application of an action: applied on probation, then judged, and taken back where it hurts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch

from eigenscope.actions import Action, Evidence, Situation, Snapshot
from eigenscope.errors import EigenscopeError
from eigenscope.monitor.recent import Recent

_GAIN = 0.01  # of the loss: what it must have fallen by, for weights that an undone action changed to stay
_HARM = 1.0  # of the loss: by what it may rise at once where an action changes weights
_PATIENCE = 8  # further checks after which an action whose effect can't be told is kept: a budget's whole round


class ActionError(EigenscopeError):
    """An action noticed by itself, in a hook, that something is wrong."""


class Trial:
    """An action between its application and its verdict. Raises, with everything put back, where `apply` does."""

    def __init__(self, action: Action, now: Situation, recent: Recent) -> None:
        self.action, self.step, self.looks = action, now.step, 0
        self.mark, self._recent = recent.mark(), recent
        self.before = Evidence.of(now, probe_loss=probe_loss(now))
        self._snapshot = Snapshot.of(now.model, now.optimizer, now.scheduler)
        try:
            self.changed = action.apply(now)
            if problem := action.problem or self._harm(now):
                raise ActionError(problem)
        except BaseException:
            self.undo_all(lambda: now)
            raise
        self._snapshot.mark()

    def _harm(self, now: Situation) -> str | None:
        """Whether weights were changed so that the network has lost what it knew."""
        if not self.action.changes_weights or self.action.starts_anew:
            return None
        old, new = self.before.probe_loss, probe_loss(now)
        if old is None or new is None or new <= old + _HARM * abs(old):
            return None
        return f"it takes the loss over the probe from {old:.4g} to {new:.4g}"

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

        What training has learnt since is kept, unless the loss is worse than when the action was applied, or the
        action changed weights and the loss is no better: then the weights and everything else go back to the bit.
        Compared is the loss over the probe, where the noise of mini-batches does not decide.
        """
        before, since = self.before.probe_loss, probe_loss(now())
        if before is None or since is None:
            before, since = self.before.loss, after.loss
        unknown = before is None or since is None
        old, new = before or 0.0, since or 0.0
        gained = not unknown and new < old - _GAIN * abs(old)
        if not unknown and not new <= old:
            return self._all_back(now, f"the loss rose from {old:.4g} to {new:.4g}")
        if self.action.changes_weights and not gained:
            return self._all_back(now, "no loss is known" if unknown else f"the loss stayed at {new:.4g}")
        take_back(self.action, now)
        self._snapshot.restore_settings()
        if self.action.changes_weights:
            return f"the loss fell from {old:.4g} to {new:.4g}, so the weights stay, what it changed in them too"
        learnt = "what training has learnt since is kept"
        return f"its settings are taken back; {learnt if unknown else f'the loss has not risen, so {learnt}'}"

    def undo_all(self, now: Callable[[], Situation]) -> None:
        """Put everything back as it was before, to the bit."""
        take_back(self.action, now)
        self._snapshot.restore()

    def _all_back(self, now: Callable[[], Situation], why: str) -> str:
        self.undo_all(now)
        return f"{why}, so weights, optimizer and random streams are as they were at step {self.step}"


def take_back(action: Action, now: Callable[[], Situation]) -> None:
    """Undo what a snapshot can't; the rest goes on whether the action keeps its promise not to raise or not."""
    with suppress(Exception):
        action.undo(now())


def probe_loss(now: Situation) -> float | None:
    """The mean loss over the probe, which may be infinite; None where it can't be had."""
    try:
        probe = now.probe()
        with probe.isolated(), torch.no_grad():
            losses = [float(probe.loss_fn(probe.model, batch)) for batch in probe.batches]
    except Exception:
        return None
    return sum(weight * loss for weight, loss in zip(probe.weights, losses, strict=True))

"""What was measured before and after an action: what its criterion is judged by."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from eigenscope.actions.situation import Situation
from eigenscope.actions.trend import LAST, beats_trend
from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.flow import FlowReading
from eigenscope.diagnostics.reading import CurvatureReading

_RECENT = 10  # losses that count as the loss of now
_DOUBT = 2.326  # standard errors that two sides must differ by: 1 % by chance alone, in one direction; asked nine times
_SHOWN = (
    "stability_ratio", "lambda_max", "lambda_min", "condition_mean", "gradient_norm", "negative_count_certified",
)  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """The state of a run at one side of an action.

    `losses` are the training losses of this side alone, oldest first: up to the action, or since. `history` holds their
    steps as "loss_step"; without it they are taken for those of the last steps.
    """

    step: int
    losses: Sequence[float] = ()
    reading: CurvatureReading | None = None
    flow: FlowReading | None = None
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    probe_loss: float | None = None  # over the probe, if it was evaluated on this side

    @classmethod
    def of(cls, now: Situation, losses: Sequence[float] | None = None, probe_loss: float | None = None) -> Self:
        """From a situation; `losses` where its history reaches over to the other side of the action."""
        chosen = now.history.get("loss", ()) if losses is None else losses
        return cls(now.step, tuple(chosen), now.reading, now.flow, now.history, probe_loss)

    @property
    def loss(self) -> float | None:
        """The recent training loss, the median of the last few; without any, the probe's."""
        if self.losses:
            recent = list(self.losses)[-_RECENT:]
            return statistics.median(recent) if all(math.isfinite(x) for x in recent) else math.inf
        return self.on_probe

    @property
    def on_probe(self) -> float | None:
        """The loss over the probe."""
        return self.reading.loss if self.probe_loss is None and self.reading is not None else self.probe_loss

    def number(self, name: str) -> float | None:
        """A number of the reading by its published name; None where it is not known."""
        value = getattr(self.reading, name, None)
        if isinstance(value, Estimate):
            value = value.value
        return float(value) if isinstance(value, int | float) else None

    def to_dict(self) -> dict[str, object]:
        """Plain JSON: what a person wants to compare."""
        found: dict[str, object] = {"step": self.step, "loss": _finite(self.loss)}
        if self.reading is not None:
            found |= {"probe_loss": _finite(self.on_probe), "verdict": self.reading.verdict}
            found |= {name: _finite(self.number(name)) for name in _SHOWN}
            if self.reading.spectrum_step != self.reading.step:  # of an earlier check: it says nothing of this side
                found["condition_mean"] = None
        if self.flow is not None:
            found |= {"flow": self.flow.verdict, "depth_factor": _finite(self.flow.depth_factor)}
        return found


def loss_helped(before: Evidence, after: Evidence) -> bool | None:
    """True if the loss falls faster than it did before, False if it rose, None if that can't be told."""
    change = change_of_loss(before, after)
    if change == -1 and beats_trend(before, after):
        return True
    return False if change == 1 else None


def change_of_loss(before: Evidence, after: Evidence) -> int | None:
    """−1 if the loss fell, 1 if it rose or is not finite, 0 if the two can't be told apart, None if one is not known.

    By the ranks of the last training losses of both sides (Mann & Whitney 1947), so that the noise of minibatches
    decides nothing; where a side has none, by the loss on the probe.
    """
    old, new = list(before.losses)[-LAST:], list(after.losses)[-LAST:]
    if not all(map(math.isfinite, new)):
        return 1
    if old and new:
        pairs = len(old) * len(new)
        above = sum(int(y > x) - int(y < x) for x in old for y in new)  # from −pairs to pairs; 0 in the mean by chance
        doubt = _DOUBT * math.sqrt(pairs * (len(old) + len(new) + 1) / 3)
        return 0 if abs(above) <= doubt else (1 if above > 0 else -1)
    if before.on_probe is None or after.on_probe is None:
        return None
    return (after.on_probe > before.on_probe) - (after.on_probe < before.on_probe)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

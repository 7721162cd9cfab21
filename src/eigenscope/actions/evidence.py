"""What was measured before and after an action: what its criterion is judged by."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from eigenscope.actions.situation import Situation
from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.flow import FlowReading
from eigenscope.diagnostics.reading import CurvatureReading

_RECENT = 10  # losses that count as the loss of now
_SHOWN = (
    "stability_ratio", "lambda_max", "lambda_min", "condition_mean", "gradient_norm", "negative_count_certified",
)  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """The state of a run at one side of an action.

    `losses` are the training losses of this side alone, oldest first: up to the action, or since.
    """

    step: int
    losses: Sequence[float] = ()
    reading: CurvatureReading | None = None
    flow: FlowReading | None = None
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, now: Situation, losses: Sequence[float] | None = None) -> Self:
        """From a situation; `losses` where its history reaches over to the other side of the action."""
        chosen = now.history.get("loss", ()) if losses is None else losses
        return cls(now.step, tuple(chosen), now.reading, now.flow, now.history)

    @property
    def loss(self) -> float | None:
        """The recent training loss, the median of the last few; without any, the probe's."""
        if self.losses:
            recent = list(self.losses)[-_RECENT:]
            return statistics.median(recent) if all(math.isfinite(x) for x in recent) else math.inf
        return self.reading.loss if self.reading else None

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
            found |= {"probe_loss": _finite(self.reading.loss), "verdict": self.reading.verdict}
            found |= {name: _finite(self.number(name)) for name in _SHOWN}
        if self.flow is not None:
            found |= {"flow": self.flow.verdict, "depth_factor": _finite(self.flow.depth_factor)}
        return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

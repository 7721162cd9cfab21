"""What a monitor measures besides the curvature: now and then, for the same budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from eigenscope.bounds.certify import lipschitz
from eigenscope.bounds.memory import LipschitzMemory
from eigenscope.diagnostics.flow import FlowReading
from eigenscope.errors import InputError, first_line
from eigenscope.flow.settings import FlowSettings
from eigenscope.flow.signal import flow
from eigenscope.operators import Probe

# By turns, where a budget allows one measurement at a time: the curvature most often, and first.
_TURNS = ("curvature", "flow", "curvature", "lipschitz", "curvature", "flow", "curvature", "curvature")
_FAILURES = 3  # in a row, and a measurement is given up
_AGAIN = 16  # checks after which one that was given up is tried once more: the model may have changed
_DEADLINE = 20.0  # seconds for the norms of all layers; those that would take longer get a cheaper bound
_FLOW = FlowSettings(branches=False, max_matvecs=24)


class Reading(Protocol):
    """What a measurement gives."""

    @property
    def step(self) -> int: ...

    def to_dict(self) -> dict[str, object]: ...


@dataclass
class Instrument:
    """A measurement on the probe's first batch, every so many checks; `refused` says why it is no longer made."""

    measure: Callable[[Probe, int], Reading]
    scalars: Callable[[Any], Mapping[str, float | None]]
    every: int  # checks, where a check is due at fixed steps
    gradients: float  # a guess of its price before the first: so many gradients, and the seconds of its start-up
    seconds: float
    failures: int = 0
    refused: str | None = None
    refused_at: int = 0  # the check

    def failed(self, error: Exception, check: int = 0) -> bool:
        """Count a failure. Whether the measurement is given up: at once for what the model does not allow; numbers that
        are not finite are the run's trouble, not the model's."""
        self.failures += 1
        passing = not isinstance(error, InputError) or "NaN" in str(error) or "finite" in str(error)
        if not passing or self.failures >= _FAILURES:
            self.refused, self.refused_at = first_line(error), check
        return self.refused is not None

    def worked(self) -> None:
        """Forget what failed."""
        self.failures, self.refused = 0, None


@dataclass
class Instruments:
    """All of them, and whose turn it is."""

    known: dict[str, Instrument] = field(default_factory=dict)
    checks: int = 0

    @classmethod
    def chosen(cls, flow: bool, lipschitz: bool) -> Instruments:
        """Those that are wanted."""
        wanted = {"flow": flow, "lipschitz": lipschitz}
        return cls({kind: make() for kind, make in _MAKERS.items() if wanted[kind]})

    def due(self, fixed: bool) -> list[str]:
        """The kinds of the next check: with `fixed` distances the curvature and what comes with it, else one."""
        if not fixed:
            turn = _TURNS[self.checks % len(_TURNS)]
            return [turn if turn in self._working() else "curvature"]
        return ["curvature", *(kind for kind, one in self._working().items() if self.checks % one.every == 0)]

    def _working(self) -> dict[str, Instrument]:
        """Those that are not given up, or were so long ago."""
        return {k: one for k, one in self.known.items() if not one.refused or self.checks - one.refused_at >= _AGAIN}


def _flow_of(probe: Probe, step: int) -> FlowReading:
    return flow(probe, _FLOW, step=step)


def _flow_scalars(reading: FlowReading) -> Mapping[str, float | None]:
    worst = reading.worst
    return {
        "growth": reading.growth,
        "depth_factor": reading.depth_factor,
        "sigma_max": worst.sigma_max.value if worst else None,
    }


def _lipschitz() -> Callable[[Probe, int], Reading]:
    """The bounds, with the model's graph kept from one check to the next."""
    memory = LipschitzMemory()

    def measure(probe: Probe, step: int) -> Reading:
        return lipschitz(
            probe.model, probe.batches, ascent_steps=10, max_samples=16, step=step, memory=memory,
            deadline_seconds=_DEADLINE,
        )  # fmt: skip

    return measure


def _lipschitz_scalars(reading: Any) -> Mapping[str, float | None]:
    product = reading.lipschitz_product.value
    return {
        "lipschitz_lower": reading.lipschitz_lower.value,
        "lipschitz_upper": reading.lipschitz_upper.value,
        "lipschitz_product": math.log10(product) if product else None,  # beyond fp64 soon enough
        "certified_radius": reading.certified_radius,
        "attacked_radius": reading.attacked_radius,
    }


def not_measured(kind: str, reason: str) -> dict[str, object]:
    """What the run file holds in place of a measurement that can't be made: the same names, and why."""
    words, nothing = f"not measured: {reason}", {"value": None, "reason": reason}
    if kind == "flow":
        empty: dict[str, object] = {name: [] for name in ("blocks", "layers_at_fault", "remedies")}
        return {"reason": reason, "verdict": "unresolved", "verdict_reason": words, **empty}
    bounds = dict.fromkeys(("lipschitz_lower", "lipschitz_upper", "lipschitz_product"), nothing)
    return {"reason": reason, "risk": words, "no_global_bound": None, "layers": [], "samples": [], **bounds}


_MAKERS: dict[str, Callable[[], Instrument]] = {
    "flow": lambda: Instrument(_flow_of, _flow_scalars, every=4, gradients=60, seconds=0.3),
    "lipschitz": lambda: Instrument(_lipschitz(), _lipschitz_scalars, every=8, gradients=100, seconds=1.0),
}

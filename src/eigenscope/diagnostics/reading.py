"""Everything that one look at the loss landscape says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.operators.checks import SelfCheck
from eigenscope.words import counted


@dataclass(frozen=True)
class CountEstimate:
    """How many eigenvalues lie below −τ, estimated from the density."""

    value: float | None
    standard_error: float | None = None
    resolved: bool = False  # half of the Lanczos steps say the same, and τ lies wider than their nodes
    reason: str | None = None


@dataclass(frozen=True)
class Density:
    """The spectral density on a signed asinh axis, and the eigenvalues that stand out of it."""

    grid: NDArray[np.float64]  # eigenvalues, ascending
    values: NDArray[np.float64]  # eigenvalues per unit of asinh(λ / 10⁻³ε)
    outliers: tuple[Estimate, ...]  # converged, one eigenvalue each
    bulk: tuple[float, float]  # where the rest lies
    step: int


@dataclass(frozen=True)
class Escape:
    """A step along ±v_min: how far the loss should fall by its curvature, and how far it really fell."""

    step: float  # length, in the parameters' units
    sign: int  # along +v_min or −v_min
    predicted: float  # decrease of the loss by the quadratic model
    measured: float  # decrease of the loss over the probe


@dataclass(frozen=True)
class CurvatureReading:
    """The published numbers of a curvature measurement; each is defined in `eigenscope.diagnostics.definitions`.

    `to_dict()` gives the JSON that the command line prints and the run file holds: the same names.
    """

    loss: float
    lambda_max: Estimate
    lambda_min: Estimate
    spectral_radius: Estimate
    resolution: float
    noise_floor: float
    condition_number: Estimate
    condition_status: str
    condition_mean: Estimate
    iterations_to_halve: Estimate
    negative_count_certified: int
    negative_count_estimate: CountEstimate
    negative_share: Estimate
    verdict: str
    verdict_reason: str
    escape: Escape | None
    trace: Estimate
    density: Density | None
    top_eigenvalues: tuple[Estimate, ...]
    bottom_eigenvalues: tuple[Estimate, ...]
    stability_ratio: Estimate
    sharpness_score: Estimate
    optimizer: str
    gradient_norm: float
    num_matvecs: int
    cost_in_gradients: float
    seconds: float
    probe_samples: int
    num_parameters: int
    method: str
    matrix: str
    step: int
    kind: str  # "cold" from a random start, "warm" from the last check's vectors
    spectrum_step: int | None  # the step that trace, density and the count's estimate come from
    converged: bool
    self_check: SelfCheck | None
    notes: tuple[str, ...] = field(default=())
    adaptive: bool = False  # whether the optimizer scales each entry by its own history, as Adam and its kin do

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, strings, lists and dictionaries."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    def __str__(self) -> str:
        kappa = self.condition_number
        count = self.negative_count_estimate
        samples = counted(self.probe_samples, "sample")
        lines = {
            "loss": f"{self.loss:.4g}   gradient norm {self.gradient_norm:.3g}   ({samples})",
            "λmax": f"{self.lambda_max}   λmin {self.lambda_min}",
            "κ": f"{kappa}   λmax/mean|λ| {self.condition_mean}",
            "negative": f"{self.negative_count_certified} certified   {_count(count)}",
            "trace": f"{self.trace}",
            "sharpness": f"{self.sharpness_score}   (stability ratio {self.stability_ratio})",
            "verdict": f"{self.verdict}: {self.verdict_reason}",
            "cost": f"{counted(self.num_matvecs, 'product')}, {self.seconds:.2g} s, the time of "
            f"{self.cost_in_gradients:.0f} gradients ({self.method})",
        }
        notes = [f"note       {note}" for note in self.notes]
        return "\n".join([*(f"{name:10} {text}" for name, text in lines.items()), *notes])


def _count(count: CountEstimate) -> str:
    if count.value is None:
        return count.reason or ""
    return f"estimated {count.value:.3g} ± {count.standard_error:.2g}{'' if count.resolved else ' (not resolved)'}"


def _plain(value: object) -> object:
    if isinstance(value, Estimate):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, float) and math.isnan(value):
        return None
    return value

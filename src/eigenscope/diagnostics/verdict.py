"""Where on the landscape the parameters stand: the second-derivative test, with its doubts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eigenscope.diagnostics.condition import negative_definite
from eigenscope.diagnostics.extremes import Extremes
from eigenscope.words import counted


@dataclass(frozen=True)
class Verdict:
    """`minimum`, `saddle`, `plateau`, `not_converged` or `unresolved`, and why in a sentence."""

    name: str
    reason: str


def verdict(
    *,
    loss: float,
    gradient_norm: float,
    gradient_curvature: float,
    ends: Extremes,
    flat_share: float | None,
    gradient_tolerance: float = 1e-3,
) -> Verdict:
    """Judge a point from its gradient and its spectrum.

    The gradient is small where the best step along it, by the quadratic model, lowers the loss by less than
    `gradient_tolerance` of it: ‖g‖²/(2ρ) ≤ tolerance · |loss|, ρ = `gradient_curvature` = gᵀHg/‖g‖² (at least the noise
    floor: along a direction that curves down, what a step gains is not bounded). It is relative to the loss as it is
    given: a constant added to the loss changes the judgement.
    """
    radius, negative_count = ends.spectral_radius.value or 0.0, ends.negative_count_certified
    lambda_min, error = ends.lambda_min.value or 0.0, ends.lambda_min.error or 0.0
    bend = max(abs(gradient_curvature), ends.noise_floor)
    gain = gradient_norm**2 / (2 * bend) if bend > 0 else (0.0 if gradient_norm == 0 else math.inf)
    if gain > gradient_tolerance * abs(loss):
        if radius == 0.0:
            return Verdict("not_converged", "the loss has a gradient but no curvature: it is linear, or saturated")
        open_ways = f", and {counted(negative_count, 'certified direction')} of negative curvature"
        also = f"{open_ways} lead{'s' * (negative_count == 1)} down" if negative_count else ""
        return Verdict("not_converged", f"the gradient still promises {_share(gain, loss)} in one step{also}")
    if negative_definite(ends.lambda_max, ends.noise_floor):
        return Verdict("saddle", "the gradient vanishes, and the Hessian is negative definite: a maximum")
    if negative_count:
        ways = counted(negative_count, "certified direction")
        return Verdict("saddle", f"the gradient vanishes, but the loss falls along {ways}")
    if lambda_min - error < -0.01 * radius:  # negative curvature that would matter can't be excluded
        return Verdict(
            "unresolved",
            f"the gradient vanishes, but λmin = {lambda_min:.2g} ± {error:.1g} could be negative: allow more products",
        )
    if flat_share is not None and flat_share >= 0.5:
        return Verdict(
            "plateau",
            f"the gradient vanishes and {flat_share:.0%} of the directions are flat at this resolution: "
            "a degenerate minimum or a plateau, which second derivatives can't tell apart",
        )
    return Verdict("minimum", "the gradient vanishes and no direction curves downward at this resolution")


def _share(gain: float, loss: float) -> str:
    if not loss or gain > abs(loss):
        return "a decrease as large as the loss itself"
    return f"{gain / abs(loss):.2%} of the loss"

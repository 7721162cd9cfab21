"""How stretched the landscape is, and what that costs a gradient method."""

from __future__ import annotations

import math

from eigenscope.diagnostics.estimate import Estimate


def noise_floor(radius: float, resolution: float) -> float:
    """τ = max(10⁻³ ε, resolution): an eigenvalue nearer to 0 has no sign that could be told."""
    return max(1e-3 * radius, resolution)


def condition_status(lambda_min: Estimate, resolution: float, floor: float) -> str:
    """`definite`, `indefinite` (λmin certified negative) or `singular` (λmin not told from 0)."""
    value, error = lambda_min.value or 0.0, lambda_min.error or 0.0
    if value - error > resolution:
        return "definite"
    return "indefinite" if value + error < -floor else "singular"


def negative_definite(lambda_max: Estimate, floor: float) -> bool:
    """Whether even λmax is certified negative: a maximum, which counts among the `indefinite`."""
    return (lambda_max.value or 0.0) + (lambda_max.error or 0.0) < -floor


def condition_number(lambda_max: Estimate, lambda_min: Estimate, status: str) -> Estimate:
    """κ = λmax/λmin of a definite matrix; of any other it is not printed, for it means nothing."""
    if negative_definite(lambda_max, 0.0):
        return Estimate(None, reason="negative definite: a maximum, so κ is not defined")
    if status == "indefinite":
        return Estimate(None, reason="indefinite: there is negative curvature, so κ is not defined")
    if status == "singular" or not lambda_max.value or not lambda_min.value:
        return Estimate(None, reason="singular: λmin can't be told from 0, so κ has no upper bound")
    kappa = lambda_max.value / lambda_min.value
    worst = (lambda_max.value + (lambda_max.error or 0.0)) / (lambda_min.value - (lambda_min.error or 0.0))
    return Estimate(kappa, error=worst - kappa)


def iterations_to_halve(kappa: Estimate) -> Estimate:
    """ln 2 / ln((κ+1)/(κ−1)): steps of the best constant-step gradient descent that halve the distance to a minimum.

    From the contraction (κ−1)/(κ+1) a step on a quadratic (Nesterov 2004, theorem 2.1.15).
    """
    if kappa.value is None:
        return Estimate(None, reason=kappa.reason)

    def steps(k: float) -> float:
        return 0.0 if k <= 1.0 else math.log(2) / (2 * math.atanh(1 / k))  # ln((k+1)/(k−1)) = 2 artanh(1/k)

    spread = kappa.error or 0.0
    return Estimate(steps(kappa.value), error=max(steps(kappa.value + spread) - steps(kappa.value), 0.0))


def condition_mean(lambda_max: Estimate, mean_absolute: Estimate) -> Estimate:
    """λmax ÷ mean |λ|: how far the steepest direction stands out; means something when κ does not."""
    if not mean_absolute.value or lambda_max.value is None or lambda_max.value <= 0:
        return Estimate(None, reason="λmax is not positive, or the spectrum has not been measured")
    ratio = lambda_max.value / mean_absolute.value
    spread = abs(ratio) * (mean_absolute.standard_error or 0.0) / mean_absolute.value
    return Estimate(ratio, standard_error=spread)

"""The two ends of the spectrum, and the numbers that follow from them alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eigenscope.diagnostics import condition
from eigenscope.diagnostics.estimate import Estimate
from eigenscope.estimators import Krylov


@dataclass(frozen=True)
class Extremes:
    """The fields of a `CurvatureReading` that a Krylov run alone decides, under the same names."""

    lambda_max: Estimate
    lambda_min: Estimate
    spectral_radius: Estimate
    resolution: float
    noise_floor: float
    condition_number: Estimate
    condition_status: str
    iterations_to_halve: Estimate
    negative_count_certified: int
    negative_share: Estimate
    top_eigenvalues: tuple[Estimate, ...]
    bottom_eigenvalues: tuple[Estimate, ...]


def extremes(krylov: Krylov, sampling: tuple[float | None, float | None] = (None, None), top: int = 10) -> Extremes:
    """Read both ends off a Krylov run; `sampling` holds the sampling errors of λmin and λmax.

    Each error is the Ritz residual plus the measured noise of the product and the rounding of the arithmetic.
    """
    pairs = krylov.ritz()
    rounding = np.finfo(np.float64).eps * len(pairs.values) * pairs.spectral_radius
    values, errors = pairs.values, pairs.residuals + krylov.noise + rounding
    lambda_min = Estimate(float(values[0]), error=float(errors[0]), sampling_error=sampling[0])
    lambda_max = Estimate(float(values[-1]), error=float(errors[-1]), sampling_error=sampling[1])
    outer = float(max(errors[0], errors[-1]))
    floor = condition.noise_floor(pairs.spectral_radius, outer)
    status = condition.condition_status(lambda_min, outer, floor)
    kappa = condition.condition_number(lambda_max, lambda_min, status)
    return Extremes(
        lambda_max=lambda_max,
        lambda_min=lambda_min,
        spectral_radius=Estimate(pairs.spectral_radius, error=outer),
        resolution=outer,
        noise_floor=floor,
        condition_number=kappa,
        condition_status=status,
        iterations_to_halve=condition.iterations_to_halve(kappa),
        negative_count_certified=int(np.sum(values + errors < -floor)),
        negative_share=_negative_share(lambda_min, lambda_max),
        top_eigenvalues=_listed(values[::-1][:top], errors[::-1]),
        bottom_eigenvalues=_listed(values[:5], errors),
    )


def _listed(values: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[Estimate, ...]:
    return tuple(Estimate(float(v), error=float(e)) for v, e in zip(values, errors, strict=False))


def _negative_share(lambda_min: Estimate, lambda_max: Estimate) -> Estimate:
    low, high = lambda_min.value or 0.0, lambda_max.value or 0.0
    if high <= 0:
        return Estimate(None, reason="λmax is not positive")
    share = max(-low, 0.0) / high
    return Estimate(share, error=((lambda_min.error or 0.0) + share * (lambda_max.error or 0.0)) / high)

"""The accuracy that every tool must reach, and the distance of an answer from it."""

from __future__ import annotations

import numpy as np
from peers.base import Spectrum
from scipy.stats import wasserstein_distance
from truth import Truth

TARGETS = {
    "top": 1e-3,  # the largest relative error of the ten largest eigenvalues, in every repeat
    "lambda_min": 1e-3,  # relative to itself, in every repeat
    "trace": 0.05,  # root mean square of the relative error over seeds
}  # the density's error is reported beside them: one Lanczos run's depends on luck more than on its steps


def spectrum_errors(spectrum: Spectrum, truth: Truth) -> dict[str, float]:
    """Relative errors of the extremes; the density's Wasserstein distance over the mean \\|λ\\|."""
    top, found = np.array(truth.top), np.array(spectrum.top[:10])
    spread = np.abs(truth.nodes) @ np.array(truth.weights)
    distance = wasserstein_distance(spectrum.nodes, truth.nodes, spectrum.weights, truth.weights)
    return {
        "top": float(np.max(np.abs(found / top - 1))) if len(found) == 10 else float("inf"),
        "lambda_min": abs(spectrum.lambda_min / truth.lambda_min - 1),
        "density": float(distance / spread),
    }


def shortfall(errors: dict[str, float]) -> float:
    """The largest error in units of its target: reached where it is 1 or less."""
    return max(error / TARGETS[name] for name, error in errors.items() if name in TARGETS)

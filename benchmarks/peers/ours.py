"""eigenscope's own side of the comparison: one call, one reading."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor
from workloads import Workload, mean_loss

import eigenscope as es
from eigenscope.operators import HessianOperator, Probe
from peers.base import Reading, Spectrum


def measure_ours(workload: Workload, seed: int) -> Reading:
    """The whole reading by `es.curvature`, cold."""
    found = es.curvature(workload.model, mean_loss, [workload.batch], seed=seed)
    density = found.density
    assert density is not None, "a cold reading has a density"
    outliers = np.array([outlier.value for outlier in density.outliers])
    bulk = density.values / density.values.sum() * (workload.num_parameters - len(outliers))  # the asinh grid is even
    spectrum = Spectrum(
        top=[_known(eigenvalue.value) for eigenvalue in found.top_eigenvalues],
        lambda_min=_known(found.lambda_min.value),
        nodes=[*density.grid, *outliers],
        weights=[*bulk, *np.ones(len(outliers))],
    )
    return Reading(spectrum, _known(found.trace.value), found.num_matvecs)


def our_product(workload: Workload) -> Callable[[Tensor], Tensor]:
    """One product of the Hessian with a flat vector, on kept graphs."""
    return HessianOperator(Probe(workload.model, mean_loss, [workload.batch])).__matmul__


def _known(value: float | None) -> float:
    return float("nan") if value is None else value

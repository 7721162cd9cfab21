"""The density that is drawn: within what is certified, and of as many eigenvalues as there are."""

import numpy as np
import pytest
import torch

from eigenscope.diagnostics.density import spectrum_of
from eigenscope.diagnostics.extremes import extremes
from eigenscope.estimators import TraceEstimate, lanczos
from eigenscope.operators import DenseOperator
from spectra import SPECTRA


@pytest.mark.parametrize("name", SPECTRA)
def test_the_density_ends_where_the_certified_extremes_do_and_keeps_its_mass(name: str) -> None:
    operator = DenseOperator(SPECTRA[name]().matrix)
    generator = operator.space.generator(0)
    krylov = lanczos(operator, operator.space.random(generator), steps=20, generator=generator)
    ends, density = extremes(krylov), spectrum_of(krylov, TraceEstimate(0.0, 0.0, 0.0, 0), 0).density
    low, high = ends.lambda_min, ends.lambda_max
    assert density.grid[0] >= (low.value or 0.0) - (low.error or 0.0) - 1e-12
    assert density.grid[-1] <= (high.value or 0.0) + (high.error or 0.0) + 1e-12
    axis = np.arcsinh(density.grid / (1e-3 * (ends.spectral_radius.value or 0.0)))
    held = operator.space.size - len(density.outliers)
    assert density.values.sum() * (axis[1] - axis[0]) == pytest.approx(held, rel=1e-6)


def test_a_positive_spectrum_shows_no_density_below_0() -> None:
    operator = DenseOperator(torch.diag(torch.linspace(1.0, 2.0, 200, dtype=torch.float64)))
    generator = operator.space.generator(0)
    krylov = lanczos(operator, operator.space.random(generator), steps=15, generator=generator)
    assert spectrum_of(krylov, TraceEstimate(300.0, 1.0, 0.0, 0), 0).density.grid[0] > 0

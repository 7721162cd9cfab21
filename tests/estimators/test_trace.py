"""The trace: exact where the basis reaches, and elsewhere as far off as it says."""

import numpy as np
import pytest
import torch

from eigenscope.estimators import TraceEstimate, deflated_trace, lanczos
from eigenscope.operators import DenseOperator
from spectra import SPECTRA, indefinite, neural


def estimate(matrix: torch.Tensor, *, steps: int = 30, seed: int = 0, **options: float) -> TraceEstimate:
    operator = DenseOperator(matrix)
    generator = operator.space.generator(seed)
    run = lanczos(operator, operator.space.random(generator), steps=steps, generator=generator)
    before = operator.num_matvecs
    found = deflated_trace(operator, run, generator=generator, **options)  # type: ignore[arg-type]
    assert operator.num_matvecs - before == found.num_probes
    return found


@pytest.mark.parametrize("name", SPECTRA)
def test_a_complete_basis_leaves_nothing_to_estimate(name: str) -> None:
    made = SPECTRA[name]()
    found = estimate(made.matrix, steps=10_000)
    assert found.num_probes == 0
    assert found.standard_error == 0
    assert found.value == pytest.approx(float(made.eigenvalues.sum()), rel=1e-10)
    assert found.frobenius_squared == pytest.approx(float(made.eigenvalues.square().sum()), rel=1e-10)


@pytest.mark.parametrize("name", SPECTRA)
def test_the_trace_is_within_three_standard_errors(name: str) -> None:
    made = SPECTRA[name]()
    found = estimate(made.matrix)
    assert abs(found.value - float(made.eigenvalues.sum())) <= 3 * found.standard_error


def test_it_stops_at_the_tolerance_or_at_the_last_probe() -> None:
    matrix = neural().matrix
    loose, tight = (estimate(matrix, tolerance=tolerance, max_probes=40) for tolerance in (0.05, 0.004))
    assert loose.num_probes < tight.num_probes < 40
    assert tight.standard_error <= 0.004 * tight.value
    assert estimate(matrix, tolerance=1e-9, max_probes=7).num_probes == 7


def test_without_a_probe_the_error_is_infinite_not_zero() -> None:
    assert estimate(neural().matrix, max_probes=0).standard_error == float("inf")


def test_deflation_is_what_makes_it_cheap() -> None:
    """Ten outliers hold 80 % of the trace and nearly all of the variance; the basis takes them out."""
    matrix = neural().matrix
    with_basis, without = (estimate(matrix, steps=steps, tolerance=0, max_probes=10) for steps in (30, 1))
    assert with_basis.standard_error < 0.1 * without.standard_error


def test_the_frobenius_norm_is_estimated_from_the_same_products() -> None:
    made = indefinite()
    truth = float(made.eigenvalues.square().sum())
    found = np.mean([estimate(made.matrix, seed=seed, tolerance=0).frobenius_squared for seed in range(10)])
    assert found == pytest.approx(truth, rel=0.05)  # 120 probes of a spectrum with a relative spread of about 1


def test_one_dimension_left_is_known_exactly() -> None:
    made = indefinite(30)
    found = estimate(made.matrix, steps=29)
    assert found.value == pytest.approx(float(made.eigenvalues.sum()), rel=1e-10)
    assert found.standard_error < 1e-7

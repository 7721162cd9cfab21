"""The spectral measure: outliers one by one, the bulk in proportion, and an error on every count."""

import numpy as np
import pytest
import torch

from eigenscope.estimators import Krylov, SpectralMeasure, lanczos, smoothed, spectral_measure
from eigenscope.operators import DenseOperator
from spectra import SPECTRA, conjugated, definite, indefinite, neural


def run(matrix: torch.Tensor, *, steps: int = 46, seed: int = 0) -> Krylov:
    operator = DenseOperator(matrix)
    generator = operator.space.generator(seed)
    return lanczos(operator, operator.space.random(generator), steps=steps, generator=generator)


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("half", [False, True])
def test_a_measure_holds_n_eigenvalues(name: str, half: bool) -> None:
    measure = spectral_measure(run(SPECTRA[name]().matrix), half=half)
    assert measure.weights.sum() == pytest.approx(1)
    assert (measure.weights >= 0).all()
    assert (np.diff(measure.nodes) >= 0).all()
    assert measure.bulk_size + len(measure.outliers) == measure.size


def test_the_outliers_of_a_network_like_spectrum_are_found_one_by_one() -> None:
    made = neural()
    measure = spectral_measure(run(made.matrix))
    truth = made.eigenvalues.numpy()
    large = measure.outliers[measure.outliers > 4]
    np.testing.assert_allclose(large, truth[-10:], rtol=1e-6)
    for value, error in zip(measure.outliers, measure.outlier_errors, strict=True):
        assert np.abs(truth - value).min() <= error + 1e-12


def test_a_cluster_is_not_taken_for_a_single_outlier() -> None:
    """Fifty eigenvalues at 1 among 100: they stay in the bulk, with their weight."""
    values = torch.cat([torch.ones(50), torch.linspace(-0.2, 0.2, 50)]).double()
    measure = spectral_measure(run(conjugated(values).matrix))
    assert not (np.abs(measure.outliers - 1) < 0.1).any()
    count, error = measure.count_below(0.5)
    assert abs((100 - count) - 50) <= 3 * error
    assert error < 15


def test_a_complete_run_counts_exactly() -> None:
    made = indefinite()
    measure = spectral_measure(run(made.matrix, steps=10_000))
    assert len(measure.nodes) == 0
    for threshold in (-0.3, -0.15, -0.05, 0.0, 1.0):
        assert measure.count_below(threshold) == (int((made.eigenvalues < threshold).sum()), 0.0)
    total, error = measure.absolute_sum((0.0, 1.0))
    assert total == pytest.approx(float(made.eigenvalues.abs().sum()))
    assert error == 0


def test_counts_grow_with_the_threshold_from_none_to_all() -> None:
    measure = spectral_measure(run(neural().matrix))
    counts = [measure.count_below(threshold)[0] for threshold in np.linspace(-1, 110, 500)]
    assert counts[0] == 0
    assert counts[-1] == pytest.approx(500)
    assert (np.diff(counts) >= -1e-9).all()


def test_in_a_definite_matrix_the_absolute_sum_is_the_trace() -> None:
    """Then both are one number, and the trace's own error is all that is left."""
    measure = spectral_measure(run(definite(1e2).matrix))
    total, error = measure.absolute_sum((40.0, 0.5))
    assert total == pytest.approx(40.0, abs=2.0)
    assert 0.4 < error < 0.6


def test_a_trace_that_chance_can_t_explain_counts_as_error() -> None:
    """Two eigenvalues of 3 seen as one: the trace says so, and the stated error covers what is missing."""
    empty = np.zeros(0)
    measure = SpectralMeasure(12, np.array([3.0]), np.zeros(1), np.array([0.1]), np.ones(1))
    assert measure.absolute_sum((4.1, 0.01)) == (pytest.approx(4.1), pytest.approx(0, abs=1e-6))
    total, error = measure.absolute_sum((7.0, 0.01))
    assert abs(total - 7.0) <= error * 1.02
    assert SpectralMeasure(1, np.array([-3.0]), np.zeros(1), empty, empty).absolute_sum((-3.0, 0.0)) == (3.0, 0.0)


# -- the drawn density ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("points", [65, 257])
def test_the_drawn_density_integrates_to_the_size_of_the_bulk(name: str, points: int) -> None:
    """On the asinh axis, on which it is drawn."""
    measure = spectral_measure(run(SPECTRA[name]().matrix))
    grid, values = smoothed(measure, width=1e-3, points=points)
    axis = np.arcsinh(grid / 1e-3)
    assert values.sum() * (axis[1] - axis[0]) == pytest.approx(measure.bulk_size, rel=1e-9)
    assert (values >= 0).all()
    assert grid[0] < min(measure.nodes.min(initial=np.inf), measure.outliers.min(initial=np.inf))
    assert grid[-1] > max(measure.nodes.max(initial=-np.inf), measure.outliers.max(initial=-np.inf))


def test_a_complete_spectrum_has_outliers_only_and_a_density_of_zero() -> None:
    measure = spectral_measure(run(indefinite(30).matrix, steps=30))
    _, values = smoothed(measure, width=1e-3)
    assert not values.any()


@pytest.mark.parametrize("n", [1, 2, 50])
def test_a_zero_matrix_has_a_density_too(n: int) -> None:
    measure = spectral_measure(run(torch.zeros(n, n, dtype=torch.float64)))
    grid, values = smoothed(measure, width=1e-300)
    assert np.isfinite(grid).all()
    assert np.isfinite(values).all()

"""One Krylov run: on matrices whose spectrum is prescribed, held against the truth and against its own error bars."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import eigsh

from comparer import random_block
from eigenscope.errors import MeasurementError
from eigenscope.estimators import Krylov, RitzPairs, lanczos
from eigenscope.estimators.projected import spectral_norm
from eigenscope.operators import DenseOperator
from spectra import SPECTRA, Prescribed, conjugated, degenerate, indefinite, neural

Array = NDArray[np.float64]


def krylov(matrix: torch.Tensor, *, steps: int = 46, seed: int = 0, **options: object) -> Krylov:
    operator = DenseOperator(matrix)
    generator = operator.space.generator(seed)
    start = operator.space.random(generator)
    run = lanczos(operator, start, steps=steps, generator=generator, **options)  # type: ignore[arg-type]
    assert run.num_matvecs == operator.num_matvecs
    return run


def eigenvalues(made: Prescribed) -> Array:
    return made.eigenvalues.numpy()


def distance_to_spectrum(pairs: RitzPairs, spectrum: Array) -> Array:
    """How far each Ritz value is from the eigenvalue that is nearest to it."""
    gaps: Array = np.abs(pairs.values[:, None] - spectrum).min(1)
    return gaps


# -- the residual is a bound ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [3, 12, 46])
@pytest.mark.parametrize("name", SPECTRA)
def test_an_eigenvalue_lies_within_the_residual_of_every_ritz_value(name: str, steps: int) -> None:
    """Parlett 1998, theorem 4.5.1: whatever the spectrum, converged or not; to rounding of the largest eigenvalue."""
    made = SPECTRA[name]()
    pairs = krylov(made.matrix, steps=steps).ritz()
    assert (distance_to_spectrum(pairs, eigenvalues(made)) <= pairs.residuals + 1e-14 * pairs.spectral_radius).all()


@pytest.mark.parametrize("name", SPECTRA)
def test_the_stated_residual_is_the_norm_of_av_minus_theta_v(name: str) -> None:
    matrix = SPECTRA[name]().matrix
    run = krylov(matrix, steps=15)
    pairs = run.ritz()
    vectors = run.vectors(pairs.coefficients)
    true = (vectors @ matrix - torch.as_tensor(pairs.values)[:, None] * vectors).norm(dim=1).numpy()
    np.testing.assert_allclose(pairs.residuals, true, atol=1e-13 * pairs.spectral_radius)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(15, dtype=torch.float64))


@pytest.mark.parametrize("name", SPECTRA)
def test_the_ends_agree_with_scipy_to_the_stated_error(name: str) -> None:
    """ARPACK to machine precision is the second oracle, besides the prescribed spectrum."""
    matrix = SPECTRA[name]().matrix
    low, high = (
        float(eigsh(matrix.numpy(), k=1, which=end, ncv=150, return_eigenvectors=False)[0]) for end in ("SA", "LA")
    )
    pairs = krylov(matrix).ritz()
    scale = 1e-12 * pairs.spectral_radius
    assert abs(pairs.values[-1] - high) <= pairs.residuals[-1] + scale
    assert abs(pairs.values[0] - low) <= pairs.residuals[0] + scale


def test_the_expected_error_is_far_closer_than_the_residual() -> None:
    """Kato–Temple: r²/gap. Where the ten outliers of a network-like spectrum have converged, by orders."""
    made = neural()
    pairs = krylov(made.matrix, steps=18).ritz()
    errors = np.abs(pairs.values[::-1][:8] - eigenvalues(made)[::-1][:8])
    expected = pairs.expected_errors()[::-1][:8]
    assert (expected <= pairs.residuals[::-1][:8]).all()
    assert (errors <= 2 * expected + 1e-12).all()


def test_a_longer_run_is_never_worse_at_the_ends() -> None:
    """Cauchy interlacing: each step can only move the ends outwards."""
    matrix = indefinite().matrix
    ends = np.array([krylov(matrix, steps=steps).ritz().values[[0, -1]] for steps in (5, 10, 20, 40)])
    assert (np.diff(ends[:, 0]) <= 1e-14).all()
    assert (np.diff(ends[:, 1]) >= -1e-14).all()


# -- complete and broken-down runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECTRA)
def test_a_complete_run_is_exact(name: str) -> None:
    made = SPECTRA[name]()
    run = krylov(made.matrix, steps=10_000)
    assert run.complete
    assert run.num_matvecs == len(made.eigenvalues)
    spectrum = eigenvalues(made)
    np.testing.assert_allclose(run.ritz().values, spectrum, atol=1e-12 * np.abs(spectrum).max())


SMALL_OR_FLAT = {
    "n = 1": torch.tensor([[-2.0]], dtype=torch.float64),
    "n = 1, zero": torch.zeros(1, 1, dtype=torch.float64),
    "n = 2": torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64),
    "zero": torch.zeros(40, 40, dtype=torch.float64),
    "identity": 3 * torch.eye(40, dtype=torch.float64),
    "rank one": torch.ones(40, 40, dtype=torch.float64),
    "rank three": conjugated(torch.tensor([5.0, -1.0, 2.0] + [0.0] * 37, dtype=torch.float64)).matrix,
    "diagonal": torch.diag(torch.arange(40, dtype=torch.float64)),
    "tiny": 1e-140 * indefinite(40).matrix,
    "huge": 1e140 * torch.diag(torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)),
}


@pytest.mark.parametrize("name", SMALL_OR_FLAT)
@pytest.mark.parametrize("steps", [10, 100])
def test_a_krylov_space_that_is_exhausted_early_is_continued(name: str, steps: int) -> None:
    """Each matrix has few distinct eigenvalues or few altogether: the run goes on in the complement, and is right."""
    matrix = SMALL_OR_FLAT[name]
    truth = torch.linalg.eigvalsh(matrix).numpy()
    run = krylov(matrix, steps=steps)
    pairs, scale = run.ritz(), np.abs(truth).max() or 1.0
    assert len(pairs.values) == min(steps, len(truth))
    np.testing.assert_allclose(pairs.values[-1], truth[-1], atol=pairs.residuals[-1] + 1e-12 * scale)
    np.testing.assert_allclose(pairs.values[0], truth[0], atol=pairs.residuals[0] + 1e-12 * scale)
    if run.complete:
        np.testing.assert_allclose(pairs.values / scale, truth / scale, atol=1e-12)


def test_repeated_eigenvalues_are_found_as_often_as_they_are_there() -> None:
    """A single vector sees each distinct eigenvalue once; the copies come from the random continuations."""
    made = degenerate(60)
    values = krylov(made.matrix, steps=60).ritz().values
    np.testing.assert_allclose(values, eigenvalues(made), atol=1e-12)


# -- short memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["definite_1e2", "indefinite", "neural"])
def test_a_thick_restart_gives_the_same_values_for_a_few_products_more(name: str) -> None:
    """20 vectors kept, a third at the lower end. Each end within the stated residual, and the upper one exact."""
    made = SPECTRA[name]()
    spectrum, run = eigenvalues(made), krylov(made.matrix, steps=90, max_basis=20)
    pairs = run.ritz()
    assert run.restarts > 3
    assert run.basis.capacity == 20
    assert (distance_to_spectrum(pairs, spectrum) <= pairs.residuals + 1e-12 * pairs.spectral_radius).all()
    assert pairs.values[-1] == pytest.approx(spectrum[-1], rel=1e-6)
    assert abs(pairs.values[0] - spectrum[0]) <= pairs.residuals[0] + 1e-12 * pairs.spectral_radius


def test_after_a_restart_the_basis_is_orthonormal_and_the_projection_is_that_of_the_matrix() -> None:
    matrix = indefinite().matrix
    run = krylov(matrix, steps=41, max_basis=12)
    rows = torch.stack([run.basis[i] for i in range(run.basis.count)])
    torch.testing.assert_close(rows @ rows.T, torch.eye(run.basis.count, dtype=torch.float64))
    np.testing.assert_allclose(run.projected, (rows @ matrix @ rows.T).numpy(), atol=1e-13)


@pytest.mark.parametrize("room", [3, 4, 7])
def test_a_basis_of_very_few_vectors_still_ends_and_still_bounds(room: int) -> None:
    made = indefinite(60)
    run = krylov(made.matrix, steps=60, max_basis=room)
    pairs = run.ritz()
    assert run.num_matvecs == 60
    assert (distance_to_spectrum(pairs, eigenvalues(made)) <= pairs.residuals + 1e-12).all()


def test_a_short_memory_limit_stores_single_precision_and_keeps_six_digits() -> None:
    """46 vectors of 500 entries take 184 kB in fp64; with less the basis is fp32, sums stay fp64."""
    made = neural()
    run = krylov(made.matrix, memory_limit=100_000)
    pairs = run.ritz()
    assert run.basis.nbytes == 46 * 500 * 4
    np.testing.assert_allclose(pairs.values[::-1][:10], eigenvalues(made)[::-1][:10], rtol=1e-6)
    assert run.noise < 1e-6 * pairs.spectral_radius


# -- what comes for free --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", range(8))
def test_the_quadrature_integrates_polynomials_exactly(power: int) -> None:
    """m Gauss nodes hold the first 2m − 1 moments ⟨v, Aᵏv⟩; half of 10 steps is 5 nodes, up to the 9th power."""
    matrix, v = indefinite().matrix, random_block(200, 1)[:, 0]
    operator = DenseOperator(matrix)
    run = lanczos(operator, v, steps=10, generator=operator.space.generator(0))
    v = v / v.norm()
    moment = float(v @ torch.linalg.matrix_power(matrix, power) @ v)
    for quadrature in (run.quadrature, run.half_quadrature):
        assert quadrature.weights @ quadrature.nodes**power == pytest.approx(moment, rel=1e-11)


def test_the_quadrature_is_that_of_the_first_start_also_after_restarts() -> None:
    matrix = indefinite().matrix
    whole, restarted = krylov(matrix, steps=12), krylov(matrix, steps=50, max_basis=12)
    np.testing.assert_allclose(restarted.quadrature.nodes, whole.quadrature.nodes)
    np.testing.assert_allclose(restarted.quadrature.weights, whole.quadrature.weights)


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e-2])
def test_the_noise_is_the_asymmetry_of_the_product(size: float) -> None:
    """An antisymmetric part of spectral norm `size`: a Krylov space of 46 of 200 dimensions sees a good part of it."""
    matrix = indefinite().matrix
    skew = random_block(200, 200)
    skew = skew - skew.T
    noise = krylov(matrix + size * skew / spectral_norm(skew.numpy())).noise
    assert 0.05 * size < noise < 2 * size
    assert krylov(matrix).noise < 1e-14


def test_the_run_stops_when_it_is_told_and_not_before_the_first_test() -> None:
    seen: list[int] = []

    def content(pairs: RitzPairs) -> bool:
        seen.append(len(pairs.values))
        return len(pairs.values) >= 9

    assert krylov(indefinite().matrix, first_test=6, stop=content).num_matvecs == 9
    assert seen[0] == 6


def test_the_same_seed_gives_the_same_numbers_and_another_seed_other_ones() -> None:
    matrix = indefinite().matrix
    first, again, other = (krylov(matrix, steps=10, seed=seed).ritz().values for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).all()


def test_a_product_that_is_not_finite_is_told() -> None:
    matrix = torch.eye(5, dtype=torch.float64)
    matrix[2, 3] = float("nan")
    with pytest.raises(MeasurementError, match="a product of the matrix with a vector is not finite"):
        krylov(matrix)

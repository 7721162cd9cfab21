"""The bounds behind the errors, on matrices where the truth is known."""

import numpy as np
import pytest
import torch

from eigenscope.lowrank.bounds import PROBES, inflation, upper_errors
from eigenscope.lowrank.krylov import Krylov, gaussian
from eigenscope.lowrank.matrix import Matrix
from lowrank.matrices import conjugated


@pytest.mark.parametrize("seed", range(40))
def test_a_coupling_moves_no_singular_value_further_than_the_bound(seed):
    """[diag(θ) E; 0 C] with random E and C, from separated to overlapping."""
    generator = np.random.default_rng(seed)
    theta = np.sort(generator.uniform(1, 2, 5))[::-1]
    rest = generator.standard_normal((6, 4))
    rest *= generator.uniform(0.3, 1.8) / np.linalg.norm(rest, 2)
    coupling = generator.standard_normal((5, 4))
    coupling *= 10 ** generator.uniform(-3, 0) / np.linalg.norm(coupling, 2)
    whole = np.block([[np.diag(theta), coupling], [np.zeros((6, 5)), rest]])
    true = np.linalg.svd(whole, compute_uv=False)[:5]
    errors = upper_errors(theta, np.linalg.norm(coupling, 2), np.linalg.norm(rest, 2))
    assert np.all(true >= theta - 1e-14)
    assert np.all(true - theta <= errors + 1e-14)


def test_the_bound_is_attained_by_two_by_two_matrices():
    """σ₁ of [[1, e], [0, c]] against the closed form: within twice for a wide gap, so no needless factor is in it."""
    for c, e in [(0.1, 1e-2), (0.5, 1e-3), (0.9, 1e-3)]:
        true = np.linalg.svd(np.array([[1, e], [0, c]]), compute_uv=False)[0] - 1
        (bound,) = upper_errors(np.array([1.0]), e, c)
        assert true <= bound <= 2.2 * true


@pytest.mark.parametrize("name", ["flat", "linear", "exponential"])
def test_the_norm_of_a_matrix_is_never_above_the_inflated_estimate(name):
    """For 40 seeds and each number of steps: flat spectra are the easiest, a dense upper edge the hardest."""
    spectrum = {"flat": np.ones(300), "linear": np.linspace(1, 0, 300), "exponential": np.exp(-np.arange(300) / 30)}
    x = Matrix(conjugated(spectrum[name], seed=1))
    for seed in range(40):
        space = Krylov(x, gaussian(300, PROBES, torch.Generator().manual_seed(seed), x.device))
        for steps in (1, 2, 3, 4, 6, 8):
            while space.size < steps * PROBES:
                space.step()
            estimate = space.ritz().theta[0]
            assert estimate <= 1 + 1e-12
            assert estimate * inflation(steps, 300) >= 1


def test_few_steps_promise_nothing_and_a_complete_space_is_exact():
    assert inflation(1, 10**6) == np.inf
    assert 1 < inflation(24, 10**4) < inflation(8, 10**4) < 1.3
    assert inflation(8, 8 * PROBES) == 1


def test_the_bases_of_a_krylov_space_stay_orthonormal_and_its_residuals_are_the_true_ones():
    x = conjugated(np.exp(-np.arange(120) / 3), 150, seed=2)  # rank 100 or so in fp64: blocks vanish on the way
    space = Krylov(Matrix(x), gaussian(120, 16, torch.Generator().manual_seed(0), torch.device("cpu")))
    while not space.complete:
        space.step()
        ritz = space.ritz()
        left, right = (item.numpy() for item in space.triplets(ritz, space.size))
        np.testing.assert_allclose(left.T @ left, np.eye(space.size), atol=1e-13)
        np.testing.assert_allclose(right.T @ right, np.eye(space.size), atol=1e-13)
        np.testing.assert_allclose(x @ right, left * ritz.theta, atol=1e-14)
        residuals = np.linalg.norm(x.T @ left - right * ritz.theta, axis=0)
        np.testing.assert_allclose(residuals, ritz.residuals, atol=1e-14)
    assert space.size == 120
    np.testing.assert_allclose(ritz.theta, np.exp(-np.arange(120) / 3), atol=1e-14)


def test_directions_that_were_injected_are_in_the_space_and_its_residuals_stay_true():
    x = conjugated(np.linspace(2, 1, 80), 90, seed=3)
    space = Krylov(Matrix(x), gaussian(80, 8, torch.Generator().manual_seed(0), torch.device("cpu")))
    space.step()
    extra = gaussian(80, 3, torch.Generator().manual_seed(1), torch.device("cpu"))
    space.inject(extra)
    space.step()
    assert space.size == 19
    ritz = space.ritz()
    left, right = (item.numpy() for item in space.triplets(ritz, 19))
    inside = right @ (right.T @ extra.numpy())
    np.testing.assert_allclose(inside, extra.numpy(), atol=1e-12)
    residuals = np.linalg.norm(x.T @ left - right * ritz.theta, axis=0)
    np.testing.assert_allclose(residuals, ritz.residuals, atol=1e-13)

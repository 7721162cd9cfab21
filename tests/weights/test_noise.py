"""A random matrix is called noise, a trained one is not; spikes are found where they were put."""

import numpy as np
import pytest
import torch

from eigenscope.estimators.gram import singular_spectrum
from eigenscope.weights.noise import fit_noise, noise_edge
from eigenscope.weights.tails import against_lognormal, fit_power_law


def values(matrix: np.ndarray) -> np.ndarray:
    """Well conditioned or not, to the digits that count here, at a tenth of an SVD's price."""
    return singular_spectrum(torch.from_numpy(matrix), exact=False).singular_values


@pytest.mark.parametrize("shape", [(64, 64), (100, 1000), (128, 512), (256, 256)])
@pytest.mark.parametrize("entries", ["normal", "uniform"])
def test_at_most_5_of_100_random_matrices_are_called_anything_but_noise(shape, entries):
    """The issue's goal, for four shapes; the law does not depend on the entries' distribution."""
    otherwise = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        matrix = rng.standard_normal(shape) if entries == "normal" else rng.uniform(-1, 1, shape)
        otherwise += not fit_noise(values(0.02 * matrix), *shape).is_noise
    assert otherwise <= 5


def test_the_scale_is_the_entries_standard_deviation():
    found = fit_noise(values(0.3 * np.random.default_rng(0).standard_normal((200, 500))), 200, 500)
    assert found.scale == pytest.approx(0.3, rel=0.01)
    assert found.edge == pytest.approx(0.3 * (200**0.5 + 500**0.5), rel=0.02)  # Marchenko & Pastur's edge


@pytest.mark.parametrize("count", [1, 3, 10])
def test_as_many_spikes_as_were_put_in_are_found(count):
    rng = np.random.default_rng(count)
    noise = rng.standard_normal((200, 400))
    left, right = (np.linalg.qr(rng.standard_normal((n, count)))[0] for n in (200, 400))
    found = fit_noise(values(noise + 80 * left @ right.T), 200, 400)
    assert found.spikes == count
    assert not found.is_noise


def test_the_largest_value_of_noise_exceeds_the_edge_in_about_one_case_of_a_hundred():
    rng = np.random.default_rng(0)
    over = sum(values(rng.standard_normal((60, 120)))[0] > noise_edge(1.0, 60, 120) for _ in range(400))
    assert over <= 12  # 4 are expected; 12 would be four standard deviations


def test_equal_singular_values_are_not_noise():
    assert not fit_noise(np.ones(64), 64, 64).is_noise


@pytest.mark.parametrize("alpha", [2.0, 2.5, 4.0])
def test_the_exponent_of_a_power_law_is_found_within_its_standard_error(alpha):
    """λ = (1 − u)^(−1/(α−1)) has density (α−1)·λ^−α above 1."""
    off = []
    for seed in range(20):
        drawn = (1 - np.random.default_rng(seed).random(2000)) ** (-1 / (alpha - 1))
        fit = fit_power_law(np.sqrt(np.sort(drawn)[::-1]))
        assert fit is not None
        assert fit.preferred == "power_law"
        assert fit.distance < 0.04
        off.append((fit.alpha - alpha) / fit.standard_error)
    assert np.mean(np.abs(off) < 2) >= 0.8


def test_a_lognormal_is_not_taken_for_a_power_law():
    taken = 0
    for seed in range(20):
        drawn = np.exp(0.7 * np.random.default_rng(seed).standard_normal(3000))
        fit = fit_power_law(np.sqrt(np.sort(drawn)[::-1]))
        assert fit is not None
        taken += fit.preferred == "power_law" and fit.tail_count > 3000 / 4
    assert taken == 0


def test_a_lognormal_is_preferred_where_the_whole_of_it_is_seen():
    """Fitted from the mode on, a lognormal of this width curves too much for any power law."""
    drawn = np.sort(np.exp(0.7 * np.random.default_rng(0).standard_normal(20000)))
    tail = drawn[drawn > 1.0][::-1]
    ratio, chance = against_lognormal(tail[::-1], 1 + 1 / float(np.mean(np.log(tail / tail[-1]))))
    assert ratio < -5
    assert chance < 1e-6


def test_a_short_spectrum_has_no_exponent():
    assert fit_power_law(np.linspace(1, 2, 19)) is None
    assert fit_power_law(np.ones(100)) is None

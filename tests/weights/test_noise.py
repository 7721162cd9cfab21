"""A random matrix is called noise, a trained one is not; spikes are found where they were put."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_ndtr

from eigenscope.estimators.gram import singular_spectrum
from eigenscope.weights.noise import fit_noise, noise_edge
from eigenscope.weights.tails import _lognormal, against_lognormal, fit_power_law


def values(matrix: np.ndarray) -> np.ndarray:
    """Well conditioned or not, to the digits that count here, at a tenth of an SVD's price."""
    return singular_spectrum(torch.from_numpy(matrix), floor=np.inf).singular_values


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
    over = sum(values(rng.standard_normal((60, 120)))[0] > noise_edge(1.0, 60, 120) for _ in range(1000))
    assert 1 <= over <= 22  # 10 are expected: 3 to 22 are within four standard deviations of a Poisson count, or nearly


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


def test_a_lognormal_is_a_power_law_only_in_a_short_tail():
    """Of a lognormal the far end alone can pass for a power law: where x_min leaves a fifth of it at the most."""
    for seed in range(20):
        drawn = np.exp(0.7 * np.random.default_rng(seed).standard_normal(3000))
        fit = fit_power_law(np.sqrt(np.sort(drawn)[::-1]))
        assert fit is not None
        assert fit.preferred == "lognormal" or fit.tail_count < 600


@pytest.mark.parametrize("draw", ["power", "lognormal"])
def test_the_lognormal_is_the_likeliest_there_is(draw):
    """Against SciPy's minimizer on the exact likelihood of a normal distribution cut off below 0."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = np.sort((1 - rng.random(500)) ** (-1 / 1.5) if draw == "power" else np.exp(rng.standard_normal(500)))
        logs = np.log(x / x[0]) if draw == "power" else np.log(x[x > 1] / 1.0)

        def unlikely(at, logs=logs):
            mean, spread = at[0], np.exp(at[1])
            density = -0.5 * ((logs - mean) / spread) ** 2 - np.log(spread * np.sqrt(2 * np.pi))
            return -np.sum(density - log_ndtr(mean / spread))

        starts = [(logs.mean(), np.log(logs.std())), (-5 * logs.mean(), np.log(3 * logs.std()))]
        best = min(minimize(unlikely, at, method="Nelder-Mead", options={"maxfev": 20000}).fun for at in starts)
        alpha = 1 + 1 / float(np.mean(logs))
        power = float(np.sum(np.log(alpha - 1) - alpha * logs))
        found = _lognormal(logs)
        gained = power if found is None else float(found.sum())
        assert gained == pytest.approx(-best - float(logs.sum()), abs=0.01)


@pytest.mark.parametrize("alpha", [2.0, 3.0])
def test_a_power_law_never_beats_the_lognormal_whose_limit_it_is(alpha):
    for seed in range(20):
        tail = np.sort((1 - np.random.default_rng(seed).random(300)) ** (-1 / (alpha - 1)))
        ratio, chance = against_lognormal(tail, 1 + 1 / float(np.mean(np.log(tail / tail[0]))))
        assert ratio <= 0
        assert chance > 0.05 or ratio > -3


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

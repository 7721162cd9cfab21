"""κ and its kin: closed forms, honest about what they can't say."""

import math

import numpy as np
import pytest

from eigenscope.diagnostics import condition
from eigenscope.diagnostics.estimate import Estimate


@pytest.mark.parametrize(
    ("value", "error", "status"),
    [
        (1.0, 0.1, "definite"),
        (0.3, 0.1, "definite"),
        (0.15, 0.1, "singular"),
        (0.0, 0.0, "singular"),
        (-0.05, 0.01, "singular"),
        (-0.5, 0.45, "singular"),
        (-0.5, 0.01, "indefinite"),
    ],
)
def test_a_sign_is_only_given_where_the_error_allows_it(value: float, error: float, status: str) -> None:
    """With a resolution and a floor of 0.1."""
    assert condition.condition_status(Estimate(value, error=error), 0.1, 0.1) == status


def test_the_floor_is_a_thousandth_of_the_radius_or_the_resolution() -> None:
    assert condition.noise_floor(100.0, 0.01) == 0.1
    assert condition.noise_floor(100.0, 0.5) == 0.5


def test_kappa_s_error_reaches_the_worst_case() -> None:
    """(10 ± 0.1)/(2 ± 0.2): from 9.9/2.2 to 10.1/1.8, the farther end is 5.61."""
    kappa = condition.condition_number(Estimate(10.0, error=0.1), Estimate(2.0, error=0.2), "definite")
    assert kappa.value == 5.0
    assert kappa.value + (kappa.error or 0.0) == pytest.approx(10.1 / 1.8)


@pytest.mark.parametrize(
    ("status", "reason"), [("indefinite", "there is negative curvature"), ("singular", "λmin can't")]
)
def test_kappa_of_a_matrix_that_is_not_definite_is_never_given(status: str, reason: str) -> None:
    kappa = condition.condition_number(Estimate(10.0, error=0.0), Estimate(-1.0, error=0.0), status)
    assert kappa.value is None
    assert reason in (kappa.reason or "")
    halving = condition.iterations_to_halve(kappa)
    assert halving == Estimate(None, reason=kappa.reason)


@pytest.mark.parametrize("kappa", [1.5, 10.0, 1e3, 1e6])
def test_gradient_descent_halves_the_distance_in_the_stated_steps(kappa: float) -> None:
    """Run it: on diag(1, κ) with the best step 2/(1 + κ), the distance after k steps is ((κ − 1)/(κ + 1))ᵏ."""
    steps = condition.iterations_to_halve(Estimate(kappa, error=0.0)).value
    x, rate = np.ones(2), 2 / (1 + kappa)
    contraction = np.linalg.norm(x - rate * np.array([1.0, kappa]) * x) / np.linalg.norm(x)
    assert steps == pytest.approx(math.log(0.5) / math.log(contraction), rel=1e-6)


def test_a_round_landscape_needs_no_iterations() -> None:
    assert condition.iterations_to_halve(Estimate(1.0, error=0.0)) == Estimate(0.0, error=0.0)


def test_the_error_of_the_steps_is_that_of_kappa() -> None:
    """For large κ, ln 2 / ln((κ+1)/(κ−1)) is κ·ln 2/2."""
    steps = condition.iterations_to_halve(Estimate(1e4, error=100.0))
    assert steps.value == pytest.approx(1e4 * math.log(2) / 2, rel=1e-6)
    assert steps.error == pytest.approx(100 * math.log(2) / 2, rel=1e-6)


def test_condition_mean_carries_the_relative_error_of_the_mean() -> None:
    ratio = condition.condition_mean(Estimate(50.0, error=0.1), Estimate(0.5, standard_error=0.05))
    assert ratio.value == 100
    assert ratio.standard_error == pytest.approx(10)


@pytest.mark.parametrize("mean", [Estimate(None), Estimate(0.0, standard_error=0.0)])
def test_condition_mean_without_a_spectrum_is_null_with_a_reason(mean: Estimate) -> None:
    ratio = condition.condition_mean(Estimate(50.0), mean)
    assert ratio.value is None
    assert ratio.reason


@pytest.mark.parametrize(
    ("estimate", "shown", "plain"),
    [
        (Estimate(1.23456, error=0.01), "1.235 ± 0.01", {"value": 1.23456, "error": 0.01}),
        (Estimate(2.0, standard_error=0.5), "2 ± 0.5", {"value": 2.0, "standard_error": 0.5}),
        (Estimate(2.0), "2", {"value": 2.0}),
        (Estimate(None, reason="why"), "why", {"value": None, "reason": "why"}),
        (Estimate(None), "not known", {"value": None}),
    ],
)
def test_an_estimate_shows_its_error_or_its_reason(estimate: Estimate, shown: str, plain: dict[str, object]) -> None:
    assert str(estimate) == shown
    assert {key: value for key, value in estimate.to_dict().items() if value is not None or key == "value"} == plain


def test_a_negative_definite_matrix_is_indefinite_by_name_and_a_maximum_in_words() -> None:
    low, high = Estimate(-9.0, error=0.1), Estimate(-1.0, error=0.1)
    status = condition.condition_status(low, 0.1, 0.1)
    assert status == "indefinite"
    assert condition.negative_definite(high, 0.1)
    assert condition.condition_number(high, low, status).reason == "negative definite: a maximum, so κ is not defined"

"""Every count of directions, against closed forms."""

import numpy as np
import pytest

from eigenscope.weights.ranks import condition_number, effective_rank, entropy_rank, rank_at, stable_rank, variance_at

EQUAL = np.full(7, 2.5)
ALONE = np.array([3.0, 0.0, 0.0])
PAIR = np.array([5.0, 1.0])  # of [[3, 2], [2, 3]], by hand


@pytest.mark.parametrize("rank", [effective_rank, entropy_rank, stable_rank])
def test_equal_values_use_every_direction_and_one_alone_uses_one(rank):
    assert rank(EQUAL) == pytest.approx(7)
    assert rank(ALONE) == pytest.approx(1)


def test_the_worked_pair():
    assert effective_rank(PAIR) == pytest.approx(36 / 26)
    assert stable_rank(PAIR) == pytest.approx(26 / 25)
    assert entropy_rank(PAIR) == pytest.approx((6 / 5) ** (5 / 6) * 6 ** (1 / 6))
    assert condition_number(PAIR) == 5
    assert variance_at(PAIR, 1) == pytest.approx(25 / 26)


def test_scale_does_not_matter():
    sigma = np.sort(np.random.default_rng(0).random(50))[::-1]
    for number in (effective_rank, entropy_rank, stable_rank, condition_number):
        assert number(1e-9 * sigma) == pytest.approx(number(sigma))


def test_ranks_at_a_share_are_the_least_that_hold_it():
    sigma = np.sort(np.random.default_rng(1).random(40))[::-1]
    for share in (0.5, 0.9, 0.95, 0.99):
        rank = rank_at(sigma, share)
        assert variance_at(sigma, rank) >= share * (1 - 1e-12)
        assert variance_at(sigma, rank - 1) < share


def test_a_zero_matrix_has_rank_0():
    zero = np.zeros(4)
    assert effective_rank(zero) == entropy_rank(zero) == stable_rank(zero) == rank_at(zero, 0.9) == 0
    assert condition_number(zero) == float("inf")

"""What was measured on both sides of an action: when a loss counts as lower."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from eigenscope.actions import Evidence
from eigenscope.actions.evidence import change_of_loss

NOISE = np.random.default_rng(0)


def judged(before, after):
    return change_of_loss(Evidence(0, list(before)), Evidence(1, list(after)))


@pytest.mark.parametrize(("shift", "least"), [(0.0, 0.88), (-2.0, 0.99)])
def test_noise_alone_decides_nothing(shift, least):
    """Of sides that differ by noise alone, a tenth is called different (5 % each way); two standard deviations show."""
    draws = [judged(NOISE.standard_normal(30), shift + NOISE.standard_normal(12)) for _ in range(400)]
    assert np.mean([draw == np.sign(shift) for draw in draws]) >= least


def test_the_ranks_are_those_of_mann_and_whitney():
    for _ in range(200):
        before, after = NOISE.standard_normal(30), 0.4 + NOISE.standard_normal(20)
        p = mannwhitneyu(after, before, alternative="greater", method="asymptotic", use_continuity=False).pvalue
        assert (judged(before, after) == 1) == (p < 0.05)


def test_a_loss_that_is_not_finite_rose():
    assert judged([1.0] * 5, [0.5, float("nan")]) == 1


def test_too_few_losses_tell_nothing_apart():
    assert judged([1.0, 1.0], [0.5]) == 0
    assert change_of_loss(Evidence(0, [1.0]), Evidence(1)) is None

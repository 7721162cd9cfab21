"""What was measured on both sides of an action: when a loss counts as lower."""

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from torch import nn

from actions.training import train
from eigenscope.actions import Evidence, SwitchOptimizer
from eigenscope.actions.evidence import change_of_loss, loss_helped
from eigenscope.scenarios import digits, network

NOISE = np.random.default_rng(0)


def judged(before, after):
    return change_of_loss(Evidence(0, list(before)), Evidence(1, list(after)))


@pytest.mark.parametrize(("shift", "least"), [(0.0, 0.95), (-2.0, 0.98)])
def test_noise_alone_decides_nothing(shift, least):
    """Of sides that differ by noise alone, a fiftieth is called different (1 % each way); two deviations show."""
    draws = [judged(NOISE.standard_normal(30), shift + NOISE.standard_normal(12)) for _ in range(400)]
    assert np.mean([draw == np.sign(shift) for draw in draws]) >= least


def test_the_ranks_are_those_of_mann_and_whitney():
    for _ in range(200):
        before, after = NOISE.standard_normal(30), 0.4 + NOISE.standard_normal(20)
        p = mannwhitneyu(after, before, alternative="greater", method="asymptotic", use_continuity=False).pvalue
        assert (judged(before, after) == 1) == (p < 0.01)


def test_a_loss_that_is_not_finite_rose():
    assert judged([1.0] * 5, [0.5, float("nan")]) == 1


def test_too_few_losses_tell_nothing_apart():
    assert judged([1.0, 1.0], [0.5]) == 0
    assert change_of_loss(Evidence(0, [1.0]), Evidence(1)) is None


# -- the trend ---------------------------------------------------------------------------------------------------------


def descent(steps, noise=0.05, rate=0.01, power=0.3):
    """The noisy log of a loss that falls ever more slowly."""
    return np.exp(-power * np.log1p(rate * np.arange(steps)) + noise * NOISE.standard_normal(steps))


def looks(losses, at, every=20):
    """The first verdict of nine checks on what was applied after `at` losses; None where none can be told."""
    for now in range(at + 2 * every, at + 11 * every, every):
        verdict = loss_helped(Evidence(at, losses[:at]), Evidence(now, losses[at:now]))
        if verdict is not None:
            return verdict
    return None


def test_a_descent_that_goes_on_as_before_is_nobodys_merit():
    verdicts = [looks(descent(400), 200) for _ in range(60)]
    assert verdicts.count(True) <= 2
    assert verdicts.count(False) <= 2


def test_one_that_gets_faster_is():
    for _ in range(20):
        losses = descent(400)
        losses[200:] *= np.exp(-0.01 * np.arange(200))
        assert looks(losses, 200) is True


def test_one_that_turns_up_did_not_help():
    for _ in range(20):
        losses = descent(400)
        losses[200:] *= np.exp(0.01 * np.arange(200))
        assert looks(losses, 200) is False


def test_where_a_descent_was_speeding_up_nothing_can_be_told():
    fall = np.exp(-((np.arange(400) / 200) ** 2))
    assert looks(list(fall), 200) is None


def test_losses_that_were_heard_now_and_then_count_at_their_steps():
    """Of each 50 steps the last 30: between the two sides lie 20 more than between two neighbours."""
    losses = descent(400, noise=0.0, rate=0.0) * np.exp(-0.002 * np.arange(400))
    known = [step for step in range(400) if step % 50 >= 20]
    sides = [[step for step in known if low <= step < low + 200] for low in (0, 200)]
    before, after = (Evidence(s[-1] + 1, losses[s], history={"loss_step": [i + 1.0 for i in s]}) for s in sides)
    assert loss_helped(before, after) is None


@pytest.mark.parametrize("seed", range(6))
def test_in_a_healthy_run_an_action_that_does_nothing_has_not_helped(seed):
    """A network on digits; applied at each of four moments."""
    images, labels = digits()
    torch.manual_seed(seed)
    model = network(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9 if seed % 2 else 0.0)
    losses = []
    for _ in range(500):
        chosen = torch.randint(len(labels), (64,))
        losses += train(model, optimizer, (images[chosen], labels[chosen]))
    assert [looks(losses, at) for at in (20, 100, 200, 300)] == [None] * 4


def test_a_canyon_left_by_another_optimizer_is_recognized():
    """Inputs scaled by factors from 0.03 to 3."""
    images, labels = digits()
    images = 3 * images * torch.logspace(0, -2, 64)[torch.randperm(64)]
    model = nn.Linear(64, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = train(model, optimizer, (images, labels), 200)
    losses += train(model, SwitchOptimizer(lr=0.03).switch(optimizer), (images, labels), 200)
    assert looks(losses, 200) is True

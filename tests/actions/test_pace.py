"""When to measure again, and what the factor does with measurements that come on time and ahead of it."""

import math

import pytest
import torch

from eigenscope.actions import ControlStep, Situation, SwitchOptimizer
from eigenscope.actions.pace import Pace

CURVATURE, AIM = 8.0, 0.92 * 0.9  # of a bowl; what the control aims at by default, a little under its target


def distances(pace, change, count):
    found = []
    for _ in range(count):
        while not pace.tick():
            pass
        pace.measured(change)
        found.append(pace.interval)
    return found


@pytest.mark.parametrize(
    ("least", "every", "change", "expected"),
    [
        (200, 200, 5.0, [4, 16, 64, 200, 200]),  # in minibatches nothing calms
        (1, 10, 0.0, [1, 1, 1, 1, 1]),  # it was restless at first, and that fades by a fifth each time
        (1, 10, 5.0, [1, 1, 1, 1, 1]),
        (2, 50, 5.0, [2, 2, 2, 2, 2]),
    ],
)
def test_distances_are_reached_by_fours(least, every, change, expected):
    assert distances(Pace(least, every), change, 5) == expected


def test_what_is_calm_is_measured_every_so_often():
    pace = Pace(1, 10)
    assert not pace.calm
    assert distances(pace, 0.0, 30)[-1] == 10
    assert pace.calm


def test_an_early_measurement_makes_the_distance_no_longer():
    pace = Pace(200, 200)
    distances(pace, 5.0, 2)
    pace.tick()
    assert pace.early
    assert pace.passed == 1
    pace.measured(5.0)
    assert (pace.interval, pace.left) == (16, 16)


def test_one_in_between_leaves_the_time_of_the_next_as_it_was():
    pace = Pace(200, 200)
    distances(pace, 5.0, 2)  # the next one is 16 steps off
    for left in range(15, 0, -1):
        pace.tick()
        pace.measured(5.0, between=True)
        assert pace.left == left
    assert pace.tick()


def test_the_warm_up_ends_where_measurements_lie_as_far_apart_as_told():
    pace, found = Pace(200, 200), []
    for _ in range(5):
        found.append(pace.warmth)
        distances(pace, 5.0, 1)
    assert found == pytest.approx([math.sqrt(n / 200) for n in (1, 4, 16, 64, 200)])
    assert pace.apart
    assert Pace(1, 10).warmth == 1.0


class Bowl:
    """½ c ‖w‖², whose c a test moves; the gradient is kept at the same norm, and steps don't move it."""

    def __init__(self, least):
        self.c, self.model = torch.tensor([CURVATURE]), torch.nn.Linear(4, 1, bias=False)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0)
        self.control = ControlStep(least=least, every=least).bind(self.model, self.loss, [self.c], self.optimizer)

    def loss(self, model, c):
        return 0.5 * c.squeeze() * model.weight.square().sum()

    def steps(self, count, loudness=1.0, rate=None):
        for _ in range(count):
            if rate:
                self.optimizer.param_groups[0]["lr"] = rate()
            self.model.weight.grad = torch.full_like(self.model.weight, 1e-6 * loudness)
            self.optimizer.step()
            self.control.step()

    @property
    def rate(self):
        return self.optimizer.param_groups[0]["lr"]

    @property
    def held(self):
        """The factor, in units of what the curvature at the start allows."""
        return self.control.factor / (AIM / (CURVATURE / 2))


def test_a_warm_up_comes_before_the_target():
    bowl = Bowl(least=64)
    found = [bowl.held]
    for count in (1, 4, 16):
        bowl.steps(count)
        found.append(bowl.held)
    assert found == pytest.approx([1 / 8, 1 / 4, 1 / 2, 1], rel=1e-3)  # √(distance / 64)


def test_a_flat_probe_raises_the_factor_by_a_fifth_and_a_sharp_one_lowers_it_at_once():
    bowl = Bowl(least=16)
    bowl.steps(1 + 4)
    assert bowl.held == pytest.approx(1, rel=1e-3)
    bowl.c /= 4
    bowl.steps(16)
    assert bowl.held == pytest.approx(1.2, rel=1e-3)
    bowl.c *= 8
    bowl.steps(16)
    assert bowl.held == pytest.approx(0.5 * 8 ** (-1 / 16), rel=1e-3)  # that it may go on rising as it did in a step


def test_what_a_loud_gradient_took_the_next_measurement_on_time_gives_back():
    bowl = Bowl(least=16)
    bowl.steps(1 + 4 + 3)
    bowl.c *= 8
    bowl.steps(1, loudness=10)
    assert bowl.held < 1 / 8
    bowl.c /= 8
    bowl.steps(16)
    assert bowl.held == pytest.approx(1, rel=1e-3)


def test_a_run_that_is_resumed_is_not_warmed_up_again():
    bowl = Bowl(least=64)
    bowl.optimizer.load_state_dict(bowl.optimizer.state_dict())
    bowl.steps(1)
    assert bowl.held == pytest.approx(1, rel=1e-3)


def test_what_is_given_back_is_no_more_than_a_decay_has_left():
    bowl = Bowl(least=16)
    bowl.steps(1 + 4 + 3)
    bowl.c *= 8
    bowl.steps(1, loudness=10)
    bowl.steps(16, rate=lambda: 0.1)
    assert bowl.control.factor == pytest.approx(AIM / (8 * CURVATURE / 2), rel=1e-3)  # as before the decay


def test_a_rise_of_the_rate_is_not_given_back_by_a_flat_probe():
    bowl = Bowl(least=16)
    bowl.steps(1 + 4 + 2)
    bowl.steps(13, rate=lambda: 2 * bowl.rate)  # the next measurement on time comes after one step more
    step = bowl.control.factor * bowl.rate
    bowl.c /= 1000
    bowl.steps(1)
    assert bowl.control.num_measurements > 3 + 5
    assert bowl.control.factor * bowl.rate <= 1.21 * max(step, AIM / (CURVATURE / 2))


def test_rates_that_rise_all_the_time_don_t_hold_up_the_warm_up():
    bowl = Bowl(least=64)
    bowl.steps(1 + 4 + 16 + 64, rate=lambda: 1.2 * bowl.rate)
    assert bowl.control.factor * bowl.rate > 0.8 * AIM / (CURVATURE / 2)
    assert bowl.control.ratio == pytest.approx(AIM, rel=0.2)


def test_a_rate_of_0_warms_nothing_up():
    bowl = Bowl(least=64)
    bowl.steps(100, rate=lambda: 0.0)
    bowl.steps(1, rate=lambda: 1.0)
    assert bowl.held < 1 / 3


def test_without_a_least_distance_a_fall_of_the_curvature_is_followed_within_steps():
    bowl = Bowl(least=1)
    bowl.steps(100)  # calm
    bowl.c /= 1000
    bowl.steps(20)
    assert bowl.control.factor == 1.0


def test_another_optimizer_is_warmed_up_anew():
    bowl = Bowl(least=64)
    bowl.steps(1 + 4 + 16 + 64)
    before = bowl.held
    now = Situation(bowl.model, bowl.optimizer, bowl.loss, [bowl.c])
    SwitchOptimizer(lambda groups: torch.optim.SGD(groups, lr=1.0)).apply(now)
    bowl.steps(1)
    assert bowl.held < before / 3


def test_what_is_put_back_goes_on_as_it_went():
    def course():
        bowl.steps(3)
        bowl.c *= 8
        bowl.steps(1, loudness=10)
        bowl.c /= 8
        bowl.steps(20)
        return bowl.control.factor, bowl.control.num_measurements

    bowl = Bowl(least=16)
    bowl.steps(1 + 4)
    back = bowl.control.kept()
    first = course()
    back(False)
    assert course() == pytest.approx(first, rel=1e-6)

"""Checks are spaced so that the budget is never overdrawn. The clock is the test's own."""

import pytest

from eigenscope.monitor.schedule import Schedule


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("budget", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("price", [0.01, 3.0])
def test_the_share_of_measuring_never_exceeds_the_budget_of_the_training_time(budget: float, price: float) -> None:
    clock = Clock()
    schedule = Schedule(budget, None, clock)
    schedule.prices["cold"] = price
    schedule.spend("estimate", 0.0, "cold")
    checks, measured = 0, 0.0
    while checks < 20:
        clock.now += 0.005 * price / budget
        if schedule.due(0, clock()):
            clock.now += price
            measured += price
            checks += 1
            schedule.spend("cold", price, "cold")
            assert measured <= budget * (clock.now - measured) + 1e-9
    assert schedule.share >= 0.7 * budget  # and what is allowed is used


def test_a_price_that_rises_is_saved_up_for() -> None:
    clock = Clock()
    schedule = Schedule(0.1, None, clock)
    schedule.spend("cold", 1.0, "warm")
    schedule.spend("warm", 5.0, "warm")
    clock.now = 6.0 + 60.0
    assert not schedule.due(0, clock())  # 6 s are paid for, the next 5 s are not
    clock.now = 6.0 + (6.0 + 1.25 * 5.0) / 0.1 + 1e-6
    assert schedule.due(0, clock())


def test_a_fixed_spacing_ignores_the_clock() -> None:
    schedule = Schedule(0.02, 3, Clock())
    assert [schedule.due(step, 0.0) for step in range(1, 7)] == [False, False, True, False, False, True]

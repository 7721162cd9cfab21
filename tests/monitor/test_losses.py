"""A loss that has risen for good is told soon and certainly; noise, zero and a change of sign are not a rise."""

import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch

import eigenscope as es
from eigenscope.monitor.losses import LossWatch
from eigenscope.monitor.rules import DEFAULTS
from eigenscope.scenarios import scenario

WARNING = DEFAULTS["loss_rise"].warning


def highest_rise(losses: Iterable[float]) -> float:
    watch, highest = LossWatch(), 1.0
    for loss in losses:
        if watch.feed(loss) > math.log(WARNING):  # the cheap look must not hide what the exact one would find
            highest = max(highest, watch.rise)
    return highest


def noisy(level: Callable[[int], float], steps: int, noise: Callable[[random.Random], float], seed: int) -> list[float]:
    stream = random.Random(seed)
    return [level(step) * noise(stream) for step in range(steps)]


def falling(step: int) -> float:
    return 1e-4 + 2.3 * math.exp(-step / 300)


HEALTHY: dict[str, Callable[[int], list[float]]] = {
    "batches of one": lambda seed: noisy(falling, 20_000, lambda r: r.gauss(0, 1) ** 2, seed),
    "a plateau in batches of one": lambda seed: noisy(lambda _: 1.0, 20_000, lambda r: r.gauss(0, 1) ** 2, seed),
    "near 0": lambda seed: noisy(lambda t: falling(t) ** 2, 10_000, lambda r: math.exp(r.gauss(0, 2)), seed),
    "wild single batches": lambda seed: noisy(falling, 10_000, lambda r: 1e3 if r.random() < 0.002 else 1.0, seed),
    "a likelihood below 0": lambda seed: noisy(lambda t: 2 - t / 100, 5_000, lambda r: r.uniform(0.5, 1.5), seed),
    "negative from the start": lambda seed: noisy(lambda t: -1.0 - t, 5_000, lambda r: r.uniform(0.5, 1.5), seed),
    "around 0": lambda seed: noisy(lambda _: 1.0, 5_000, lambda r: r.gauss(0, 1), seed),
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("seed", range(3))
def test_healthy_noise_is_no_rise(name: str, seed: int) -> None:
    assert highest_rise(HEALTHY[name](seed)) < WARNING


@pytest.mark.parametrize(("level", "within"), [(40.0, 100), (1e6, 10)])
def test_a_loss_that_jumps_at_the_second_step_and_stays_is_a_rise(level: float, within: int) -> None:
    losses = noisy(lambda step: level if step else 2.3, within, lambda r: math.exp(r.gauss(0, 0.2)), 0)
    assert WARNING < highest_rise(losses) < level / 2.3 * 1.5


def test_a_loss_that_comes_back_to_its_start_after_it_had_been_learnt_is_a_rise() -> None:
    learnt = noisy(lambda t: max(falling(t), 0.05), 1500, lambda r: math.exp(r.gauss(0, 0.3)), 0)
    lost = noisy(lambda _: 2.3, 150, lambda r: math.exp(r.gauss(0, 0.3)), 1)
    assert highest_rise(learnt) < WARNING < highest_rise(learnt + lost)


def train(scale: float, steps: int, **options: Any) -> es.Monitor:
    """The healthy scenario with its step size scaled, under a monitor that looks now and then."""
    chosen = scenario("healthy")
    for group in chosen.optimizer.param_groups:
        group["lr"] *= scale
    monitor = es.Monitor(chosen.model, chosen.loss_fn, chosen.probe, optimizer=chosen.optimizer, **options)
    for batch in chosen.batches(steps, seed=0):
        loss = chosen.loss_fn(chosen.model, batch)
        chosen.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        chosen.optimizer.step()
        monitor.step(loss)
    return monitor


def test_a_real_run_that_blows_up_to_a_finite_loss_is_critical_without_any_check() -> None:
    monitor = train(1e7, 40, every=1000)
    worst = monitor.alerts.worst()
    assert worst is not None
    assert (worst.rule, worst.level, worst.panel, worst.action) == ("loss_rise", "critical", "loss", "STOP & GO BACK")
    assert worst.step <= 20
    assert "times its lowest, 2.3" in worst.message


def test_a_milder_blow_up_asks_for_a_smaller_step() -> None:
    monitor = es_monitor()
    for loss in [2.3] * 50 + [23.0] * 60:
        monitor.step(loss)
    (alert,) = monitor.history
    assert (alert.level, alert.action, alert.threshold) == ("warning", "LOWER THE STEP SIZE", WARNING)


def es_monitor(**options: Any) -> es.Monitor:
    model = torch.nn.Linear(2, 1)
    return es.Monitor(model, lambda m, x: m(x).square().mean(), torch.ones(3, 2), every=10_000, **options)


def test_the_alert_holds_while_the_loss_trembles_and_ends_when_it_has_come_down() -> None:
    monitor = es_monitor()
    for loss in [1.0] * 50 + [5.2, 5.4] * 300:
        monitor.step(loss)
    assert [alert.level for alert in monitor.history] == ["warning"]
    for _ in range(100):
        monitor.step(1.0)
    assert [alert.level for alert in monitor.history] == ["warning", "ok"]


def test_the_rule_can_be_switched_off_and_moved() -> None:
    losses = [1.0] * 50 + [8.0] * 200
    for rules, expected in (
        ({"loss_rise": {"enabled": False}}, []),
        ({"loss_rise": {"warning": 10.0}}, []),
        ({"loss_rise": {"warning": 1.5, "critical": 2.0}}, ["warning", "critical"]),
    ):
        monitor = es_monitor(rules=rules)
        for loss in losses:
            monitor.step(loss)
        monitor.measure()
        assert [alert.level for alert in monitor.history] == expected


def test_a_check_rewords_the_alert_that_stands() -> None:
    monitor = es_monitor()
    for loss in [1.0] * 50 + [8.0] * 80:
        monitor.step(loss)
    before = monitor.alerts.active["loss_rise"]
    for _ in range(60):
        monitor.step(8.0)
    assert monitor.alerts.active["loss_rise"] == before, "not at each step"
    monitor.measure()
    now = monitor.alerts.active["loss_rise"]
    assert now.step == before.step
    assert (now.value or 0.0) > (before.value or 0.0)


def test_losses_that_wait_on_a_device_are_judged_at_the_checks() -> None:
    """The last of them. Here they wait as those of a GPU would."""
    monitor = es_monitor()
    for check in range(12):
        for step in range(40):
            monitor._hearing.hold(40 * check + step, torch.tensor(2.3 if check == step == 0 else 1e6))
        monitor.measure()
        assert not monitor._hearing.pending
    assert monitor.alerts.level("loss_rise") == "critical"


def test_harmless_losses_wait_a_few_milliseconds_and_alarming_ones_are_told_at_once(caplog, tmp_path) -> None:
    """The clock is the test's own."""
    now = [0.0]
    monitor = es_monitor(clock=lambda: now[0], run=tmp_path / "run")
    judged = monitor._hearing.recent.values
    for _ in range(40):
        monitor.step(2.3)
    assert len(judged()["loss"]) == 1
    now[0] += 0.01
    monitor.step(2.3)
    assert len(judged()["loss"]) == 41
    now[0] -= 5.0  # a clock that was set back
    monitor.step(2.3)
    assert len(judged()["loss"]) == 42
    for _ in range(40):
        monitor.step(1e6)
    assert [record.args[0][:7] for record in caplog.records] == ["step 49", "step 56"]  # warning, critical
    monitor.step(math.nan)
    assert len(caplog.records) == 3
    for _ in range(3):
        monitor.step(2.3)
    assert "diverged" not in monitor.alerts.active, "whoever asks is told how it stands now"
    for _ in range(300):
        monitor.step(2.3)
    monitor.step("no number")
    assert [alert.step for alert in monitor.history] == sorted(alert.step for alert in monitor.history)
    monitor.close()
    assert es.load_run(tmp_path / "run").alerts[-1]["rule"] == "bad_loss"


def test_what_waits_is_judged_when_the_run_ends(tmp_path) -> None:
    monitor = es_monitor(clock=lambda: 0.0, run=tmp_path / "run")
    for loss in [1.0] * 50 + [8.0] * 80 + [1.0] * 300:
        monitor.step(loss)
    monitor.close()
    assert [alert["level"] for alert in es.load_run(tmp_path / "run").alerts] == ["warning", "ok"]


def test_an_error_in_judging_one_loss_loses_no_other(monkeypatch) -> None:
    monitor = es_monitor(clock=lambda: 0.0)
    for loss in [2.3] * 40:
        monitor.step(loss)
    feed = monitor._hearing.watch.feed
    failing = iter([ValueError("math domain error")])
    monkeypatch.setattr(monitor._hearing.watch, "feed", lambda loss: _raise(next(failing, None)) or feed(loss))
    assert "measurement_failed" in monitor.alerts.active
    assert monitor.alerts.active  # asks again
    assert len(monitor._hearing.recent.values()["loss"]) == 40


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error

"""The monitor as a whole, on a clock of the test's own: what it costs, when it measures, what it survives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eigenscope as es
import zoo
from eigenscope.operators.loss_operator import RECOMPUTED


class Bench:
    """A model in training, whose steps and losses take a stated time on a clock that nothing else moves."""

    def __init__(self, *, step: float = 1.0, loss: float = 0.01) -> None:
        self.model, self.loss_fn, self.batches = zoo.CASES["regression"].build()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.now, self.calls, self.broken = 0.0, 0, False
        self.step_seconds, self.loss_seconds = step, loss

    def clock(self) -> float:
        return self.now

    def probe_loss(self, model: nn.Module, batch: Any) -> Tensor:
        self.calls += 1
        self.now += self.loss_seconds
        if self.broken:
            raise ValueError("the data moved")
        return self.loss_fn(model, batch)

    def monitor(self, **options: Any) -> es.Monitor:
        # bounds on inputs run no loss: on this clock they would take no time
        options = {"clock": self.clock, "method": RECOMPUTED, "lipschitz": False, **options}
        options.setdefault("optimizer", self.optimizer)
        return es.Monitor(self.model, self.probe_loss, self.batches[:1], **options)

    def steps(self, monitor: es.Monitor, count: int) -> Iterator[tuple[int, bool]]:
        """Train `count` steps; the number of each, and whether it was measured."""
        for number in range(1, count + 1):
            self.optimizer.zero_grad()
            loss = self.loss_fn(self.model, self.batches[0])
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.now += self.step_seconds
            yield number, monitor.step(loss) is not None


@pytest.mark.parametrize("budget", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("loss", [0.01, 1.0])
def test_measuring_takes_its_share_and_no_more_at_any_time(budget: float, loss: float) -> None:
    """Each product rebuilds its graph, so that a check takes some 60 losses, and a step 12. Only the estimate at the
    first step, of what a check will cost, can't be saved up for.
    """
    bench = Bench(loss=loss, step=loss * 12)
    monitor = bench.monitor(budget=budget)
    readings = 0
    for number, measured in bench.steps(monitor, 4000):
        readings += measured
        assert monitor.measuring_share <= budget or number < 1 / budget
    assert monitor.measuring_share >= 0.5 * budget
    assert readings >= 3


def test_every_measures_at_multiples_whatever_the_time() -> None:
    bench = Bench(step=0.0)
    monitor = bench.monitor(every=4)
    assert [number for number, measured in bench.steps(monitor, 12) if measured] == [4, 8, 12]


def test_one_check_in_eight_starts_afresh() -> None:
    bench = Bench()
    monitor = bench.monitor(every=1)
    kinds = [monitor.reading.kind for _ in bench.steps(monitor, 17) if monitor.reading]
    assert [index for index, kind in enumerate(kinds) if kind == "cold"] == [0, 8, 16]


def test_a_step_that_is_not_due_does_not_touch_the_model() -> None:
    bench = Bench()
    monitor = bench.monitor(every=1000)
    monitor.measure()
    calls, ran = bench.calls, []
    bench.model.register_forward_hook(lambda *_: ran.append(1))
    for _ in range(500):
        monitor.step(0.5)
    assert bench.calls == calls
    assert ran == []
    assert monitor.step_count == 500


def test_what_keeps_failing_is_tried_ever_less_often_and_comes_back() -> None:
    """Broken from the first step on: not even the price of a check can be found out."""
    bench = Bench(loss=1.0)
    bench.broken = True
    monitor = bench.monitor(budget=0.05)
    tried = []
    for number, _ in bench.steps(monitor, 5000):
        if bench.calls:
            tried.append(number)
            bench.calls = 0
    assert 2 <= len(tried) < 40
    assert tried[-1] - tried[-2] > 4 * (tried[1] - tried[0])
    assert monitor.alerts.level("measurement_failed") == "warning"
    assert monitor.measuring_share < 0.05
    bench.broken = False
    assert any(measured for _, measured in bench.steps(monitor, 20000))
    assert monitor.alerts.level("measurement_failed") == "ok"


def test_thousands_of_failures_never_reach_the_loop() -> None:
    bench = Bench(loss=0.0)
    bench.broken = True
    monitor = bench.monitor(every=1)
    for _ in range(3000):
        assert monitor.step(1.0) is None
    assert [alert.rule for alert in monitor.history] == ["measurement_failed"]
    assert "the check at step 1 failed: ValueError: the data moved" in monitor.history[0].message


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (torch.ones(3), "a Tensor of shape (3,)"),
        ("low", "a str"),
        ("0.5", "a str"),
        (object(), "an object"),
        (1j, "a complex"),
    ],
)
def test_a_loss_that_is_no_number_is_told_once_for_what_it_is(loss: Any, words: str, tmp_path: Path) -> None:
    monitor = Bench().monitor(every=1, run=tmp_path / "run")
    readings = [monitor.step(loss), monitor.step(loss)]
    monitor.step(0.5)
    monitor.close()
    assert None not in readings, "the check is made all the same"
    assert [(alert.rule, alert.level) for alert in monitor.history] == [("bad_loss", "warning"), ("bad_loss", "ok")]
    assert monitor.history[0].message == f"monitor.step was given {words} as the loss"
    assert monitor.dropped == 0


@pytest.mark.parametrize("loss", [np.float32(0.5), np.array(0.5), torch.tensor([0.5]), 1, torch.tensor(0.5)], ids=repr)
def test_a_number_in_any_form_is_a_loss(loss: Any) -> None:
    monitor = Bench().monitor(every=1000)
    monitor.step(loss)
    assert not monitor.history


def test_an_alert_that_stands_is_reworded_in_the_run_and_not_logged_again(tmp_path: Path) -> None:
    bench = Bench()
    monitor = bench.monitor(every=1, run=tmp_path / "run")
    bench.broken = True
    for _ in range(3):
        monitor.step(1.0)
    monitor.close()
    assert monitor.run_path is not None
    (alert,) = es.load_run(monitor.run_path).alerts
    assert (alert["id"], alert["step"]) == (1, 1)
    assert alert["message"].startswith("the check at step 3 failed")
    assert len(monitor.history) == 1


def test_its_repr_is_a_line_that_says_how_the_run_stands(tmp_path: Path) -> None:
    bench = Bench()
    monitor = bench.monitor(every=2, run=tmp_path / "run")
    assert "not measured yet, no alert" in repr(monitor)
    for _ in bench.steps(monitor, 2):
        pass
    assert monitor.reading is not None
    monitor.step(float("nan"))
    assert repr(monitor) == (
        f"Monitor(Sequential (97 trainable parameters), step 3, {monitor.reading.verdict}, critical: the training "
        f"loss is nan, run '{tmp_path / 'run.eigenscope'}')"
    )
    monitor.close()
    assert "no run file" in repr(bench.monitor())


def test_the_learning_rate_on_record_is_the_optimizer_s_current_one(tmp_path: Path) -> None:
    """`load_state_dict` gives an optimizer new groups, and a scheduler may change a tensor in place."""
    bench = Bench()
    saved = bench.optimizer.state_dict()
    saved["param_groups"][0]["lr"] = 0.5
    with bench.monitor(every=1000, run=tmp_path / "run") as monitor:
        monitor.step(1.0)
        bench.optimizer.load_state_dict(saved)
        monitor.step(1.0)
        rate = torch.tensor(0.25)
        bench.optimizer.param_groups[0]["lr"] = rate
        monitor.step(1.0)
        rate.fill_(9.0)
    assert monitor.run_path is not None
    assert es.load_run(monitor.run_path)["learning_rate"].values.tolist() == [0.01, 0.5, 0.25]


def test_layers_may_be_frozen_and_thawed_on_the_way() -> None:
    bench = Bench()
    monitor = bench.monitor(every=1)
    sizes = []
    for trainable in (True, False, True):
        bench.model[0].requires_grad_(trainable)
        reading = monitor.step(1.0)
        assert reading is not None
        sizes.append((reading.num_parameters, reading.kind))
    assert sizes == [(97, "cold"), (9, "cold"), (97, "cold")]


def test_a_diverged_loss_is_told_once_and_over_when_it_is_over() -> None:
    bench = Bench()
    monitor = bench.monitor(every=1000)
    for loss in (1.0, float("nan"), float("inf"), torch.tensor(float("nan")), 1.0, 0.9):
        monitor.step(loss)
    assert [(alert.rule, alert.level) for alert in monitor.history] == [("diverged", "critical"), ("diverged", "ok")]


def test_the_rule_on_divergence_can_be_switched_off() -> None:
    monitor = Bench().monitor(every=1000, rules={"diverged": {"enabled": False}})
    monitor.step(float("nan"))
    assert not monitor.history


def test_a_logging_handler_that_raises_does_not_reach_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the log is full")

    monkeypatch.setattr("eigenscope.monitor.monitor.log.warning", fail)
    monitor = Bench().monitor(every=1000)
    monitor.step(float("nan"))
    assert monitor.alerts.level("diverged") == "critical"


def test_a_failing_measurement_on_demand_is_none_and_an_alert() -> None:
    bench = Bench()
    monitor = bench.monitor()
    bench.broken = True
    assert monitor.measure() is None
    assert monitor.alerts.level("measurement_failed") == "warning"
    monitor.close()
    assert monitor.measure() is None


def test_without_a_run_nothing_is_counted_as_dropped() -> None:
    bench = Bench()
    monitor = bench.monitor(every=1)
    for _ in bench.steps(monitor, 3):
        pass
    assert monitor.dropped == 0
    assert monitor.run_path is None


def test_a_run_that_never_got_a_check_says_why(caplog: pytest.LogCaptureFixture) -> None:
    monitor = Bench().monitor(budget=0.01)
    monitor.step(1.0)
    monitor.close()
    assert "no check fitted into 1 % of this run's time: use every=N" in caplog.text


@pytest.mark.parametrize(
    ("probe", "loss_fn", "message"),
    [
        ([], None, "the probe is empty"),
        (None, "mse", "loss_fn is a str"),
        (3, None, "the probe is a int"),
    ],
)
def test_bad_input_is_told_when_the_monitor_is_made(probe: Any, loss_fn: Any, message: str) -> None:
    bench = Bench()
    batches = bench.batches if probe is None else probe
    with pytest.raises(es.InputError, match=message):
        es.Monitor(bench.model, loss_fn or bench.loss_fn, batches)

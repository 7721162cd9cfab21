"""Signal flow and Lipschitz bounds in the monitor: by turns, out of one budget, given up where impossible."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import eigenscope as es
import zoo
from eigenscope.diagnostics.flow import FlowReading
from eigenscope.errors import InputError
from eigenscope.flow.settings import FlowSettings
from eigenscope.flow.signal import flow
from eigenscope.monitor.alerts import AlertBook
from eigenscope.monitor.instruments import Instruments
from eigenscope.monitor.rules import load_rules
from eigenscope.operators import Probe
from eigenscope.scenarios import scenario


def run_of(name: str, path: Path, steps: int, **options: Any) -> es.Monitor:
    """Some steps of a scenario of the demo."""
    made = scenario(name)
    options = {"every": 5, **options}
    monitor = es.Monitor(made.model, made.loss_fn, made.probe, optimizer=made.optimizer, run=path, **options)
    for batch in made.batches(steps, 0):
        made.optimizer.zero_grad()
        loss = made.loss_fn(made.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if made.clip is not None:
            nn.utils.clip_grad_norm_(made.model.parameters(), made.clip)
        made.optimizer.step()
        monitor.step(loss)
    monitor.close()
    return monitor


def test_the_first_check_at_fixed_steps_brings_all_then_the_flow_comes_twice_as_often(tmp_path: Path) -> None:
    monitor = run_of("healthy", tmp_path / "run", 45)
    with es.load_run(monitor.run_path) as run:
        assert [item["step"] for item in run.measurements("flow")] == [5, 25, 45]
        assert [item["step"] for item in run.measurements("lipschitz")] == [5, 45]
        assert len(run["lambda_max"]) == 9
        assert run["lipschitz_lower"].steps.tolist() == [5, 45]
        assert 10 ** run["lipschitz_product"].values[-1] >= run["lipschitz_upper"].values[-1] * 0.999
        assert run["depth_factor"].steps.tolist() == [5, 25, 45]


def test_what_is_measured_is_what_the_library_measures(tmp_path: Path) -> None:
    monitor = run_of("healthy", tmp_path / "run", 5)
    made = scenario("healthy")
    assert monitor.flow is not None
    assert monitor.lipschitz is not None
    made.model.load_state_dict(monitor.model.state_dict())
    again = es.signal_flow(made.model, made.loss_fn, made.probe[:1])
    assert monitor.flow.growth == pytest.approx(again.growth, rel=1e-6)
    bounds = es.lipschitz(made.model, made.probe[:1], max_samples=16)
    assert monitor.lipschitz.lipschitz_upper.value == pytest.approx(bounds.lipschitz_upper.value, rel=1e-6)


def test_with_a_budget_they_take_turns_and_the_curvature_has_the_most() -> None:
    instruments = Instruments.chosen(flow=True, lipschitz=True)
    turns = []
    for instruments.checks in range(16):
        turns += instruments.due(fixed=False)
    assert turns[0] == "curvature"
    assert [turns.count(kind) for kind in ("curvature", "flow", "lipschitz")] == [10, 4, 2]


@pytest.mark.parametrize("left_out", ["flow", "lipschitz"])
def test_what_is_not_wanted_is_not_measured(tmp_path: Path, left_out: str) -> None:
    monitor = run_of("healthy", tmp_path / "run", 5, **{left_out: False})
    assert set(monitor.readings) == {"flow", "lipschitz"} - {left_out}


def test_what_a_model_does_not_allow_is_noted_once_with_its_reason(tmp_path: Path) -> None:
    model, loss_fn, batches = zoo.CASES["regression"].build()

    def unpacked(module: nn.Module, batch: Any) -> Tensor:
        return loss_fn(model, batch)

    wrapper = nn.ModuleDict({"inner": model})  # can't be called on a batch, the loss reaches past it
    monitor = es.Monitor(wrapper, unpacked, batches, run=tmp_path / "run", every=1)
    for _ in range(9):
        monitor.step(1.0)
    monitor.close()
    assert monitor.lipschitz is None
    with es.load_run(monitor.run_path) as run:
        (refused,) = run.measurements("lipschitz")
        assert "can't be run on the probe" in refused["reason"]
        assert not [alert for alert in run.alerts if alert["rule"] == "measurement_failed"]


@pytest.mark.parametrize("name", ["exploding", "vanishing"])
def test_the_alert_names_the_layer_and_comes_before_what_it_causes(tmp_path: Path, name: str) -> None:
    monitor = run_of(name, tmp_path / "run", 5)
    worst = monitor.alerts.worst()
    assert worst is not None
    assert worst.rule == "signal_flow"
    assert worst.level == "critical"
    assert f"the gradient is {name} from layer 0" in worst.message
    assert worst.action
    assert monitor.flow is not None
    assert monitor.flow.verdict == name


def test_the_alert_ends_when_the_flow_is_healthy_again() -> None:
    book = AlertBook(load_rules())
    sick, sound = (_flow_of(name) for name in ("vanishing", "healthy"))
    raised = book.judge_flow(sick)
    assert raised is not None
    assert raised.level == "critical"
    over = book.judge_flow(sound)
    assert over is not None
    assert over.level == "ok"
    assert book.judge_flow(sound) is None


def test_its_threshold_can_be_set() -> None:
    book = AlertBook(load_rules({"signal_flow": {"enabled": False}}))
    assert book.judge_flow(_flow_of("vanishing")) is None


def test_a_network_that_kills_and_revives_the_signal_is_told_by_what_was_judged() -> None:
    """×10⁻³ in one half and ×10³ in the other: over the whole depth nothing seems to happen."""
    torch.manual_seed(0)
    layers = [nn.Linear(16, 16, bias=False) for _ in range(12)]
    for index, layer in enumerate(layers):
        nn.init.orthogonal_(layer.weight)
        layer.weight.data *= 10 ** (-0.5 if index < 6 else 0.5)
    reading = es.signal_flow(nn.Sequential(*layers), lambda m, b: (m(b) ** 2).mean(), torch.randn(8, 16))
    assert reading.depth_factor == pytest.approx(1, rel=1e-3)
    assert reading.severity == pytest.approx(1e3, rel=1e-3)
    alert = AlertBook(load_rules()).judge_flow(reading)
    assert alert is not None
    assert alert.level == "warning"


def test_layers_side_by_side_count_once() -> None:
    """Thirty heads that read one signal are one stage, not a depth of thirty."""

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(16, 16), nn.Linear(16, 4)
            self.heads = nn.ModuleList(nn.Linear(16, 16) for _ in range(30))

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(torch.stack([head(x) for head in self.heads]).sum(0))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    reading = es.signal_flow(Heads(), lambda m, b: m(b).square().mean(), torch.randn(8, 16))
    assert reading.verdict == "healthy"
    assert len({block.stage for block in reading.blocks}) == 3


def test_weights_that_are_not_finite_for_a_while_end_nothing(tmp_path: Path) -> None:
    made = scenario("healthy")
    monitor = es.Monitor(made.model, made.loss_fn, made.probe, run=tmp_path / "run", every=1)
    weight = next(made.model.parameters())
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(float("nan"))
    monitor.step(1.0)
    assert "measurement_failed" in monitor.alerts.active
    with torch.no_grad():
        weight.copy_(kept)
    for _ in range(8):
        monitor.step(1.0)
    monitor.close()
    assert set(monitor.readings) == {"flow", "lipschitz"}


def test_three_failures_in_a_row_end_a_measurement() -> None:
    one = Instruments.chosen(flow=True, lipschitz=False).known["flow"]
    assert not one.failed(RuntimeError("once"))
    assert not one.failed(RuntimeError("twice"))
    assert one.failed(RuntimeError("thrice"))
    assert one.refused == "thrice"


def test_what_can_t_be_measured_by_its_nature_is_refused_at_once() -> None:
    one = Instruments.chosen(flow=True, lipschitz=False).known["flow"]
    assert one.failed(InputError("no blocks"))


def _flow_of(name: str) -> FlowReading:
    made = scenario(name)
    with torch.random.fork_rng():
        return flow(Probe(made.model, made.loss_fn, made.probe[:1]), FlowSettings(branches=False))

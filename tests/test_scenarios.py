"""Each scenario of the demo is a real training run that shows its condition, and the panel's words fit it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import eigenscope as es
from eigenscope.cli.demo import train
from eigenscope.errors import InputError
from eigenscope.monitor import Monitor
from eigenscope.runs import load_run
from eigenscope.scenarios import SCENARIOS, scenario

STEPS, EVERY = 240, 20


@dataclass
class Played:
    """What the run file of a scenario tells afterwards, as the dashboard would read it."""

    losses: np.ndarray
    readings: list[dict[str, Any]]
    alerts: list[dict[str, Any]]
    zigzag: float

    def values(self, name: str) -> np.ndarray:
        return np.array([reading[name]["value"] for reading in self.readings], dtype=float)

    def alert(self, rule: str) -> dict[str, Any]:
        return next(alert for alert in self.alerts if alert["rule"] == rule)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Play each scenario once, when it is first asked for."""
    folder, known = tmp_path_factory.mktemp("runs"), {}

    def play(name: str) -> Played:
        if name not in known:
            known[name] = _play(name, folder)
        return known[name]

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield play
    torch.set_num_threads(before)


def _play(name, folder) -> Played:
    chosen = scenario(name)
    monitor = Monitor(
        chosen.model, chosen.loss_fn, chosen.probe, optimizer=chosen.optimizer, run=folder / name, every=EVERY,
        **chosen.settings,
    )  # fmt: skip
    with monitor:
        zigzag = train(chosen, monitor, STEPS, seed=0)
    with load_run(monitor.run_path) as run:
        assert len(run.readings) == STEPS // EVERY
        return Played(run["loss"].values, run.readings, run.alerts, zigzag)


def rises(losses: np.ndarray) -> int:
    """How often the loss went up by more than 1 %."""
    return int(np.sum(np.diff(losses) > 0.01 * losses[:-1]))


def test_healthy_falls_well_inside_the_edge_and_raises_no_alert(played):
    run = played("healthy")
    assert run.losses[-20:].mean() < 0.2 * run.losses[:20].mean()
    assert (run.values("stability_ratio") < 0.5).all()
    assert run.alerts == []


def test_canyon_is_stretched_and_descent_zigzags(played):
    run = played("canyon")
    assert (run.values("condition_number") > 5e3).all()
    assert (run.values("stability_ratio") < 1).all(), "the zig-zag is κ's, not an unstable step's"
    assert run.zigzag < -0.2


def test_canyon_recommends_a_preconditioned_method(played):
    alert = played("canyon").alert("ill_conditioned")
    assert (alert["action"], alert["panel"]) == ("PRECONDITION", "condition")
    assert alert["level"] in ("warning", "critical")
    assert "Adam" in alert["reason"]


def test_saddle_stands_still_with_negative_curvature_certified(played):
    run = played("saddle")
    assert {reading["verdict"] for reading in run.readings} == {"saddle"}
    assert min(reading["negative_count_certified"] for reading in run.readings) >= 1
    assert abs(run.losses[-20:].mean() - run.losses[:20].mean()) < 0.02


def test_saddle_shows_a_way_down_that_really_goes_down(played):
    for reading in played("saddle").readings:
        escape = reading["escape"]
        assert escape["measured"] > 0
        assert escape["measured"] == pytest.approx(escape["predicted"], rel=0.2)


def test_saddle_recommends_to_perturb(played):
    alert = played("saddle").alert("saddle")
    assert (alert["level"], alert["action"], alert["panel"]) == ("critical", "PAUSE & PERTURB", "saddle")
    assert "certified negative" in alert["message"]
    assert "measured" in alert["reason"]


def test_edge_is_past_the_edge_and_the_loss_jumps(played):
    run = played("edge")
    assert np.mean(run.values("stability_ratio") > 1) > 0.8
    assert rises(run.losses) > 10
    assert run.zigzag < -0.2


def fitted(chosen, steps: int) -> list[float]:
    """Train without a monitor; the losses."""
    losses = []
    for batch in chosen.batches(steps, seed=0):
        loss = chosen.loss_fn(chosen.model, batch)
        chosen.optimizer.zero_grad()
        loss.backward()
        if chosen.clip is not None:
            torch.nn.utils.clip_grad_norm_(chosen.model.parameters(), chosen.clip)
        chosen.optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("name", ["exploding", "vanishing"])
def test_deep_plain_networks_fail_because_of_their_flow(name):
    """Before and after training the verdict is the name; the loss stays at that of guessing, ln 10, or above."""
    chosen = scenario(name)
    before = es.signal_flow(chosen.model, chosen.loss_fn, chosen.probe[:1], branches=False)
    losses = fitted(chosen, 200)
    after = es.signal_flow(chosen.model, chosen.loss_fn, chosen.probe[:1], branches=False)
    assert {before.verdict, after.verdict} == {name}
    assert before.layer_at_fault == after.layer_at_fault == "0"
    assert (before.depth_factor > 1e3) if name == "exploding" else (before.depth_factor < 1e-10)
    assert np.mean(losses[-40:]) > 0.95 * np.log(10)


def test_what_is_advised_for_a_vanishing_network_mends_its_flow():
    chosen = scenario("vanishing")
    reading = es.signal_flow(chosen.model, chosen.loss_fn, chosen.probe[:1], try_remedies=True, tolerance=0.1)
    assert reading.remedies[0].tried.verdict == "healthy"
    assert reading.remedies[0].name in ("residual", "orthogonal_init")


def test_the_healthy_scenario_is_healthy_in_its_flow_too():
    chosen = scenario("healthy")
    assert es.signal_flow(chosen.model, chosen.loss_fn, chosen.probe[:1]).verdict == "healthy"


def test_at_the_saddle_no_gradient_passes_for_every_weight_is_zero():
    chosen = scenario("saddle")
    reading = es.signal_flow(chosen.model, chosen.loss_fn, chosen.probe)
    assert (reading.verdict, reading.layers_at_fault) == ("vanishing", ("0", "2"))
    assert "the Jacobian is 0" in reading.verdict_reason
    assert reading.gradient_norm < 1e-6


def test_edge_recommends_a_smaller_step(played):
    alert = played("edge").alert("edge_of_stability")
    assert (alert["action"], alert["panel"]) == ("LOWER THE STEP SIZE", "sharpness")
    assert alert["value"] > alert["threshold"] >= 1


@pytest.mark.parametrize("name", ["healthy", "canyon", "edge"])
def test_no_scenario_but_the_saddle_is_called_one(played, name):
    assert "saddle" not in {reading["verdict"] for reading in played(name).readings}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_seed_gives_the_same_start_and_leaves_the_global_stream_alone(name):
    before = torch.get_rng_state()
    first, second = scenario(name, seed=3), scenario(name, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_unknown_scenario_names_the_known_ones():
    with pytest.raises(InputError, match="no scenario 'cliff': there are healthy, canyon, saddle, edge"):
        scenario("cliff")

"""Actions that alerts lead to: applied between two steps, one at a time, and judged by the next check."""

from dataclasses import replace

import torch
from torch import Tensor, nn

import eigenscope as es
from eigenscope.actions import Evidence, Situation
from monitor.acting_loop import LEARNING_RATE, Anew, Halve, Loop
from zoo.data import digits_batches


def test_an_action_is_applied_after_the_check_that_raised_its_alert_and_kept_where_it_helps() -> None:
    loop = Loop(Halve())
    loop.steps(4)
    assert (loop.rate, loop.states()) == (LEARNING_RATE, [])
    loop.steps(1)
    assert (loop.rate, loop.states()) == (LEARNING_RATE / 2, [("halve", "applied")])
    loop.steps(5)
    (record,) = loop.monitor.actions
    assert (record.state, record.helped, record.applied_at, record.step) == ("kept", True, 5, 10)
    assert record.changed == {"lr": [[LEARNING_RATE, LEARNING_RATE / 2]]}
    assert record.alert["rule"] == "edge_of_stability"
    assert record.before is not None
    assert record.after is not None
    assert (record.before["step"], record.after["step"]) == (5, 10)
    assert float(str(record.after["stability_ratio"])) > 0
    assert loop.rate == LEARNING_RATE / 2


def test_what_can_not_be_told_is_kept_in_the_end() -> None:
    loop = Loop(Halve(verdict=None), every=1, action_limit=1)
    loop.steps(30)
    (record,) = loop.monitor.actions
    assert (record.state, record.helped) == ("kept", None)
    assert "can't be told" in record.note


def test_a_judgement_that_raises_does_not_reach_the_loop_or_take_back_what_was_done() -> None:
    class Confused(Halve):
        name = "confused"

        def helped(self, before: Evidence, after: Evidence) -> bool | None:
            raise KeyError("ratio")

    loop = Loop(Confused(), action_limit=1)
    loop.steps(10)
    assert loop.states() == [("confused", "kept")]
    assert "its criterion can't be judged: KeyError: 'ratio'" in loop.monitor.actions[0].note


def test_a_run_has_a_limit_and_says_so_once() -> None:
    loop = Loop(Halve(), every=1, action_limit=2, cool_down=0)
    loop.steps(20)
    assert len(loop.monitor.actions) == 2
    (alert,) = [alert for alert in loop.monitor.history if alert.rule == "acting"]
    assert alert.message.startswith("2 actions applied, as many as action_limit allows in a run")


def test_an_action_rests_before_it_is_applied_again() -> None:
    loop = Loop(Halve(), every=1, cool_down=7)
    loop.steps(20)
    assert [record.applied_at for record in loop.monitor.actions] == [1, 9, 17], "from its verdict at 2, at 10"


def test_an_alert_that_only_its_hysteresis_holds_leads_to_nothing() -> None:
    loop = Loop(Halve())
    assert loop.monitor.measure() is not None  # raises it
    edge = loop.monitor.alerts.limits["edge_of_stability"]
    loop.monitor.alerts.limits = {
        **loop.monitor.alerts.limits, "edge_of_stability": replace(edge, warning=1e3, critical=1e9, hysteresis=1e-9),
    }  # fmt: skip
    loop.steps(12)
    assert loop.monitor.alerts.level("edge_of_stability") == "warning"
    assert loop.states() == []


def test_one_at_a_time_so_that_what_is_judged_is_one_thing() -> None:
    class Other(Halve):
        name = "other"

    loop = Loop(Halve(verdict=None), Other(), every=1)
    loop.steps(5)
    assert loop.states() == [("halve", "applied")]


def test_what_the_alert_recommends_comes_first() -> None:
    class Recommended(Halve):
        name = "recommended"
        words = "LOWER THE STEP SIZE"

    loop = Loop(Halve(), Recommended())
    loop.steps(5)
    assert loop.states() == [("recommended", "applied")]


def test_what_can_not_be_applied_gives_way_to_what_can() -> None:
    class Other(Halve):
        name = "other"

    stuck = Halve()
    stuck.cannot = "no room"
    loop = Loop(stuck, Other())
    loop.steps(5)
    assert loop.states() == [("other", "applied")]


def test_with_auto_a_network_may_be_started_anew_before_its_first_step() -> None:
    """The flow is measured once before training; what it says is judged by the next flow, not by the same."""
    torch.manual_seed(0)
    layers = [module for _ in range(20) for module in (nn.Linear(64, 64), nn.Tanh())]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(5.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    batch = digits_batches((64,))[0]
    monitor = es.Monitor(
        model, Loop.loss, batch, optimizer=optimizer, every=1, act="auto", actions=[Anew()], lipschitz=False
    )
    (record,) = monitor.actions
    assert (record.state, record.applied_at, record.alert["rule"]) == ("applied", 0, "signal_flow")
    for _ in range(3):
        loss = Loop.loss(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        monitor.step(loss)
    (record,) = monitor.actions
    assert (record.state, record.helped) == ("kept", True)
    assert record.before is not None
    assert record.before["flow"] == "exploding"


def test_a_control_that_is_in_force_is_not_refused_for_being_so() -> None:
    loop = Loop(es.actions.ControlStep(), every=2, cool_down=1)
    loop.steps(20)
    assert loop.states() == [("control_step", "kept")]


def test_one_that_can_not_say_whether_it_can_be_applied_is_recorded_and_given_up() -> None:
    class Unsure(Halve):
        name = "unsure"

        def can_apply(self, now: Situation) -> str | None:
            raise KeyError("lr")

    loop = Loop(Unsure(), Halve(), action_limit=1)
    loop.steps(20)
    assert loop.states() == [("unsure", "failed"), ("halve", "kept")]
    note = loop.monitor.actions[0].note
    assert note == "whether it can be applied can't be told, and it is not tried again: KeyError: 'lr'"


def squared(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def test_a_network_whose_signal_vanishes_is_started_anew_and_kept_though_predicting_nothing_cost_less() -> None:
    torch.manual_seed(0)
    layers = [module for _ in range(30) for module in (nn.Linear(32, 32), nn.Tanh())]
    model = nn.Sequential(*layers, nn.Linear(32, 1))
    with torch.no_grad():
        for module in layers[::2]:
            module.weight.mul_(0.6)  # type: ignore[operator, union-attr]
    batch = torch.randn(128, 32), torch.randn(128, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.003)
    dead = float(squared(model, batch).detach())
    monitor = es.Monitor(
        model, squared, batch, optimizer=optimizer, every=5, act="auto", actions=["reinitialize"], lipschitz=False
    )
    assert float(squared(model, batch).detach()) > 2 * dead
    for _ in range(45):
        loss = squared(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        monitor.step(loss)
    (record,) = monitor.actions
    assert (record.name, record.state, record.helped) == ("reinitialize", "kept", True)
    monitor.close()


def test_without_an_alert_nobody_asks_whether_a_network_has_learnt() -> None:
    """Which evaluates the loss eleven times."""

    def losses(gain: float) -> int:
        torch.manual_seed(0)
        model = nn.Sequential(*(m for _ in range(20) for m in (nn.Linear(64, 64), nn.Tanh())), nn.Linear(64, 10))
        for module in model:
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight, gain=gain)
        calls: list[int] = []

        def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            calls.append(1)
            return Loop.loss(model, batch)

        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        batch = digits_batches((64,))[0]
        idle = Anew()
        monitor = es.Monitor(model, loss, batch, optimizer=optimizer, act="auto", actions=[idle], lipschitz=False)
        assert bool(monitor.alerts.active) == (gain > 2)
        monitor.close()
        return len(calls)

    assert losses(1.1) < 11 <= losses(4.0)


def test_a_network_that_has_learnt_is_not_started_anew() -> None:
    """Trained to over 90 %, then its layers scaled so that the function stays and the gradient vanishes."""
    torch.manual_seed(0)
    inputs, labels = digits_batches((1797,))[0]
    layers = [module for _ in range(12) for module in (nn.Linear(64, 64), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    for module in layers[::2]:
        nn.init.kaiming_normal_(module.weight)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(500):
        chosen = torch.arange(50 * step, 50 * step + 50) % 1500
        adam.zero_grad()
        Loop.loss(model, (inputs[chosen], labels[chosen])).backward()  # type: ignore[no-untyped-call]
        adam.step()
    scale = 1.0
    with torch.no_grad():
        for module in layers[::2]:
            scale *= 2.5
            module.weight.mul_(2.5)
            module.bias.mul_(scale)
        model[-1].weight.div_(scale)
        assert float((model(inputs).argmax(1) == labels).float().mean()) > 0.9
    weights = [p.detach().clone() for p in model.parameters()]
    stream = torch.get_rng_state()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    monitor = es.Monitor(model, Loop.loss, (inputs[:128], labels[:128]), optimizer=optimizer, act="auto", every=5)
    assert monitor.alerts.level("signal_flow") != "ok"
    assert monitor.actions == []
    assert all(map(torch.equal, weights, model.parameters()))
    assert torch.equal(stream, torch.get_rng_state())

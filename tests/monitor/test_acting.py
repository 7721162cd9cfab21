"""Actions between two steps: proposed, applied, judged, undone, on a small network that learns real digits."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import eigenscope as es
from eigenscope.actions import Action, Evidence, Situation
from eigenscope.errors import InputError
from zoo.data import digits_batches

LEARNING_RATE = 0.5


class Halve(Action):
    """Half the learning rate; the judgement is what the test says."""

    name = "halve"
    rules: ClassVar[tuple[str, ...]] = ("edge_of_stability",)
    words = "HALVE THE STEP SIZE"
    criterion = "the test says so"

    def __init__(self, verdict: bool | None = True) -> None:
        self.verdict, self.undone = verdict, 0
        self.cannot: str | None = None

    def can_apply(self, now: Situation) -> str | None:
        return self.cannot

    def apply(self, now: Situation) -> dict[str, object]:
        assert now.optimizer is not None
        rates = [[group["lr"], group["lr"] / 2] for group in now.optimizer.param_groups]
        for group in now.optimizer.param_groups:
            group["lr"] /= 2
        return {"lr": rates}

    def undo(self, now: Situation) -> None:
        self.undone += 1

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        return self.verdict


class Wreck(Halve):
    """Spoils everything that it can reach, then raises."""

    name = "wreck"
    words = "WRECK IT"

    def apply(self, now: Situation) -> dict[str, object]:
        super().apply(now)
        assert now.optimizer is not None
        with torch.no_grad():
            for p in now.model.parameters():
                p.mul_(float("nan"))
                p.grad = None
        for module in now.model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean += 1.0
        now.optimizer.state.clear()
        now.model.eval()
        torch.manual_seed(99)
        raise RuntimeError("there is no group 3\nat all")


class Scatter(Halve):
    """Throws the weights far away."""

    name = "scatter"
    words = "SCATTER"
    changes_weights = True

    def apply(self, now: Situation) -> dict[str, object]:
        with torch.no_grad():
            for p in now.model.parameters():
                p.add_(5 * torch.randn_like(p))
        return {"weights": "scattered"}

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        return None if after.loss is None or before.loss is None else after.loss <= before.loss


class Loop:
    """A network in training whose alert on the edge of stability stands from the first check on."""

    def __init__(self, *actions: Action, act: str = "auto", every: int = 5, **options: Any) -> None:
        torch.manual_seed(0)
        self.inputs, self.labels = digits_batches((256,))[0]
        self.model = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 10))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE, momentum=0.9)
        options.setdefault("rules", {"edge_of_stability": {"warning": 1e-6, "critical": 1e9}})
        self.monitor = es.Monitor(
            self.model, self.loss, (self.inputs[:64], self.labels[:64]), optimizer=self.optimizer, every=every,
            act=act, actions=actions or None, flow=False, lipschitz=False, **options,
        )  # fmt: skip

    @staticmethod
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def train(self, monitored: bool = True) -> Tensor:
        chosen = torch.randint(256, (64,))
        loss = self.loss(self.model, (self.inputs[chosen], self.labels[chosen]))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if monitored:
            self.monitor.step(loss)
        return loss.detach()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.train()

    @property
    def rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def states(self) -> list[tuple[str, str]]:
        return [(record.name, record.state) for record in self.monitor.actions]

    def bits(self) -> list[Tensor]:
        """Everything that an undo has to put back."""
        tensors = [*self.model.state_dict().values(), *(p.grad for p in self.model.parameters() if p.grad is not None)]
        momenta = [state["momentum_buffer"] for state in self.optimizer.state.values()]
        modes = [torch.tensor([module.training for module in self.model.modules()])]
        rates = torch.tensor([group["lr"] for group in self.optimizer.param_groups])
        return [t.clone() for t in (*tensors, *momenta, *modes, rates, torch.get_rng_state())]


# -- auto --------------------------------------------------------------------------------------------------------------


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


def test_one_that_raises_is_undone_to_the_bit_recorded_and_not_tried_again() -> None:
    wrecked, plain = Loop(Wreck()), Loop(act="observe")
    torch.manual_seed(1)
    wrecked.steps(5)
    after = wrecked.bits()
    torch.manual_seed(1)
    plain.steps(5)
    assert all(map(torch.equal, after, plain.bits()))
    (record,) = wrecked.monitor.actions
    assert (record.state, record.helped) == ("failed", None)
    assert record.note == (
        "RuntimeError: there is no group 3: everything is as it was before, and it is not tried again"
    )
    wrecked.steps(40)
    assert wrecked.states() == [("wreck", "failed")]


def test_one_that_hurts_the_loss_is_undone_by_itself_with_the_weights_and_not_tried_again() -> None:
    loop = Loop(Scatter())
    loop.steps(4)
    torch.manual_seed(7)
    loop.train(monitored=False)
    before = loop.bits()
    loop.monitor.step(1.0)  # step 5: applied
    assert loop.states() == [("scatter", "applied")]
    for _ in range(4):
        loop.train()
    loop.train(monitored=False)
    loop.monitor.step(50.0)  # step 10: judged
    assert loop.states() == [("scatter", "undone")]
    assert all(map(torch.equal, before, loop.bits())), "the random streams are put back too"
    note = loop.monitor.actions[0].note
    assert note.startswith("it did not help; the loss rose from")
    assert note.endswith("so weights, optimizer and random streams are as they were at step 5")
    loop.steps(40)
    assert loop.states() == [("scatter", "undone")]


def test_one_that_does_not_help_but_does_no_harm_gives_back_its_settings_and_keeps_what_was_learnt() -> None:
    action = Halve(verdict=False)
    loop = Loop(action)
    loop.steps(5)
    for _ in range(4):
        loop.train()
    loop.train(monitored=False)
    learnt = [p.clone() for p in loop.model.parameters()]
    loop.monitor.step(1e-3)
    (record,) = loop.monitor.actions
    assert (record.state, record.helped) == ("undone", False)
    assert "the loss has not risen, so what training has learnt since is kept" in record.note
    assert loop.rate == LEARNING_RATE
    assert all(map(torch.equal, learnt, loop.model.parameters()))
    assert action.undone == 1


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_undoes_it_at_once_and_to_the_bit(loss: float) -> None:
    loop = Loop(Scatter())
    loop.steps(4)
    loop.train(monitored=False)
    before = loop.bits()
    loop.monitor.step(1.0)
    loop.train()
    loop.train(monitored=False)
    loop.monitor.step(loss)
    assert all(map(torch.equal, before, loop.bits()))
    (record,) = loop.monitor.actions
    assert (record.state, record.step) == ("undone", 7)
    assert record.note == "the training loss is not finite: everything is as it was at step 5, before it"


def test_a_hook_that_fails_later_is_as_good_as_an_exception() -> None:
    action = Halve(verdict=None)
    loop = Loop(action)
    loop.steps(6)
    action.problem = "out of memory"
    loop.train()
    (record,) = loop.monitor.actions
    assert record.state == "failed"
    assert record.note.startswith("out of memory: ")
    assert (loop.rate, action.undone) == (LEARNING_RATE, 1)


def test_a_hook_that_fails_after_the_verdict_is_switched_off() -> None:
    action = Halve()
    loop = Loop(action)
    loop.steps(12)
    assert loop.states() == [("halve", "kept")]
    action.problem = "out of memory"
    loop.train()
    assert (loop.states(), action.undone) == ([("halve", "failed")], 1)
    loop.steps(30)
    assert len(loop.monitor.actions) == 1


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


def test_an_undo_that_raises_puts_the_rest_back_all_the_same() -> None:
    class Stubborn(Halve):
        name = "stubborn"

        def undo(self, now: Situation) -> None:
            raise RuntimeError("never")

    loop = Loop(Stubborn(verdict=False))
    loop.steps(10)
    assert (loop.rate, loop.states()) == (LEARNING_RATE, [("stubborn", "undone")])


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


class Switch(Halve):
    """To AdamW, and back."""

    name = "switch"

    def can_apply(self, now: Situation) -> str | None:
        return None if now.replace_optimizer else "the loop can't be told"

    def apply(self, now: Situation) -> dict[str, object]:
        assert now.optimizer is not None
        assert now.replace_optimizer is not None
        self.old = now.optimizer
        now.replace_optimizer(torch.optim.AdamW(now.model.parameters(), lr=1e-3))
        return {"optimizer": ["SGD", "AdamW"]}

    def undo(self, now: Situation) -> None:
        assert now.replace_optimizer is not None
        now.replace_optimizer(self.old)


def test_a_switch_of_the_optimizer_is_told_to_the_loop_and_taken_back() -> None:
    silent = Loop(Switch())
    silent.steps(10)
    assert silent.states() == [("switch", "refused")]  # said once, with the reason
    assert silent.monitor.actions[0].note == "the loop can't be told"

    told: list[torch.optim.Optimizer] = []
    loop = Loop(Switch(verdict=False), replace_optimizer=told.append)
    before = loop.optimizer
    loop.steps(5)
    assert [type(o).__name__ for o in told] == ["AdamW"]
    loop.optimizer = told[0]
    assert loop.monitor.optimizer is told[0]
    loop.steps(5)
    assert told[1] is before
    assert loop.monitor.optimizer is before
    assert loop.states() == [("switch", "undone")]


class Anew(Halve):
    """Starts a network anew, before its first step."""

    name = "anew"
    rules: ClassVar[tuple[str, ...]] = ("signal_flow",)
    words = "START ANEW"

    def can_apply(self, now: Situation) -> str | None:
        return None if now.step == 0 else "training has begun"

    def apply(self, now: Situation) -> dict[str, object]:
        for module in now.model.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight)
        return {"weights": "orthogonal"}

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        return None if after.flow is None else after.flow.verdict == "healthy"


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


def test_what_works_on_an_optimizer_that_is_replaced_lets_it_go() -> None:
    halve, told = Halve(), list[torch.optim.Optimizer]()
    loop = Loop(halve, Switch(), every=1, cool_down=2, replace_optimizer=told.append)
    loop.steps(2)
    assert loop.states() == [("halve", "kept")]
    halve.cannot = "it was enough"
    loop.steps(5)
    assert len(told) == 1
    assert halve.undone == 1
    assert loop.states()[0] == ("halve", "undone")
    assert loop.monitor.actions[0].note == "the optimizer that it worked on was replaced"


# -- ask ---------------------------------------------------------------------------------------------------------------


def test_a_proposal_waits_while_training_goes_on_and_is_applied_between_two_steps() -> None:
    loop = Loop(Halve(), act="ask")
    loop.steps(12)
    (record,) = loop.monitor.actions
    assert (record.key, record.state, record.step, loop.rate) == (1, "proposed", 5, LEARNING_RATE)
    loop.monitor.apply(1)
    assert loop.rate == LEARNING_RATE
    loop.train()
    assert (loop.rate, loop.states()) == (LEARNING_RATE / 2, [("halve", "applied")])
    assert loop.monitor.actions[0].applied_at == 13
    loop.steps(2)
    assert loop.states() == [("halve", "kept")]


def test_what_is_applied_at_a_check_is_judged_by_the_next_one() -> None:
    loop = Loop(Halve(), act="ask")
    loop.steps(9)
    loop.monitor.apply(1)
    loop.train()
    assert (loop.monitor.actions[0].applied_at, loop.states()) == (10, [("halve", "applied")])
    loop.steps(5)
    (record,) = loop.monitor.actions
    assert record.after is not None
    assert (record.state, record.step) == ("kept", 15)
    assert float(str(record.after["stability_ratio"])) < float(str((record.before or {})["stability_ratio"]))


def test_what_is_dismissed_does_not_come_again_while_its_alert_stands() -> None:
    loop = Loop(Halve(), act="ask")
    loop.steps(5)
    loop.monitor.dismiss(1)
    loop.steps(30)
    assert (loop.rate, loop.states()) == (LEARNING_RATE, [("halve", "dismissed")])


def test_a_proposal_whose_alert_is_over_is_withdrawn() -> None:
    loop = Loop(Halve(), act="ask")
    loop.steps(5)
    loop.monitor.alerts.limits["edge_of_stability"] = type(loop.monitor.alerts.limits["edge_of_stability"])(1e9, 1e9)
    loop.steps(5)
    (record,) = loop.monitor.actions
    assert (record.state, record.note) == ("dismissed", "no longer needed: the alert is over")


def test_what_can_not_be_applied_any_more_is_refused_with_the_reason() -> None:
    action = Halve()
    loop = Loop(action, act="ask")
    loop.steps(5)
    action.cannot = "the network is too far on"
    loop.monitor.apply(1)
    loop.train()
    (record,) = loop.monitor.actions
    assert (record.state, record.note, loop.rate) == ("refused", "the network is too far on", LEARNING_RATE)


@pytest.mark.parametrize("verb", ["apply", "dismiss"])
def test_an_answer_to_nothing_says_what_is_open(verb: str) -> None:
    loop = Loop(Halve(), act="ask")
    with pytest.raises(InputError, match="action 1 is not known: open are none"):
        getattr(loop.monitor, verb)(1)
    loop.steps(5)
    with pytest.raises(InputError, match="action 4 is not known: open are 1"):
        getattr(loop.monitor, verb)(4)
    loop.monitor.dismiss(1)
    loop.train()
    with pytest.raises(InputError, match="action 1 is dismissed already"):
        getattr(loop.monitor, verb)(1)


def test_asked_for_twice_it_is_applied_once() -> None:
    loop = Loop(Halve(), act="ask")
    loop.steps(5)
    loop.monitor.apply(1)
    loop.monitor.apply(1)
    loop.monitor.dismiss(1)
    loop.steps(3)
    assert (loop.rate, loop.states()) == (LEARNING_RATE / 2, [("halve", "applied")])


def test_the_log_says_how_a_proposal_is_answered(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    loop = Loop(Halve(), act="ask", run=tmp_path / "run")
    loop.steps(5)
    assert "step 5, action 1 proposed: HALVE THE STEP SIZE, because" in caplog.text
    assert "monitor.apply(1) or monitor.dismiss(1), its buttons in the dashboard" in caplog.text
    assert f"eigenscope actions {tmp_path / 'run.eigenscope'} --apply 1" in caplog.text
    loop.monitor.close()


def test_every_state_is_in_the_run_file(tmp_path: Path) -> None:
    loop = Loop(Halve(), act="ask", run=tmp_path / "run")
    loop.steps(5)
    loop.monitor.apply(1)
    loop.steps(5)
    loop.monitor.close()
    with es.load_run(tmp_path / "run") as run:
        (action,) = run.actions
        assert [entry["state"] for entry in action["log"]] == ["proposed", "applied", "kept"]
        assert [entry["step"] for entry in action["log"]] == [5, 6, 10]
        assert action["changed"] == {"lr": [[LEARNING_RATE, LEARNING_RATE / 2]]}
        assert run.config["act"] == "ask"


# -- observe and advise ------------------------------------------------------------------------------------------------


def test_advice_is_what_an_alert_says_and_nothing_is_applied() -> None:
    for act in ("advise", "observe"):
        loop = Loop(act=act)
        loop.steps(10)
        alert = loop.monitor.alerts.active["edge_of_stability"]
        assert (alert.action == "LOWER THE STEP SIZE") is (act == "advise")
        assert bool(alert.reason) is (act == "advise")
        assert (loop.monitor.actions, loop.rate) == ([], LEARNING_RATE)
        with pytest.raises(InputError, match="this monitor applies no actions: use act='ask' or 'auto'"):
            loop.monitor.apply(1)


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"act": "observ"}, "act='observ' is no policy: did you mean 'observe'?"),
        ({"action_limit": -1}, "action_limit=-1: a whole number is needed, at least 0"),
        ({"cool_down": 1.5}, "cool_down=1.5: a whole number is needed"),
        ({"act": "auto", "actions": ["halv_it"]}, "there is no action 'halv_it'"),
        ({"act": "advise", "actions": ["control_step"]}, "actions are given, but act='advise' applies none"),
        ({"act": "ask"}, "act='ask' needs optimizer=: actions work on it, and an undo puts its state back"),
    ],
)
def test_bad_policies_are_told_in_one_line_before_training_starts(options: dict[str, Any], words: str) -> None:
    model, batch = nn.Linear(64, 10), digits_batches((16,))[0]
    with pytest.raises(InputError, match=words) as caught:
        es.Monitor(model, Loop.loss, batch, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("act", ["ask", "auto"])
def test_distributed_training_is_refused_in_one_line(act: str, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        with pytest.raises(InputError, match="actions can't be applied to distributed training yet") as caught:
            Loop(Halve(), act=act)
        assert "\n" not in str(caught.value)
        Loop(act="advise").steps(5)
    finally:
        torch.distributed.destroy_process_group()


def test_training_that_becomes_distributed_later_is_left_alone(tmp_path: Path) -> None:
    loop = Loop(Halve())
    torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        loop.steps(10)
    finally:
        torch.distributed.destroy_process_group()
    assert (loop.states(), loop.rate) == ([], LEARNING_RATE)
    assert loop.monitor.alerts.level("acting") == "warning"


@pytest.mark.parametrize("act", ["ask", "auto"])
def test_accumulated_gradients_are_refused_in_one_line_and_alerts_go_on(act: str) -> None:
    loop = Loop(Halve(), act=act, every=2)
    for number in range(20):
        loss = loop.loss(loop.model, (loop.inputs[:32], loop.labels[:32]))
        (loss / 2).backward()  # type: ignore[no-untyped-call]
        if number % 2:
            loop.optimizer.step()
            loop.optimizer.zero_grad()
        loop.monitor.step(loss)
    assert (loop.states(), loop.rate) == ([], LEARNING_RATE)
    (alert,) = [alert for alert in loop.monitor.history if alert.rule == "acting"]
    assert "actions can't be applied while gradients are accumulated" in alert.message
    assert "\n" not in alert.message
    assert loop.monitor.alerts.level("edge_of_stability") == "warning"


@pytest.mark.parametrize("closure", [False, True])
def test_an_action_is_told_whether_the_loop_steps_with_a_closure(closure: bool) -> None:
    seen = []

    class Curious(Halve):
        name = "curious"

        def can_apply(self, now: Situation) -> str | None:
            seen.append(now.closure)
            return "only looking"

    loop = Loop(Curious())
    for _ in range(5):
        loss = loop.loss(loop.model, (loop.inputs, loop.labels))
        loop.optimizer.step((lambda loss=loss: loss) if closure else None)
        loop.monitor.step(loss)
    assert seen == [closure]


def test_a_skipped_step_now_and_then_is_no_accumulation() -> None:
    """As mixed precision does at its start."""
    loop = Loop(Halve(), every=20)
    for number in range(20):
        if number in (0, 3):
            loop.monitor.step(2.0)
        else:
            loop.train()
    assert loop.states() == [("halve", "applied")]


def test_after_the_end_nothing_of_the_monitor_is_left_on_the_optimizer() -> None:
    loop = Loop(Halve(), act="ask")
    assert len(loop.optimizer._optimizer_step_post_hooks) == 1
    loop.monitor.close()
    assert len(loop.optimizer._optimizer_step_post_hooks) == 0


@pytest.mark.parametrize("act", ["advise", "ask", "auto"])
def test_a_step_that_is_not_due_takes_less_than_20_microseconds(act: str, tmp_path: Path) -> None:
    """With an action on trial, or a proposal that waits for its answer; the best of many, on a busy machine too."""
    actions = [Halve(verdict=None)] if act != "advise" else []
    loop = Loop(*actions, act=act, run=tmp_path / "run")
    loop.steps(5)
    assert loop.states() == {"advise": [], "ask": [("halve", "proposed")], "auto": [("halve", "applied")]}[act]
    loop.monitor._checks.schedule.every = 10**9
    loss, taken = torch.tensor(0.5), []
    for _ in range(50):
        begin = time.perf_counter()
        for _ in range(100):
            loop.monitor.step(loss)
        taken.append((time.perf_counter() - begin) / 100)
    assert min(taken) < 20e-6
    loop.monitor.close()

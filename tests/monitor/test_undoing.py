"""What an action did is taken back: to the bit, or as much of it as the record says; hooks come off at the end."""

import math

import pytest
import torch
from torch import nn

from eigenscope.actions import Evidence, Situation
from monitor.acting_loop import LEARNING_RATE, Halve, Loop, Switch


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
    """Throws the weights far away, and keeps it to itself."""

    name = "scatter"
    words = "SCATTER"

    def apply(self, now: Situation) -> dict[str, object]:
        with torch.no_grad():
            for p in now.model.parameters():
                p.add_(5 * torch.randn_like(p))
        return {"weights": "scattered"}

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        return None if after.loss is None or before.loss is None else after.loss <= before.loss


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


def test_an_undo_that_raises_puts_the_rest_back_all_the_same() -> None:
    class Stubborn(Halve):
        name = "stubborn"

        def undo(self, now: Situation) -> None:
            raise RuntimeError("never")

    loop = Loop(Stubborn(verdict=False))
    loop.steps(10)
    assert (loop.rate, loop.states()) == (LEARNING_RATE, [("stubborn", "undone")])


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


class Hooked(Halve):
    """Works on by hooks of its own, until they are taken off."""

    @property
    def in_force(self) -> bool:
        return not self.released


def test_what_works_on_an_optimizer_that_is_replaced_lets_it_go() -> None:
    halve, told = Hooked(), list[torch.optim.Optimizer]()
    loop = Loop(halve, Switch(), every=1, cool_down=2, replace_optimizer=told.append)
    loop.steps(2)
    assert loop.states() == [("halve", "kept")]
    halve.cannot = "it was enough"
    loop.steps(5)
    assert len(told) == 1
    assert halve.released == 1
    assert loop.states()[0] == ("halve", "undone")
    assert loop.monitor.actions[0].note == "the optimizer that it worked on was replaced"


def test_what_was_done_once_and_for_all_is_not_undone_by_a_switch() -> None:
    halve, told = Halve(), list[torch.optim.Optimizer]()
    loop = Loop(halve, Switch(), every=1, cool_down=2, replace_optimizer=told.append)
    loop.steps(2)
    halve.cannot = "it was enough"
    loop.steps(5)
    assert len(told) == 1
    assert halve.released == 0
    assert loop.states()[0] == ("halve", "kept")


class Stubborn(Halve):
    """Can't be undone."""

    name = "stubborn"

    def undo(self, now: Situation) -> None:
        self.undone += 1
        raise RuntimeError("never")


def test_an_undo_that_raises_long_after_the_verdict_is_tried_once_and_told() -> None:
    action = Stubborn()
    loop = Loop(action)
    loop.steps(12)
    action.problem = "out of memory"
    loop.steps(3)
    assert (loop.states(), action.undone) == ([("stubborn", "failed")], 1)
    assert "measurement_failed" not in loop.monitor.alerts.active


class Nudge(Scatter):
    """Moves the weights a little, and never helps."""

    name = "nudge"
    changes_weights = True

    def apply(self, now: Situation) -> dict[str, object]:
        with torch.no_grad():
            for p in now.model.parameters():
                assert p.grad is not None
                p.sub_(1e-4 * p.grad)  # a little down: the loss does not rise
        return {"weights": "nudged"}

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        return False


def test_weights_that_an_action_changed_go_back_where_nothing_was_gained() -> None:
    loop = Loop(Nudge(), rules={"edge_of_stability": {"warning": 1e-99, "critical": 1e9}})
    loop.optimizer.param_groups[0]["lr"] = 1e-12
    loop.model.eval()
    loop.steps(4)
    loop.train(monitored=False)
    before = loop.bits()
    loop.monitor.step(1.0)
    assert not all(map(torch.equal, before, loop.bits()))
    loop.steps(5)
    assert all(map(torch.equal, before, loop.bits()))
    note = loop.monitor.actions[0].note
    assert note.startswith("it did not help; the loss stayed at ")
    assert note.endswith("so weights, optimizer and random streams are as they were at step 5")


def test_weights_that_an_action_changed_stay_where_the_loss_fell_and_the_record_says_so() -> None:
    loop = Loop(Nudge())
    loop.steps(9)
    loop.train(monitored=False)
    learnt = [p.clone() for p in loop.model.parameters()]
    loop.monitor.step(1.0)
    assert loop.states() == [("nudge", "undone")]
    assert all(map(torch.equal, learnt, loop.model.parameters()))
    note = loop.monitor.actions[0].note
    assert note.startswith("it did not help; the loss fell from ")
    assert note.endswith("so the weights stay, what it changed in them too")


def test_one_whose_weights_wreck_what_was_learnt_is_taken_back_at_once() -> None:
    class Wipe(Nudge):
        name = "wipe"

        def apply(self, now: Situation) -> dict[str, object]:
            with torch.no_grad():
                for p in now.model.parameters():
                    p.mul_(-9.0)
            return {"weights": "turned"}

    loop = Loop(Wipe(), every=60)
    loop.steps(59)
    loop.train(monitored=False)
    before = loop.bits()
    loop.monitor.step(1.0)
    assert loop.states() == [("wipe", "failed")]
    assert loop.monitor.actions[0].note.startswith("it takes the loss over the probe from ")
    assert all(map(torch.equal, before, loop.bits()))

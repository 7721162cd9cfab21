"""The loops that actions are applied in, those where they are not, and what it costs."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import eigenscope as es
from eigenscope.actions import Action, Evidence, Situation
from eigenscope.actions.hooks import Hooks
from eigenscope.errors import InputError
from monitor.acting_loop import LEARNING_RATE, Halve, Loop


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


def test_steps_that_mixed_precision_skips_at_its_start_delay_nothing_for_good() -> None:
    loop = Loop(Halve(), every=10)
    for number in range(20):
        if number < 3:
            loop.monitor.step(2.0)
        else:
            loop.train()
    assert [record.applied_at for record in loop.monitor.actions] == [10]


@pytest.mark.parametrize("act", ["ask", "auto"])
def test_accumulation_is_seen_whenever_it_begins_and_over_when_it_ends(act: str) -> None:
    """By the last 32 steps, however many went before."""
    loop = Loop(Halve(), act=act, every=50)
    edge = loop.monitor.alerts.limits["edge_of_stability"]
    loop.monitor.alerts.limits["edge_of_stability"] = replace(edge, enabled=False)
    loop.steps(149)
    for number in range(51):
        if number % 4 == 0:
            loop.train(monitored=False)
        loop.monitor.step(2.0)
        loop.monitor.alerts.limits["edge_of_stability"] = edge
    assert loop.states() == []
    assert "(the optimizer took 8 steps in the last 32 of" in loop.monitor.alerts.active["acting"].message
    loop.steps(50)
    assert loop.states() == [("halve", "proposed" if act == "ask" else "applied")]
    assert loop.monitor.alerts.level("acting") == "ok"


def test_losses_of_a_device_are_the_last_30_of_each_side_and_read_at_the_checks() -> None:
    """They wait as those of a GPU would."""
    seen = []

    class Curious(Halve):
        name = "curious"

        def helped(self, before: Evidence, after: Evidence) -> bool | None:
            seen.append((before.losses, before.history["loss_step"], after.losses, after.history["loss_step"]))
            return True

    loop = Loop(Curious(), every=50, action_limit=1)
    for step in range(1, 101):
        loop.train(monitored=False)
        loop.monitor._hearing.hold(step, torch.tensor(float(step)))
        loop.monitor.step()
        assert len(loop.monitor._hearing.pending) <= 30
    ((before, steps_before, after, steps_after),) = seen
    assert before == (1.0, *map(float, range(21, 51)))  # the first of the run: a rise is measured from it
    assert after == tuple(map(float, range(71, 101)))
    assert (list(steps_before), list(steps_after)) == (list(before), list(after))


def test_a_loss_of_a_device_that_is_not_finite_undoes_an_action_at_the_next_check() -> None:
    loop = Loop(Halve(verdict=None), every=10)
    for step in range(1, 21):
        loop.train(monitored=False)
        loop.monitor._hearing.hold(step, torch.tensor(float("nan") if step == 13 else 1.0))
        loop.monitor.step()
        assert loop.states() == ([] if step < 10 else [("halve", "applied" if step < 20 else "undone")])


class Hooked(Halve):
    """Counts the optimizer's steps in a hook."""

    name = "hooked"

    def __init__(self, verdict: bool | None = True) -> None:
        super().__init__(verdict)
        self._hooks, self.steps = Hooks(), 0

    def apply(self, now: Situation) -> dict[str, object]:
        assert now.optimizer is not None
        self._hooks.add(now.optimizer, after=self.count)
        return {"steps": "counted"}

    def count(self, *_: object) -> None:
        self.steps += 1

    release = Action.release


@pytest.mark.parametrize(("verdict", "steps"), [(True, 12), (None, 7)])
def test_at_the_end_every_hook_comes_off_and_what_is_on_trial_is_told(
    verdict: bool | None, steps: int, tmp_path: Path
) -> None:
    action = Hooked(verdict)
    loop = Loop(action, run=tmp_path / "run")
    loop.steps(steps)
    assert action.in_force
    loop.monitor.close()
    counted = action.steps
    loop.train(monitored=False)
    assert (action.in_force, action.steps) == (False, counted)
    assert not loop.optimizer._optimizer_step_post_hooks
    with es.load_run(tmp_path / "run") as run:
        (record,) = run.actions
    assert (record["state"], record["helped"]) == ("kept", verdict)
    if verdict is None:
        assert record["note"] == "the run ended before it could be judged"


def test_after_the_end_no_answer_is_taken() -> None:
    loop = Loop(Halve(), act="ask")
    loop.steps(5)
    loop.monitor.close()
    with pytest.raises(InputError, match="the run has ended: nothing can be applied to it any more"):
        loop.monitor.apply(1)


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

"""A switch of the optimizer while a `ControlStep` holds its steps, and back."""

import pytest
import torch

import eigenscope as es
from actions.training import flat, train
from eigenscope.actions import ControlStep, Situation, SwitchOptimizer
from eigenscope.diagnostics.step_factor import step_controls, step_factor
from eigenscope.scenarios import cross_entropy


def loop(model, optimizer, control, released):
    """A run as the monitor has it: what works on an optimizer lets go when another one replaces it."""
    holder = [optimizer]

    def replace(new):
        if released and control is not None:
            control.undo(None)
        holder[0] = new

    return holder, Situation(model, optimizer, cross_entropy, None, replace_optimizer=replace)


@pytest.mark.parametrize("released", [True, False])
@pytest.mark.parametrize("to", ["adamw", "muon"])
def test_undoing_a_switch_puts_a_kept_control_back_in_force(to, released, model, data):
    old = torch.optim.SGD(model.parameters(), lr=30.0)
    control = ControlStep()
    control.apply(Situation(model, old, cross_entropy, data))
    train(model, old, data, 5)
    holder, now = loop(model, old, control, released)
    action = SwitchOptimizer(to, lr=1e-3)
    action.apply(now)
    train(model, holder[0], data, 3)
    assert bool(step_controls(holder[0])) is not released
    action.undo(now)
    assert holder[0] is old
    assert step_controls(old) == [control]
    ratios = []
    for _ in range(5):  # the first of them on weights that it has not seen
        train(model, old, data)
        reading = es.curvature(model, cross_entropy, data, optimizer=old, max_matvecs=40)
        ratios.append(reading.stability_ratio.value)
    assert max(ratios) <= 0.93
    assert step_factor(old) == control.factor < 0.5
    assert old.param_groups[0]["lr"] == 30.0
    control.undo(now)
    assert step_controls(old) == []
    assert not old._optimizer_step_post_hooks


class InVain(SwitchOptimizer):
    """Once the control is kept, and never any help."""

    rules, checks = ("edge_of_stability",), 1

    def can_apply(self, now):
        return super().can_apply(now) or (None if now.step >= 6 else "not yet")

    def helped(self, before, after):
        return False


def test_in_a_run_with_a_monitor_too(model, data):
    holder = [torch.optim.SGD(model.parameters(), lr=20.0)]
    old, control = holder[0], ControlStep()
    monitor = es.Monitor(
        model, cross_entropy, data, optimizer=old, act="auto", actions=[control, InVain()], every=3, flow=False,
        lipschitz=False, cool_down=0, rules={"edge_of_stability": {"warning": 1e-9, "critical": 1e9}},
        replace_optimizer=lambda new: holder.__setitem__(0, new),
    )  # fmt: skip
    kinds = []
    for _ in range(12):
        kinds.append(type(holder[0]).__name__)
        monitor.step(train(model, holder[0], data)[0])
    assert "AdamW" in kinds
    assert holder[0] is old
    assert step_controls(old) == [control]
    assert monitor.reading.stability_ratio.value < 1
    assert [(r.name, r.state) for r in monitor.actions] == [("control_step", "kept"), ("switch_optimizer", "undone")]
    monitor.close()


def test_a_control_that_was_let_go_during_a_switch_stays_so(model, data):
    old = torch.optim.SGD(model.parameters(), lr=30.0)
    control = ControlStep().bind(model, cross_entropy, data, old)
    holder, now = loop(model, old, None, False)
    action = SwitchOptimizer(lr=1e-3)
    action.apply(now)
    control.release()
    action.undo(now)
    assert step_factor(holder[0]) == 1.0


def test_a_control_in_force_goes_on_with_the_new_one_and_measures_before_its_first_step(model, data):
    old = torch.optim.SGD(model.parameters(), lr=30.0)
    control = ControlStep(noisy=False).bind(model, cross_entropy, data, old)
    train(model, old, data, 3, after=control.step)
    new = SwitchOptimizer("adamw", lr=0.1).switch(old)
    assert step_factor(new) == 1.0
    measured, used = control.num_measurements, []
    new.register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))
    train(model, old, data)
    assert control.num_measurements == measured + 1
    assert used == [0.1 * step_factor(new)]
    assert step_factor(new) < 0.5


def test_without_a_rate_the_steps_are_as_long_as_a_control_has_left_them(model, data):
    old = torch.optim.SGD(model.parameters(), lr=30.0)
    control = ControlStep().bind(model, cross_entropy, data, old)
    before = flat(model)
    train(model, old, data)
    length = float((flat(model) - before).square().mean().sqrt())
    assert control.factor < 0.2
    assert SwitchOptimizer("adamw").switch(old).param_groups[0]["lr"] == pytest.approx(length, rel=1e-3)

"""The factor of a controlled step is in no checkpoint, copy, snapshot or learning rate that outlives a step."""

import copy
from contextlib import suppress

import pytest
import torch
from torch.optim import lr_scheduler

import eigenscope as es
from actions.training import closure_of, flat, plain_ratio, train
from eigenscope.actions import ControlStep, Snapshot
from eigenscope.diagnostics.stability import stability_edge
from eigenscope.diagnostics.step_factor import step_factor
from eigenscope.scenarios import cross_entropy, network

TARGET = 0.9


def test_the_published_ratio_knows_of_the_factor(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0)
    past = stability_edge(optimizer, list(model.parameters())).scale
    control = ControlStep().bind(model, cross_entropy, data, optimizer)
    assert stability_edge(optimizer, list(model.parameters())).scale == pytest.approx(control.factor * past)
    control.release()
    assert stability_edge(optimizer, list(model.parameters())).scale == past


@pytest.mark.parametrize("loaded", ["before", "after"])
def test_a_resumed_run_is_controlled_by_what_is_measured_then(loaded, model, data):
    """The checkpoint says nothing of the factor, whether it is loaded before the control is bound or after."""
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0)
    control = ControlStep().bind(model, cross_entropy, data, optimizer)
    train(model, optimizer, data, 10, after=control.step)
    assert control.factor < 0.2
    again = network(2)
    resumed = torch.optim.SGD(again.parameters(), lr=0.01)
    control = ControlStep().bind(again, cross_entropy, data, resumed) if loaded == "after" else None
    again.load_state_dict(model.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    control = control or ControlStep().bind(again, cross_entropy, data, resumed)
    lam, used = es.sharpness(again, cross_entropy, data).lambda_max.value, []
    resumed.register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))
    train(again, resumed, data)
    assert used == [30.0 * control.factor]
    assert 0.5 * TARGET < lam * used[0] / 2 <= 1.03 * TARGET, "the first step, too"
    control.step()
    published = es.curvature(again, cross_entropy, data, optimizer=resumed, max_matvecs=40).stability_ratio.value
    lam = es.sharpness(again, cross_entropy, data).lambda_max.value
    assert published == pytest.approx(lam * 30.0 * control.factor / 2, rel=0.03)


def test_a_run_resumed_without_a_control_is_measured_as_it_is(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0)
    ControlStep().bind(model, cross_entropy, data, optimizer)
    resumed = torch.optim.SGD(model.parameters(), lr=1.0)
    resumed.load_state_dict(optimizer.state_dict())
    past = plain_ratio(model, cross_entropy, data, resumed)
    assert past == pytest.approx(15 * es.sharpness(model, cross_entropy, data).lambda_max.value, rel=0.02)
    assert past > 4


def test_a_copy_of_a_controlled_optimizer_is_not_controlled(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0)
    control = ControlStep().bind(model, cross_entropy, data, optimizer)
    assert step_factor(optimizer) == control.factor < 0.5
    assert step_factor(copy.deepcopy(optimizer)) == 1.0


def test_a_restored_run_under_a_standing_control_goes_on_as_it_went_then_to_the_bit(model, data):
    """Of another action that was taken back: the factor of then belongs to the weights of then."""
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0)
    control = ControlStep().bind(model, cross_entropy, data, optimizer)
    train(model, optimizer, data, 3, after=control.step)
    factor, before = control.factor, Snapshot.of(model, optimizer)
    train(model, optimizer, data, 8, after=control.step)
    then, measured = (flat(model), control.factor, control.ratio), control.num_measurements
    assert control.factor != factor
    for _ in range(2):
        before.restore()
        assert step_factor(optimizer) == control.factor == factor
        assert plain_ratio(model, cross_entropy, data, optimizer) <= 1.03 * TARGET
        train(model, optimizer, data, 8, after=control.step)
        assert torch.equal(flat(model), then[0])
        assert (control.factor, control.ratio) == then[1:]
        assert control.num_measurements == measured


def test_a_restore_brings_back_no_control_that_was_let_go(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0)
    control = ControlStep().bind(model, cross_entropy, data, optimizer)
    before = Snapshot.of(model, optimizer)
    control.release()
    before.restore()
    assert step_factor(optimizer) == 1.0
    rates = []
    optimizer.register_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    train(model, optimizer, data)
    assert rates == [30.0]


def test_a_step_that_raised_leaves_no_scaled_rate_behind(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0)
    control = ControlStep().bind(model, cross_entropy, data, optimizer)

    def fails():
        raise RuntimeError("out of luck")

    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    with pytest.raises(RuntimeError, match="out of luck"):
        optimizer.step(fails)
    assert optimizer.param_groups[0]["lr"] == 30.0
    scheduler.step()
    train(model, optimizer, data)
    assert optimizer.param_groups[0]["lr"] == 15.0
    control.release()


def test_a_closure_that_raised_and_is_tried_again_within_the_step_gets_the_scaled_step(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0)
    calm, tried = closure_of(model, optimizer, data), []

    def fails_once():
        tried.append(1)
        if len(tried) == 1:
            raise RuntimeError("out of luck")
        return calm()

    def again(_, args, __):
        def closure():
            with suppress(RuntimeError):
                return args[1]()
            return args[1]()

        return (args[0], closure), {}

    control = ControlStep().bind(model, cross_entropy, data, optimizer)
    optimizer.register_step_pre_hook(again)
    before = flat(model)
    optimizer.step(fails_once)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert control.factor < 1
    assert torch.allclose(before - flat(model), 30.0 * control.factor * gradient, rtol=1e-4, atol=1e-6)


def test_a_checkpoint_taken_within_a_step_or_after_one_that_crashed_holds_the_plain_rate(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0)
    control, saved = ControlStep().bind(model, cross_entropy, data, optimizer), []

    def crash(*_):
        saved.append(optimizer.state_dict()["param_groups"][0]["lr"])
        raise RuntimeError("out of luck")

    optimizer.register_step_pre_hook(crash)  # as the optimizer itself may
    with pytest.raises(RuntimeError, match="out of luck"):
        optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 30.0 * control.factor < 30.0
    assert [*saved, optimizer.state_dict()["param_groups"][0]["lr"]] == [30.0, 30.0]

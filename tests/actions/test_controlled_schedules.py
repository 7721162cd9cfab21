"""A controlled step under learning-rate schedules: they go on as without it, and their decay stays a decay."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

import eigenscope as es
from actions.training import flat, plain_ratio, train
from eigenscope.actions import ControlStep, Snapshot, SwitchOptimizer
from eigenscope.scenarios import cross_entropy, network, squared_error

TARGET = 0.9
SCHEDULERS = {
    "steps": lambda o: lr_scheduler.StepLR(o, 5, 0.5),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 30, eta_min=0.1),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 20.0, total_steps=40),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 1.0, 20.0, step_size_up=7),
    "warm restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 6),
    "chained": lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)]),
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.CosineAnnealingLR(o, 20)], milestones=[5]
    ),
}


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")  # torch's SequentialLR's own
def test_any_scheduler_goes_on_as_without_the_control_and_the_steps_are_its_rates_times_the_factor(kind, data):
    runs = []
    for controlled in (False, True):
        torch.manual_seed(0)
        model = network(2)
        optimizer = torch.optim.SGD(model.parameters(), lr=16.0, momentum=0.9)
        scheduler = SCHEDULERS[kind](optimizer)
        control = ControlStep().bind(model, cross_entropy, data, optimizer) if controlled else None
        rates = []
        for _ in range(25):
            rate, factor = optimizer.param_groups[0]["lr"], control.factor if control else 1.0
            used = []
            handle = optimizer.register_step_pre_hook(lambda o, *_, used=used: used.append(o.param_groups[0]["lr"]))
            train(model, optimizer, data)
            handle.remove()
            assert used == [rate * factor]
            scheduler.step()
            if control:
                control.step()
            rates.append(optimizer.param_groups[0]["lr"])
        runs.append(rates)
    assert runs[0] == runs[1]
    assert math.isfinite(float(cross_entropy(model, data).detach()))


def test_the_rates_of_groups_keep_their_proportions(model, data):
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 8.0}, {"params": model[2:].parameters()}], lr=2.0
    )
    control = ControlStep().bind(model, cross_entropy, data, optimizer)
    before = flat(model)
    loss = cross_entropy(model, data)
    optimizer.zero_grad()
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    optimizer.step()
    rates = torch.cat(
        [torch.full((p.numel(),), 8.0 if p in set(model[0].parameters()) else 2.0) for p in model.parameters()]
    )
    torch.testing.assert_close(flat(model), before - control.factor * rates * gradient)
    assert plain_ratio(model, cross_entropy, data, optimizer) < 10


@pytest.mark.parametrize("rate", [10.0, 30.0])
def test_with_momentum_in_minibatches_the_run_ends_near_what_a_tuned_step_gives(rate, data):
    """1.0 is the largest of 0.1, 0.3, 1, 3, 10 that does not blow up, and the best."""

    def run(lr, controlled):
        torch.manual_seed(0)
        model = network(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 150)
        control = ControlStep().bind(model, cross_entropy, data, optimizer) if controlled else None
        for chosen in torch.randint(512, (150, 64)):
            train(model, optimizer, (data[0][chosen], data[1][chosen]), scheduler=scheduler)
            if control:
                control.step()
        return float(cross_entropy(model, data).detach())

    assert run(rate, False) > 0.5
    assert run(rate, True) < 0.02  # tuned: 0.001; where the control took the decay back it were 0.02 to 0.2


def test_the_factor_answers_a_rise_of_the_rate_and_leaves_its_fall_alone(data):
    """Linear regression, whose curvature never changes: what is left to see is the schedule."""
    model = torch.nn.Linear(64, 10)
    lam = es.sharpness(model, squared_error, data).lambda_max.value
    optimizer = torch.optim.SGD(model.parameters(), lr=8 / lam)  # 4 times past the edge
    control = ControlStep(TARGET, tolerance=1e-3).bind(model, squared_error, data, optimizer)
    steps, used = [], []
    optimizer.register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))
    for factor in (1.0, 2.0, 1.0, 0.5, 0.05, 1.0):
        optimizer.param_groups[0]["lr"] = factor * 8 / lam
        train(model, optimizer, data, 12, squared_error, after=control.step)
        steps.append(used[-1])
    assert max(used) <= 1.01 * 2 * TARGET / lam, "at the first step of a higher rate too"
    held = 2 * 0.92 * TARGET / lam  # the margin that is kept for the time until the next measurement
    wanted = [held, held, held / 2, held / 4, held / 40, held / 2]
    assert steps == pytest.approx(wanted, rel=0.02)
    for rate in (0.0, 80 / lam):
        optimizer.param_groups[0]["lr"] = rate
        train(model, optimizer, data, 12, squared_error, after=control.step)
    assert max(used) <= 1.01 * 2 * TARGET / lam, "after a rest too"


def decaying(data, model=None):
    """Linear regression at 4 times the edge, along a cosine of 200 steps, under control."""
    model = model or torch.nn.Linear(64, 10)
    lam = es.sharpness(model, squared_error, data).lambda_max.value
    optimizer = torch.optim.SGD(model.parameters(), lr=8 / lam)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 200)
    return model, optimizer, scheduler, ControlStep(TARGET).bind(model, squared_error, data, optimizer)


def steps_of(model, optimizer, scheduler, control, data, steps):
    """Their learning rates, as they were used."""
    used = []
    handle = optimizer.register_step_pre_hook(lambda o, *_: used.append(float(o.param_groups[0]["lr"])))
    train(model, optimizer, data, steps, squared_error, scheduler, control.step)
    handle.remove()
    return used


def test_a_run_that_is_resumed_in_a_decay_goes_on_decaying(data):
    run = decaying(data)
    steps_of(*run, data, 180)
    again = decaying(data)
    for mine, saved in zip(again[:3], run[:3], strict=True):
        mine.load_state_dict(saved.state_dict())
    assert steps_of(*again, data, 20) == pytest.approx(steps_of(*run, data, 20), rel=0.05)


def test_a_restored_run_decays_as_it_did_to_the_bit(data):
    run = decaying(data)
    steps_of(*run, data, 60)
    before = Snapshot.of(*run[:3])
    then = steps_of(*run, data, 60)
    before.restore()
    assert steps_of(*run, data, 60) == then


def test_a_switch_in_a_decay_goes_on_with_what_is_left_of_it(data):
    model, optimizer, scheduler, control = run = decaying(data)
    steps_of(*run, data, 160)
    left = scheduler.get_last_lr()[0] / scheduler.base_lrs[0]
    optimizer = SwitchOptimizer("adamw", lr=1.0).switch(optimizer, scheduler, model)  # far past the edge
    train(model, optimizer, data, 1, squared_error, scheduler, control.step)
    assert 0.5 * left * control.aim < control.ratio <= 1.3 * left * control.aim < 0.2 * control.aim


def test_a_group_whose_rate_stays_does_not_hide_that_another_decays(data):
    model, runs = torch.nn.Linear(64, 10), []
    lam = es.sharpness(model, squared_error, data).lambda_max.value
    for falls in (True, False):
        torch.manual_seed(0)
        model = torch.nn.Linear(64, 10)
        optimizer = torch.optim.SGD([{"params": [model.weight]}, {"params": [model.bias]}], lr=8 / lam)
        share = [lambda step: 1 - step / 100, (lambda step: 1 - step / 100) if falls else (lambda step: 1.0)]
        scheduler = lr_scheduler.LambdaLR(optimizer, share)
        control = ControlStep(TARGET).bind(model, squared_error, data, optimizer)
        runs.append(steps_of(model, optimizer, scheduler, control, data, 90)[-1])
    assert runs[1] == pytest.approx(runs[0], rel=0.1)

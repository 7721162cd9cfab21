"""The step stays under the edge of stability, measured by a look that is not the control's own."""

import copy
import math
from contextlib import suppress
from itertools import pairwise

import pytest
import torch
from torch.optim import lr_scheduler

import eigenscope as es
from actions.training import closure_of, flat, train
from eigenscope.actions import ControlStep, Evidence, Situation, Snapshot
from eigenscope.diagnostics.stability import stability_edge
from eigenscope.diagnostics.step_factor import step_factor
from eigenscope.scenarios import cross_entropy, network, squared_error

TARGET = 0.9


def plain_ratio(model, loss_fn, data, optimizer) -> float:
    """The ratio from all of a long Krylov run."""
    reading = es.curvature(model, loss_fn, data, optimizer=optimizer, max_matvecs=40)
    return reading.stability_ratio.value


def sgd(model, factor, lam, **more):
    beta = more.get("momentum", 0.0)
    edge = (2 + 2 * beta) / (1 + 2 * beta) if more.get("nesterov") else 2 + 2 * beta
    return torch.optim.SGD(model.parameters(), lr=factor * edge / lam, **more)


PLAIN = {"sgd": {}, "heavy ball": {"momentum": 0.9}, "nesterov": {"momentum": 0.9, "nesterov": True}}


@pytest.mark.parametrize("factor", [4, 16])
@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("loss_fn", [cross_entropy, squared_error])
def test_a_step_far_past_the_edge_is_held_under_the_target(kind, factor, loss_fn, model, data):
    lam = es.sharpness(model, loss_fn, data).lambda_max.value
    optimizer = sgd(model, factor, lam, **PLAIN[kind])
    assert plain_ratio(model, loss_fn, data, optimizer) == pytest.approx(factor, rel=0.02)
    control = ControlStep(TARGET, noisy=False).bind(model, loss_fn, data, optimizer)
    ratios = []

    def after():
        control.step()
        if len(ratios) < 25:
            ratios.append(plain_ratio(model, loss_fn, data, optimizer))

    losses = train(model, optimizer, data, 60, loss_fn, after=after)
    assert max(ratios) <= 1.03 * TARGET
    assert losses[-1] < 0.6 * losses[0]
    assert control.num_matvecs / control.num_measurements < 6


@pytest.mark.parametrize("factor", [4, 16])
def test_without_it_the_same_step_diverges(factor, model, data):
    lam = es.sharpness(model, squared_error, data).lambda_max.value
    losses = train(model, sgd(model, factor, lam), data, 40, squared_error)
    assert not losses[-1] < losses[0]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_adams_ratio_is_held_too_and_a_warm_up_comes_out_of_it(kind, rate, model, data):
    optimizer = kind(model.parameters(), lr=rate)
    control = ControlStep(TARGET, noisy=False).bind(model, cross_entropy, data, optimizer)
    first, ratios = control.factor, []
    assert first < 0.25, "4 times past the edge before the first step"

    def after():
        control.step()
        ratios.append(plain_ratio(model, cross_entropy, data, optimizer))

    losses = train(model, optimizer, data, 30, after=after)
    assert max(ratios) <= 1.03 * TARGET
    assert control.factor > 3 * first
    assert losses[-1] < 0.2 * losses[0]


def test_minibatches_with_momentum_are_held_nearly_always(model, data):
    lam = es.sharpness(model, cross_entropy, data).lambda_max.value
    optimizer = sgd(model, 8, lam, momentum=0.9)
    control = ControlStep(TARGET, noisy=False).bind(model, cross_entropy, data, optimizer)
    over = 0
    for _ in range(60):
        chosen = torch.randint(512, (64,))
        train(model, optimizer, (data[0][chosen], data[1][chosen]))
        control.step()
        over += plain_ratio(model, cross_entropy, data, optimizer) > TARGET
    assert over <= 1
    assert 3 < control.num_matvecs / control.num_measurements < 7


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
    assert run(rate, True) < 0.1


def test_measurements_may_be_kept_apart(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0, momentum=0.9)
    control = ControlStep(least=5).bind(model, cross_entropy, data, optimizer)
    measured = []
    for step in range(40):
        chosen = torch.randint(512, (64,))
        train(model, optimizer, (data[0][chosen], data[1][chosen]))
        if control.step() is not None:
            measured.append(step)
    assert measured[:2] == [0, 4]  # steps: by fours until they are `least` apart
    assert {b - a for a, b in pairwise(measured[1:])} <= set(range(5, 11))
    assert float(cross_entropy(model, data).detach()) < 2.3


@pytest.mark.parametrize("closure", [False, True])
def test_a_gradient_that_has_grown_is_measured_on_before_its_step(closure, model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    control = ControlStep(least=50, every=50).bind(model, cross_entropy, data, optimizer)
    train(model, optimizer, data, 20, after=control.step)
    measured = control.num_measurements
    with torch.no_grad():
        model[0].weight.mul_(20)  # something of outside: the control is not due for long
        model[-1].weight.mul_(20)
    weights = flat(model)

    def gradients():
        optimizer.zero_grad()
        loss = cross_entropy(model, data)
        loss.backward()
        return loss

    optimizer.step(gradients) if closure else (gradients(), optimizer.step())
    assert control.num_measurements == measured + 1
    assert control.factor < 1.0
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    taken = weights - 0.01 * control.factor * gradient
    torch.testing.assert_close(flat(model), taken, msg="already in that step")
    assert optimizer.param_groups[0]["lr"] == 0.01


def test_a_measurement_that_fails_within_a_step_is_told_after_it(model, data):
    broken = [False]

    def loss_fn(model, batch):
        return cross_entropy(model, batch) * (float("nan") if broken[0] else 1.0)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    control = ControlStep(least=50, every=50).bind(model, loss_fn, data, optimizer)
    train(model, optimizer, data, 20, after=control.step)
    broken[0] = True
    with torch.no_grad():
        model[-1].weight.mul_(100)
    train(model, optimizer, data, 1)
    with pytest.raises(es.EigenscopeError, match="nan"):
        control.step()


def test_the_aim_counts_momentum_unless_told_that_there_is_no_noise(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for noisy, aim in ((True, 0.09), (False, 0.9)):
        control = ControlStep(noisy=noisy).bind(model, cross_entropy, data, optimizer)
        assert control.aim == pytest.approx(aim)
        control.release()
    adam = torch.optim.Adam(model.parameters(), lr=0.001, betas=(0.8, 0.99))
    assert ControlStep().bind(model, cross_entropy, data, adam).aim == pytest.approx(0.18)


def test_a_step_that_is_small_enough_is_left_alone_to_the_bit(data):
    runs = []
    for controlled in (False, True):
        torch.manual_seed(3)
        model = network(2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        after = None
        if controlled:
            control = ControlStep().bind(model, cross_entropy, data, optimizer)
            after = control.step
        train(model, optimizer, data, 10, after=after)
        runs.append(flat(model))
    assert torch.equal(*runs)
    assert control.factor == 1.0


SCHEDULERS = {
    "steps": lambda o: lr_scheduler.StepLR(o, 5, 0.5),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 30, eta_min=0.1),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 20.0, total_steps=40),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 1.0, 20.0, step_size_up=7),
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


def test_as_an_action_it_needs_no_call_and_comes_off_again(situation, model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0)
    now, action = situation(optimizer), ControlStep()
    assert action.can_apply(now) is None
    changed = action.apply(now)
    assert changed["lr"] == [[30.0, 30.0 * changed["factor"]]]
    assert "controlled already" in action.can_apply(now)
    assert "another ControlStep" in ControlStep().can_apply(now)
    train(model, optimizer, data, 10)
    assert action.num_measurements > 3
    assert action.problem is None
    assert optimizer.param_groups[0]["lr"] == 30.0
    action.undo(now)
    action.undo(now)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_what_goes_wrong_in_a_loop_of_others_is_told_and_training_goes_on(situation, model, data):
    now = situation(torch.optim.SGD(model.parameters(), lr=0.1))
    action = ControlStep(every=1)
    action.apply(now)
    now.loss_fn = None
    train(model, now.optimizer, data, 2)
    assert "loss_fn" in action.problem


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


@pytest.mark.parametrize(("optimizer", "message"), [
    (lambda ps: torch.optim.Adagrad(ps), "no stability threshold is known for Adagrad"),
    (lambda ps: torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]), "holds none of the model's parameters"),
    (lambda ps: torch.optim.SGD(ps, maximize=True), "maximizes"),
])  # fmt: skip
def test_what_has_no_edge_is_refused(optimizer, message, model, data):
    with pytest.raises(es.InputError, match=message):
        ControlStep().bind(model, cross_entropy, data, optimizer(model.parameters()))


def test_bad_settings_and_an_unbound_control_are_told():
    with pytest.raises(es.InputError, match="target=0"):
        ControlStep(0)
    with pytest.raises(es.InputError, match="every=0: whole numbers"):
        ControlStep(every=0)
    with pytest.raises(es.InputError, match="not bound"):
        ControlStep().step()
    assert "no optimizer" in ControlStep().can_apply(Situation(None, None, None, None))


def test_it_helped_if_the_ratio_is_at_its_target(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0)
    before = Evidence(0, [2.0], es.curvature(model, cross_entropy, data, optimizer=optimizer))
    control = ControlStep().bind(model, cross_entropy, data, optimizer)
    after = Evidence(1, [2.0], es.curvature(model, cross_entropy, data, optimizer=optimizer))
    assert control.helped(before, after)
    assert not control.helped(before, before)
    assert control.helped(before, Evidence(1, [float("nan")], after.reading)) is False
    assert control.helped(before, Evidence(1, [2.0])) is None

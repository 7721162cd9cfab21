"""The step stays under the edge of stability, measured by a look that is not the control's own."""

import pytest
import torch

import eigenscope as es
from actions.training import flat, plain_ratio, train
from eigenscope.actions import ControlStep, Evidence, Situation
from eigenscope.scenarios import cross_entropy, network, squared_error

TARGET = 0.9


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


def test_measurements_may_be_kept_apart(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0, momentum=0.9)
    control = ControlStep(least=5).bind(model, cross_entropy, data, optimizer)
    counts = []
    for _ in range(60):
        chosen = torch.randint(512, (64,))
        train(model, optimizer, (data[0][chosen], data[1][chosen]))
        control.step()
        counts.append(control.num_measurements)
    assert counts[:3] == [2, 2, 2]  # one when it was bound, one after the first step, then by fours
    assert counts[-1] <= 60 / 5 + 4  # a few more where a gradient is loud
    assert float(cross_entropy(model, data).detach()) < 2.3  # 300 and more without


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
    for noisy, aim in ((True, 0.9 * (1 - 0.9)), (False, 0.9)):
        control = ControlStep(noisy=noisy).bind(model, cross_entropy, data, optimizer)
        assert control.aim == pytest.approx(aim)
        control.release()
    adam = torch.optim.Adam(model.parameters(), lr=0.001, betas=(0.8, 0.99))
    assert ControlStep().bind(model, cross_entropy, data, adam).aim == pytest.approx(0.9 * 0.2)


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

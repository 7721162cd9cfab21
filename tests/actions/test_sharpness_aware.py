"""SAM and ASAM to the bit of arithmetic that the papers give."""

import copy

import pytest
import torch
from torch import nn

import eigenscope as es
from actions.training import WithEmbedding, closure_of, flat, tokens, train
from eigenscope.actions import ClipGradients, Evidence, SharpnessAware, Situation
from eigenscope.scenarios import cross_entropy, network

OPTIMIZERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "heavy ball": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01),
}


def by_hand(model, optimizer, data, rho, adaptive):
    """Foret et al., algorithm 1; Kwon et al., algorithm 1 with T = |w| + η on weights."""
    named = list(model.named_parameters())
    gradients = torch.autograd.grad(cross_entropy(model, data), [p for _, p in named])
    scales = [p.detach().abs() + 0.01 if adaptive and "weight" in n else torch.ones_like(p) for n, p in named]
    norm = sum((t * g).square().sum() for t, g in zip(scales, gradients, strict=True)).sqrt()
    old = [p.detach().clone() for _, p in named]
    with torch.no_grad():
        for (_, p), t, g in zip(named, scales, gradients, strict=True):
            p.add_(rho * t**2 * g / norm)
    nearby = torch.autograd.grad(cross_entropy(model, data), [p for _, p in named])
    with torch.no_grad():
        for (_, p), value, g in zip(named, old, nearby, strict=True):
            p.copy_(value)
            p.grad = g
    optimizer.step()


@pytest.mark.parametrize("adaptive", [False, True], ids=["SAM", "ASAM"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_steps_are_those_written_by_hand(kind, adaptive, data):
    inputs = (data[0].double(), data[1])
    models = [network(2).double()]
    models.append(copy.deepcopy(models[0]))
    first, second = (OPTIMIZERS[kind](m.parameters()) for m in models)
    rho = 0.5 if adaptive else 0.05
    sam = SharpnessAware(models[0], first, rho=rho, adaptive=adaptive)
    for _ in range(5):
        sam.step(lambda: cross_entropy(models[0], inputs))
        by_hand(models[1], second, inputs, rho, adaptive)
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-13)


def test_it_is_not_the_plain_step(data):
    models = [network(2), None]
    models[1] = copy.deepcopy(models[0])
    plain, aware = (torch.optim.SGD(m.parameters(), lr=0.1) for m in models)
    train(models[0], plain, data)
    SharpnessAware(models[1], aware, rho=0.05).step(lambda: cross_entropy(models[1], data))
    assert not torch.equal(models[0][0].weight, models[1][0].weight)


def test_as_an_action_it_changes_what_a_closure_does_for_a_stretch(data):
    models = [network(2)]
    models.append(copy.deepcopy(models[0]))
    first, second = (torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in models)
    action = SharpnessAware(rho=0.1, steps=3)
    action.apply(Situation(models[0], first, cross_entropy, data, closure=True))
    alone = SharpnessAware(models[1], second, rho=0.1)
    for step in range(5):
        before = float(cross_entropy(models[0], data).detach())
        returned = first.step(closure_of(models[0], first, data))
        assert float(returned.detach()) == before
        if step < 3:
            alone.step(lambda: cross_entropy(models[1], data))
        else:
            train(models[1], second, data)
    assert torch.equal(models[0][0].weight, models[1][0].weight)
    assert action.steps_done == 3
    assert action.can_apply(Situation(models[0], first, cross_entropy, data, closure=True)) is None
    action.undo(Situation(models[0], first, cross_entropy, data))
    assert not first._optimizer_step_pre_hooks


def test_the_end_of_its_stretch_does_not_disturb_other_hooks(situation, model, data):
    now, action, seen = situation(), SharpnessAware(steps=2), []
    action.apply(now)
    now.optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    now.optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    for _ in range(4):
        now.optimizer.step(closure_of(model, now.optimizer, data))
    assert action.steps_done == 2
    assert seen == ["before", "after"] * 4
    action.apply(now)
    now.optimizer.step(closure_of(model, now.optimizer, data))
    assert action.steps_done == 1


def test_as_an_action_it_ends_by_itself_and_alone_it_does_not(situation, model, data):
    now, action = situation(), SharpnessAware()
    assert action.apply(now)["steps"] == action.steps == 1000
    alone = SharpnessAware(model, torch.optim.SGD(model.parameters(), lr=0.1), steps=1)
    for _ in range(3):
        alone.step(lambda: cross_entropy(model, data))
    assert alone.steps_done == 3
    with pytest.raises(es.InputError, match="steps=0"):
        SharpnessAware(steps=0)


def test_a_second_gradient_that_fails_makes_the_step_a_plain_one_and_is_told(data):
    models = [nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))]
    models.append(copy.deepcopy(models[0]))
    first, second = (torch.optim.SGD(m.parameters(), lr=0.1) for m in models)
    action, calls = SharpnessAware(), []
    action.apply(Situation(models[0], first, cross_entropy, data, closure=True))
    closure = closure_of(models[0], first, data)

    def fails_nearby():
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of luck")
        return closure()

    for _ in range(2):
        first.step(fails_nearby)
        train(models[1], second, data)
    assert action.problem == "RuntimeError('out of luck')"
    assert len(calls) == 4
    for name, value in models[0].state_dict().items():
        assert torch.equal(value, models[1].state_dict()[name])


def test_what_the_closure_raises_is_the_loops_own(situation, model):
    now, action = situation(), SharpnessAware()
    action.apply(now)

    def broken():
        raise RuntimeError("out of data")

    with pytest.raises(RuntimeError, match="out of data"):
        now.optimizer.step(broken)
    assert action.problem is None


@pytest.mark.parametrize("clipped_first", [False, True])
def test_clipping_beside_it_clips_what_is_stepped_by_in_either_order(clipped_first, data):
    models = [network(2)]
    models.append(copy.deepcopy(models[0]))
    first, second = (torch.optim.SGD(m.parameters(), lr=0.1) for m in models)
    action, clip = SharpnessAware(), ClipGradients(max_norm=0.1)
    if clipped_first:
        clip.bind(first)
    action.apply(Situation(models[0], first, cross_entropy, data, closure=True))
    if not clipped_first:
        clip.bind(first)
    ClipGradients(max_norm=0.1).bind(second)
    alone = SharpnessAware(models[1], second)
    for _ in range(3):
        first.step(closure_of(models[0], first, data))
        alone.step(lambda: cross_entropy(models[1], data))
    assert (action.problem, clip.problem) == (None, None)
    assert torch.equal(flat(models[0]), flat(models[1]))


def test_sparse_gradients_are_left_out_of_the_climb():
    model, batch = WithEmbedding(sparse=True), tokens()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    head = nn.Linear(4, 3)
    head.load_state_dict(model.head.state_dict())
    features = model.embedding(batch[0]).mean(1).detach()
    SharpnessAware(model, optimizer).step(lambda: cross_entropy(model, batch))
    other = torch.optim.SGD(head.parameters(), lr=0.1)
    SharpnessAware(head, other).step(lambda: cross_entropy(head, (features, batch[1])))
    torch.testing.assert_close(model.head.weight, head.weight)


def test_a_loop_without_closures_is_refused_and_told_if_it_comes_anyway(situation, model, data):
    now, action = situation(), SharpnessAware()
    assert "without a closure" in action.can_apply(now)
    now.closure = True
    assert action.can_apply(now) is None
    action.apply(now)
    train(model, now.optimizer, data)
    assert "without a closure" in action.problem
    action.undo(now)
    action.undo(now)
    assert not now.optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.InstanceNorm1d])
def test_running_statistics_see_each_batch_once(kind, data):
    norm = kind(8, track_running_stats=True)
    model = nn.Sequential(nn.Linear(8, 8), norm, nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
    batch = (data[0].view(-1, 8, 8), data[1])
    once = copy.deepcopy(model)
    once(batch[0])
    SharpnessAware(model, torch.optim.SGD(model.parameters(), lr=0.1)).step(lambda: cross_entropy(model, batch))
    assert torch.equal(norm.running_mean, once[1].running_mean)
    assert int(norm.num_batches_tracked) == int(once[1].num_batches_tracked)


def test_a_second_gradient_that_fails_leaves_the_parameters_in_place(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before, calls = model[0].weight.clone(), []

    def loss():
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of luck")
        return model(torch.ones(3, 64)).square().sum()

    with pytest.raises(RuntimeError, match="out of luck"):
        SharpnessAware(model, optimizer).step(loss)
    assert torch.equal(model[0].weight, before)


def test_a_gradient_of_zero_moves_nothing(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model[0].weight.clone()
    SharpnessAware(model, optimizer).step(lambda: 0.0 * model(torch.ones(3, 64)).sum())
    assert torch.equal(model[0].weight, before)


def test_it_helped_if_the_sharpness_fell_and_the_loss_did_not_rise(model, data):
    sharp = es.curvature(model, cross_entropy, data)
    flatter = es.curvature(model, lambda m, b: 0.5 * cross_entropy(m, b), data)
    action = SharpnessAware()
    assert action.helped(Evidence(0, [1.0], sharp), Evidence(1, [1.0], flatter))
    assert not action.helped(Evidence(0, [1.0], flatter), Evidence(1, [1.0], sharp))
    assert not action.helped(Evidence(0, [1.0], sharp), Evidence(1, [1.2], flatter))
    little = es.curvature(model, lambda m, b: 0.95 * cross_entropy(m, b), data)
    assert not action.helped(Evidence(0, [1.0], sharp), Evidence(1, [1.0], little))
    assert action.helped(Evidence(0, [1.0]), Evidence(1, [1.0])) is None


def test_the_radius_is_the_papers_own():
    assert (SharpnessAware().rho, SharpnessAware(adaptive=True).rho) == (0.05, 0.5)
    with pytest.raises(es.InputError, match="rho=-1"):
        SharpnessAware(rho=-1.0)
    with pytest.raises(es.InputError, match="nothing to step"):
        SharpnessAware().step(lambda: torch.zeros(()))

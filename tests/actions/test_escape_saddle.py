"""Off a saddle along negative curvature: far, downhill, and in fewer steps than noise takes."""

import copy

import pytest
import torch
from torch import nn

import eigenscope as es
from actions.training import flat, gradient_of, train
from eigenscope.actions import EscapeSaddle, Evidence, Situation
from eigenscope.scenarios import cross_entropy, network, scenario, squared_error
from oracles import dense_hessian


@pytest.fixture
def saddle(data):
    """The scenario's: all weights 0, the gradient vanishes to rounding."""
    chosen = scenario("saddle")
    return Situation(chosen.model, torch.optim.SGD(chosen.model.parameters(), lr=0.1), cross_entropy, data)


@pytest.fixture
def symmetric(data):
    """An MLP whose hidden units all are the same one, trained as far as that goes: descent never tells them apart."""
    model = network(1)
    with torch.no_grad():
        for p in (model[0].weight, model[0].bias):
            p.copy_(p[:1].expand_as(p).clone())
        model[2].weight.copy_(model[2].weight[:, :1].expand_as(model[2].weight).clone())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, data, 1500, squared_error)
    return Situation(model, optimizer, squared_error, data)


@pytest.mark.parametrize("directions", [1, None])
def test_the_step_lies_in_the_dense_hessians_negative_eigenspace_and_lowers_the_loss(directions, small):
    model, data = small
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        model[2].bias.copy_((torch.bincount(data[1], minlength=10) / len(data[1])).log())
    now = Situation(model, None, cross_entropy, data)
    values, vectors = torch.linalg.eigh(dense_hessian(model, cross_entropy, [data]))
    before, loss = flat(model), cross_entropy(model, data)
    changed = EscapeSaddle(directions=directions).apply(now)
    move = flat(model) - before
    negative = vectors[:, (values - values[0]).abs() < 1e-3 * values[0].abs() if directions else values < 0]
    rayleigh = move @ dense_hessian_at(model, before, data) @ move / move.square().sum()
    assert changed["direction"] == "negative curvature"
    assert changed["curvature"] == pytest.approx(float(rayleigh), rel=1e-3)
    assert rayleigh < 0
    assert torch.linalg.vector_norm(negative.T @ move) == pytest.approx(changed["step"], rel=0.02)
    assert changed["loss"] == pytest.approx([float(loss.detach()), float(cross_entropy(model, data).detach())])
    assert changed["loss"][1] < changed["loss"][0]


def dense_hessian_at(model, theta, data):
    twin = copy.deepcopy(model)
    nn.utils.vector_to_parameters(theta, twin.parameters())
    return dense_hessian(twin, cross_entropy, [data])


def steps_to_leave(now, target) -> int:
    for step in range(2000):
        if float(now.loss_fn(now.model, now.batches).detach()) < target:
            return step
        train(now.model, now.optimizer, now.batches, loss_fn=now.loss_fn)
    return 2000


@pytest.mark.parametrize("kind", ["saddle", "symmetric"])
def test_it_leaves_a_saddle_at_least_five_times_sooner_than_noise(kind, request):
    now = request.getfixturevalue(kind)
    start = {k: v.clone() for k, v in now.model.state_dict().items()}
    target = 0.95 * float(now.loss_fn(now.model, now.batches).detach())
    EscapeSaddle().apply(now)
    escaped = steps_to_leave(now, target)
    now.model.load_state_dict(start)
    with torch.no_grad():
        for p in now.model.parameters():
            p.add_(1e-3 * torch.randn_like(p))
    noisy = steps_to_leave(now, target)
    assert 5 * max(escaped, 1) <= noisy


def test_plain_descent_stays_where_it_is(saddle):
    before = float(cross_entropy(saddle.model, saddle.batches).detach())
    losses = train(saddle.model, saddle.optimizer, saddle.batches, 50)
    assert losses[-1] == pytest.approx(before, rel=1e-3)


def test_it_measures_no_more_than_the_lowest_directions_take(saddle):
    changed = EscapeSaddle().apply(saddle)
    assert changed["products"] <= 16
    assert changed["directions"] >= 3


def test_all_certified_directions_together_lower_the_loss_more_than_the_lowest(saddle, symmetric):
    for now in (saddle, symmetric):
        start = {k: v.clone() for k, v in now.model.state_dict().items()}
        together = EscapeSaddle().apply(now)["loss"][1]
        now.model.load_state_dict(start)
        assert together < EscapeSaddle(directions=1).apply(now)["loss"][1]


def test_on_a_plateau_without_curvature_the_random_step_goes_as_far_as_the_loss_stays(data):
    """Three linear layers at 0: the second derivatives vanish, and a short step would change nothing for long."""
    model = nn.Sequential(nn.Linear(64, 32, bias=False), nn.Linear(32, 32, bias=False), nn.Linear(32, 10))
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        model[2].bias.copy_((torch.bincount(data[1], minlength=10) / len(data[1])).log())
    length = 0.01 * (1 + float(flat(model).norm()))
    before = float(cross_entropy(model, data).detach())
    changed = EscapeSaddle().apply(Situation(model, None, cross_entropy, data))
    assert changed["direction"] == "random"
    assert changed["step"] > 8 * length
    assert float(cross_entropy(model, data).detach()) == pytest.approx(before, rel=0.01)


def test_the_sign_is_against_the_gradient(small):
    model, data = small
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.01)
    before = flat(model)
    gradient = gradient_of(model, data)
    EscapeSaddle().apply(Situation(model, None, cross_entropy, data))
    assert torch.dot(flat(model) - before, gradient) <= 0


def test_without_negative_curvature_it_moves_at_random_or_says_why_not(data):
    model = nn.Linear(64, 10)
    now = Situation(model, None, cross_entropy, data)
    before = flat(model)
    with pytest.raises(es.InputError, match="none could be certified"):
        EscapeSaddle(random=False).apply(now)
    assert torch.equal(flat(model), before)
    changed = EscapeSaddle(radius=0.02).apply(now)
    assert changed["direction"] == "random"
    length = float(torch.linalg.vector_norm(flat(model).double() - before.double()))
    assert length == pytest.approx(0.02 * (1 + float(before.norm())), rel=1e-4)


def test_random_streams_are_left_alone(saddle):
    before = torch.get_rng_state()
    EscapeSaddle().apply(saddle)
    assert torch.equal(before, torch.get_rng_state())


def test_it_is_for_saddles_and_helped_if_there_is_none_any_more(saddle):
    action = EscapeSaddle()
    at = es.curvature(saddle.model, cross_entropy, saddle.batches)
    saddle.reading = at
    assert at.verdict == "saddle"
    assert action.can_apply(saddle) is None
    action.apply(saddle)
    off = es.curvature(saddle.model, cross_entropy, saddle.batches)
    saddle.reading = off
    assert "at no saddle" in action.can_apply(saddle)
    assert action.helped(Evidence(0, reading=at), Evidence(1, reading=off))
    assert not action.helped(Evidence(0, reading=at), Evidence(1, reading=es.curvature(*_scenario(saddle))))
    assert action.helped(Evidence(0, reading=at), Evidence(1)) is None


def test_what_the_optimizer_does_not_train_is_not_moved(saddle):
    saddle.optimizer = torch.optim.SGD(saddle.model[-1].parameters(), lr=0.1)
    assert "does not train" in EscapeSaddle().can_apply(saddle)
    saddle.model[:-1].requires_grad_(False)
    assert EscapeSaddle().can_apply(saddle) is None
    assert EscapeSaddle().can_apply(Situation(saddle.model, None, cross_entropy, saddle.batches)) is None


def _scenario(now):
    return scenario("saddle").model, now.loss_fn, now.batches


@pytest.mark.parametrize("settings", [{"max_matvecs": 2}, {"trials": 0}, {"radius": 0.0}, {"directions": 0}])
def test_bad_settings_are_told(settings):
    with pytest.raises(es.InputError, match="needed"):
        EscapeSaddle(**settings)

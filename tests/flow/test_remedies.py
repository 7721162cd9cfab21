"""What is advised fits the verdict, and what a trial says is what a user would measure after doing it."""

import copy
import functools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import eigenscope as es
from flow.networks import WIDTH, Residual, chain, deep, inputs, wave
from zoo import seeded

X = inputs(6, WIDTH)
BY_EVIDENCE = ["orthogonal_init", "residual", "normalization", "spectral_norm", "clip_gradients"]


@functools.cache
def exploding():
    return es.signal_flow(chain(30, 1.3), wave, X, try_remedies=True)


@functools.cache
def vanishing():
    return es.signal_flow(deep(12, nn.Sigmoid, 1.0, width=WIDTH), wave, X, try_remedies=True)


def tried(found, name):
    return next(remedy.tried for remedy in found.remedies if remedy.name == name)


def after(model):
    found = es.signal_flow(model, wave, X, branches=False)
    return found.verdict, found.growth, found.depth_factor, found.worst.sigma_max.value, found.gradient_norm


def outcome(done):
    return done.verdict, done.growth, done.depth_factor, done.sigma_max, done.gradient_norm


def assert_same(done, measured):
    assert done.reason is None
    assert outcome(done)[0] == measured[0]
    assert outcome(done)[1:3] == pytest.approx(measured[1:3], rel=1e-4)
    assert done.sigma_max == pytest.approx(measured[3], rel=1e-2)
    assert done.gradient_norm == pytest.approx(measured[4], rel=1e-4)


def test_untried_they_stand_in_the_order_of_evidence():
    found = es.signal_flow(chain(30, 1.3), wave, X)
    assert [remedy.name for remedy in found.remedies] == BY_EVIDENCE
    assert all(remedy.tried is None for remedy in found.remedies)


def test_what_vanishes_is_neither_clipped_nor_divided_by_its_norm():
    assert {remedy.name for remedy in vanishing().remedies} == set(BY_EVIDENCE[:3])


def test_a_healthy_network_needs_none():
    assert es.signal_flow(chain(30, 1.0), wave, X, try_remedies=True).remedies == ()


@pytest.mark.parametrize("found", [exploding, vanishing])
def test_tried_the_best_comes_first(found):
    distances = [
        abs(math.log(remedy.tried.depth_factor)) for remedy in found().remedies if remedy.name != "clip_gradients"
    ]
    assert distances == sorted(distances)
    assert found().remedies[0].tried.verdict == "healthy"


def test_clipping_comes_last_and_mends_no_jacobian():
    done, last = tried(exploding(), "clip_gradients"), exploding().remedies[-1]
    assert last.name == "clip_gradients"
    assert (done.verdict, done.depth_factor) == ("exploding", exploding().depth_factor)
    assert done.gradient_norm == pytest.approx(exploding().gradient_norm / 1.3**30, rel=1e-3)
    assert f"clip_grad_norm_(parameters, {done.gradient_norm:.2g})" in last.what


def test_orthogonal_start_makes_a_linear_chain_an_isometry():
    done = tried(exploding(), "orthogonal_init")
    assert (done.verdict, done.growth) == ("healthy", pytest.approx(1, rel=1e-2))
    assert done.sigma_max == pytest.approx(1, rel=1e-2)


def test_spectral_normalization_is_the_layers_divided_by_their_norms():
    model = chain(30, 1.3)
    for layer in model:
        layer.weight.data /= torch.linalg.svdvals(layer.weight.data)[0]
    assert_same(tried(exploding(), "spectral_norm"), after(model))


class Shortcut(nn.Module):
    """x + F(x)/√L."""

    def __init__(self, *inner, scale):
        super().__init__()
        self.inner, self.scale = nn.Sequential(*inner), scale

    def forward(self, x):
        return x + self.scale * self.inner(x)


class Normalized(nn.Module):
    """A layer's output without mean and with variance 1."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return F.layer_norm(self.layer(x), (WIDTH,))


@pytest.mark.parametrize("make", [lambda: chain(30, 1.3), lambda: deep(12, nn.Sigmoid, 1.0, width=WIDTH)])
def test_residual_connections_are_as_a_user_would_write_them(make):
    found = es.signal_flow(make(), wave, X, try_remedies=True)
    layers, model = list(make()), make()
    size = 2 if isinstance(layers[1], nn.Sigmoid) else 1
    parts = [layers[i : i + size] for i in range(0, len(layers), size)]
    model = nn.Sequential(*[Shortcut(*part, scale=len(parts) ** -0.5) for part in parts])
    measured = after(model)
    done = tried(found, "residual")
    assert outcome(done)[1:3] == pytest.approx(measured[1:3], rel=1e-4)
    assert done.gradient_norm == pytest.approx(measured[4], rel=1e-4)


def test_normalization_is_as_a_user_would_write_it():
    parts = [Normalized(m) if isinstance(m, nn.Linear) else m for m in deep(12, nn.Sigmoid, 1.0, width=WIDTH)]
    measured = after(nn.Sequential(*parts))
    done = tried(vanishing(), "normalization")
    assert (done.depth_factor, done.gradient_norm) == pytest.approx((measured[2], measured[4]), rel=1e-4)


def test_a_network_with_normalization_is_not_told_to_add_it():
    model = deep(12, nn.Sigmoid, 1.0, width=WIDTH, norm=nn.BatchNorm1d)
    found = es.signal_flow(model, wave, X)
    assert found.verdict == "vanishing"
    assert "normalization" not in {remedy.name for remedy in found.remedies}


def test_a_residual_network_is_not_told_to_become_one():
    with seeded(0):
        model = nn.Sequential(*[Residual(scale=3.0) for _ in range(12)])
    found = es.signal_flow(model, wave, X, try_remedies=True)
    assert found.verdict == "exploding"
    assert {remedy.name for remedy in found.remedies} == {"orthogonal_init", "clip_gradients"}
    assert tried(found, "orthogonal_init").reason is None


def test_weights_that_are_all_zero_are_to_be_drawn_again():
    model = deep(4, nn.Tanh, 0.0, width=WIDTH)
    found = es.signal_flow(model, wave, X, try_remedies=True)
    assert (found.verdict, found.layer_at_fault) == ("vanishing", "0")
    assert tried(found, "orthogonal_init").verdict == "healthy"
    assert tried(found, "normalization").verdict == "vanishing", "what is constant has no variance to rescale"


def test_a_loss_that_holds_on_to_the_original_says_why_nothing_was_tried():
    model = chain(30, 1.3)
    found = es.signal_flow(model, lambda _, x: wave(model, x), X, try_remedies=True)
    reasons = {remedy.name: remedy.tried.reason for remedy in found.remedies}
    assert reasons.pop("clip_gradients") is None
    assert set(reasons.values()) == {"loss_fn does not use the model that it is handed, but the original"}
    assert all(r.tried.to_dict()["depth_factor"] is None for r in found.remedies if r.name in reasons)


def test_a_model_that_can_not_be_copied_says_why_nothing_was_tried():
    model = chain(30, 1.3)
    model.cached = model[0].weight * 2  # no leaf of the graph: it has no deep copy
    found = es.signal_flow(model, wave, X, try_remedies=True)
    assert "Only Tensors created explicitly by the user" in tried(found, "orthogonal_init").reason


def test_a_layer_that_takes_more_than_a_tensor_is_tried_with_all_but_a_shortcut():
    class Pair(nn.Linear):
        def forward(self, pair):
            return (super().forward(pair[0]), None)

    with seeded(0):
        layers = [Pair(WIDTH, WIDTH) for _ in range(12)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight)
        layer.weight.data *= 2
    model = nn.Sequential(*layers)
    found = es.signal_flow(model, lambda m, x: wave(lambda x: m((x, None))[0], x), X, try_remedies=True)
    assert tried(found, "residual").reason == "0 does not take and return one tensor"
    assert tried(found, "orthogonal_init").verdict == "healthy"
    assert found.remedies[0].name in ("orthogonal_init", "spectral_norm")


def test_weighted_batches_keep_their_weights_in_a_trial():
    batches, weight = [X, X[:2]], lambda batch: 1.0 if len(batch) > 2 else 7.0
    model = chain(30, 1.3)
    found = es.signal_flow(model, wave, batches, batch_weight=weight, try_remedies=True)
    divided = copy.deepcopy(model)
    for layer in divided:
        layer.weight.data /= 1.3
    measured = es.signal_flow(divided, wave, batches, batch_weight=weight)
    assert tried(found, "spectral_norm").gradient_norm == pytest.approx(measured.gradient_norm, rel=1e-3)


def test_a_trial_of_named_blocks_looks_at_the_same_blocks():
    names = [str(index) for index in range(30)]
    found = es.signal_flow(chain(30, 1.3), wave, X, blocks=names, try_remedies=True)
    assert tried(found, "orthogonal_init").growth == pytest.approx(1, rel=1e-2)


def test_one_layer_alone_may_be_the_whole_model():
    with seeded(0):
        model = nn.Linear(WIDTH, WIDTH, bias=False)
    model.weight.data.mul_(0)
    found = es.signal_flow(model, wave, X, try_remedies=True)
    assert (found.verdict, found.layer_at_fault) == ("vanishing", "Linear")
    assert tried(found, "orthogonal_init").verdict == "healthy"


def test_compiled_parts_are_tried_too():
    torch.compiler.reset()
    model = chain(12, 2.0)
    model = nn.Sequential(*[torch.compile(layer, backend="aot_eager") for layer in model])
    found = es.signal_flow(model, wave, X, try_remedies=True)
    assert {remedy.name for remedy in found.remedies if remedy.tried.reason is None} >= {"residual", "spectral_norm"}

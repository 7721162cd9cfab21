"""Rescale, SpectralNormalize and Reinitialize against dense singular values."""

import pytest
import torch
from torch import nn

import eigenscope as es
from actions.training import flat, train
from eigenscope.actions import Evidence, Reinitialize, Rescale, Situation, SpectralNormalize
from eigenscope.actions.spectral_normalize import spectral_norm
from eigenscope.scenarios import cross_entropy, deep


def situation_of(model, data, lr=0.05) -> Situation:
    now = Situation(model, torch.optim.SGD(model.parameters(), lr=lr), cross_entropy, (data[0][:32], data[1][:32]))
    now.flow = es.signal_flow(model, cross_entropy, now.batches)
    return now


@pytest.fixture
def exploding(data):
    return situation_of(deep(12, nn.Tanh, gain=4.0), data)


@pytest.fixture
def vanishing(data):
    return situation_of(deep(10, nn.Sigmoid, gain=1.0), data)


def dense_rms(layer, activation, inputs):
    """‖J‖_F/√n of activation(layer(x)), from the dense Jacobian of each sample."""

    def block(x):
        return activation(layer(x))

    jacobians = torch.stack([torch.autograd.functional.jacobian(block, x) for x in inputs])
    return float((jacobians.square().sum() / (len(inputs) * inputs.shape[1])) ** 0.5)


# -- rescale --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exploding", "vanishing"])
def test_rescale_makes_the_flow_healthy(kind, request):
    now = request.getfixturevalue(kind)
    action = Rescale()
    assert now.flow.verdict == kind
    assert action.can_apply(now) is None
    scales = action.apply(now)["scale"]
    assert set(scales) <= set(now.flow.layers_at_fault)
    assert all((scale < 1) == (kind == "exploding") for scale in scales.values())
    after = es.signal_flow(now.model, cross_entropy, now.batches)
    assert after.verdict == "healthy"
    assert after.severity < 0.1 * now.flow.severity
    assert action.helped(Evidence(0, flow=now.flow), Evidence(1, flow=after))
    assert not action.helped(Evidence(0, flow=after), Evidence(1, flow=now.flow))


def test_a_rescaled_layers_jacobian_has_the_target_for_a_random_signal(data):
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 10))
    now = situation_of(model, data)
    before = model[1].weight.clone()
    Rescale(["0"], target=2.0).apply(now)
    assert torch.equal(model[1].weight, before)
    assert dense_rms(model[0], nn.Identity(), now.batches[0]) == pytest.approx(2.0, rel=0.05)


# -- spectral normalization -----------------------------------------------------------------------------------------


def test_the_norm_is_that_of_a_dense_decomposition():
    for shape in [(7, 3), (40, 60), (8, 4, 3, 3), (1, 9)]:
        weight = torch.randn(shape)
        sigma, vector = spectral_norm(weight, None)
        exact = torch.linalg.svdvals(weight.flatten(1).double())[0]
        assert float(sigma) == pytest.approx(float(exact), rel=1e-3)
        again, _ = spectral_norm(weight, vector)
        assert float(again) == pytest.approx(float(exact), rel=1e-3)
    assert float(spectral_norm(torch.zeros(3, 3), None)[0]) == 0.0


def test_it_scales_what_is_over_the_target_and_nothing_else(exploding):
    model = exploding.model
    with torch.no_grad():
        model[0].weight.div_(1000)
    before = {name: m.weight.detach().clone() for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    SpectralNormalize(list(before), target=1.5, hold=False).apply(exploding)
    for name, weight in before.items():
        sigma = torch.linalg.svdvals(weight)[0]
        expected = weight * min(1.0, 1.5 / float(sigma))
        torch.testing.assert_close(model.get_submodule(name).weight, expected, rtol=2e-3, atol=1e-6)
    assert torch.equal(model[0].weight, before["0"])


def test_it_holds_after_each_step_and_lets_go(exploding, data):
    model = exploding.model
    keys = list(model.state_dict())
    action = SpectralNormalize(target=1.0)
    assert action.can_apply(exploding) is None
    changed = action.apply(exploding)["sigma_max"]
    assert set(changed) == set(exploding.flow.layers_at_fault)
    assert list(model.state_dict()) == keys
    optimizer = exploding.optimizer
    optimizer.param_groups[0]["lr"] = 1.0
    held = [model.get_submodule(name).weight for name in changed]
    for _ in range(5):
        train(model, optimizer, data)
        assert max(float(torch.linalg.svdvals(w.detach())[0]) for w in held) < 1.005
    assert "normalized already" in action.can_apply(exploding)
    action.undo(exploding)
    action.undo(exploding)
    assert not optimizer._optimizer_step_post_hooks


def test_its_flow_no_longer_explodes(exploding):
    action = SpectralNormalize()
    action.apply(exploding)
    after = es.signal_flow(exploding.model, cross_entropy, exploding.batches)
    assert after.verdict != "exploding"


@pytest.mark.parametrize("action", [SpectralNormalize(), Rescale()])
def test_a_healthy_network_is_left_alone(action, data):
    now = situation_of(deep(2, nn.Tanh, gain=1.0), data)
    assert "signal flow is healthy" in action.can_apply(now)


def test_a_vanishing_gradient_is_no_case_for_spectral_normalization(vanishing):
    assert "vanishing" in SpectralNormalize().can_apply(vanishing)


@pytest.mark.parametrize(("name", "message"), [("o", "no layer 'o'"), ("1", "no weight matrix")])
def test_a_layer_that_is_none_is_told(name, message, exploding):
    for action in (Rescale([name]), SpectralNormalize([name])):
        with pytest.raises(es.InputError, match=message):
            action.apply(exploding)


# -- reinitialize ---------------------------------------------------------------------------------------------------


def test_all_singular_values_are_one(data):
    model = deep(4, nn.Tanh, gain=3.0)
    now = situation_of(model, data)
    changed = Reinitialize(keep_signal=False).apply(now)
    for name in changed["layers"]:
        sigma = torch.linalg.svdvals(model.get_submodule(name).weight.detach().double())
        torch.testing.assert_close(sigma, torch.ones_like(sigma), rtol=0, atol=1e-5)
        assert changed["singular_value"][name] == pytest.approx(1.0, abs=1e-5)
    assert all(not m.bias.any() for m in model if isinstance(m, nn.Linear))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_is_an_isometry_of_images(groups):
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, groups=groups))
    Reinitialize(keep_signal=False).apply(Situation(model, None, None, None))
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x).flatten(), torch.randn(1, 4, 5, 5))
    sigma = torch.linalg.svdvals(jacobian.reshape(8 * 25, 4 * 25))
    torch.testing.assert_close(sigma, torch.ones_like(sigma), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("activation", "gain"), [(nn.Tanh, 3.0), (nn.ReLU, 0.5), (nn.ReLU, 3.0)])
def test_keeping_the_signal_makes_fifty_layers_healthy(activation, gain, data):
    now = situation_of(deep(50, activation, gain), data)
    assert now.flow.verdict in ("exploding", "vanishing")
    Reinitialize().apply(now)
    after = es.signal_flow(now.model, cross_entropy, now.batches)
    assert after.verdict == "healthy"
    assert Reinitialize().helped(Evidence(0, flow=now.flow), Evidence(0, flow=after))


def test_fifty_sigmoids_keep_the_signal_only_with_centred_biases(data):
    now = situation_of(deep(50, nn.Sigmoid, gain=1.0), data)
    assert now.flow.verdict == "vanishing"
    assert Reinitialize().apply(now)["centred"]
    after = es.signal_flow(now.model, cross_entropy, now.batches)
    assert after.verdict == "healthy"
    outputs = now.batches[0]
    for layer in now.model[:-1]:
        outputs = layer(outputs)
        if isinstance(layer, nn.Linear):
            torch.testing.assert_close(outputs.mean(0), torch.zeros(outputs.shape[1]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_biases_stay_0_where_weights_are_enough(activation, data):
    model = deep(50, activation, gain=0.5)
    assert not Reinitialize().apply(situation_of(model, data))["centred"]
    assert all(not m.bias.any() for m in model if isinstance(m, nn.Linear))


def test_it_is_for_the_start_only(exploding, data):
    action = Reinitialize()
    assert action.can_apply(exploding) is None
    exploding.step = 1
    assert "training has begun (step 1)" in action.can_apply(exploding)
    exploding.step = 0
    exploding.optimizer = torch.optim.Adam(exploding.model.parameters())
    train(exploding.model, exploding.optimizer, data)
    assert "training has begun" in action.can_apply(exploding)
    assert "no dense or convolution layer" in action.can_apply(Situation(nn.LayerNorm(3), None, None, None))


def test_it_draws_from_a_stream_of_its_own(exploding):
    before = torch.get_rng_state()
    Reinitialize(seed=1).apply(exploding)
    one = flat(exploding.model)
    Reinitialize(seed=1).apply(exploding)
    assert torch.equal(one, flat(exploding.model))
    Reinitialize(seed=2).apply(exploding)
    assert not torch.equal(one, flat(exploding.model))
    assert torch.equal(before, torch.get_rng_state())

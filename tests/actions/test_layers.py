"""Rescale, SpectralNormalize and Reinitialize against dense singular values."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import eigenscope as es
from actions.training import flat, train
from eigenscope.actions import Evidence, Reinitialize, Rescale, Situation, SpectralNormalize
from eigenscope.actions.spectral_normalize import spectral_norm
from eigenscope.scenarios import cross_entropy, deep, network


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


def test_a_layer_that_is_gone_does_not_stop_the_loop_and_is_told(exploding):
    action, optimizer, model = SpectralNormalize(["0", "2"], target=1.0), exploding.optimizer, exploding.model
    action.apply(exploding)
    del model[2].weight
    with torch.no_grad():
        before = model[0].weight.mul_(2).clone()
    for _ in range(2):
        optimizer.step()
    assert "no attribute `weight`" in action.problem
    assert torch.equal(model[0].weight, before)
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


@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Conv2d(4, 6, 3, padding=1)], ids=["dense", "convolution"])
def test_half_precision_gets_single_precisions_weights_rounded(layer):
    half = copy.deepcopy(layer).bfloat16()
    for one in (layer, half):
        Reinitialize(keep_signal=False).apply(Situation(nn.Sequential(one), None, None, None))
    assert torch.equal(half.weight, layer.weight.bfloat16())


def test_the_signal_is_kept_in_half_precision_too(data):
    now = situation_of(deep(20, nn.Tanh, 3.0).bfloat16(), (data[0].bfloat16(), data[1]))
    Reinitialize().apply(now)
    assert es.signal_flow(now.model, cross_entropy, now.batches).verdict == "healthy"


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


def trained(data, model, steps=300):
    train(model, torch.optim.Adam(model.parameters(), lr=3e-3), data, steps)
    return Situation(model, None, cross_entropy, data)


def test_what_a_network_has_learnt_is_not_thrown_away(data):
    """Nor is anything touched to find that out."""
    now = trained(data, deep(6, nn.Tanh, gain=1.0))
    before, stream = flat(now.model), torch.get_rng_state()
    assert "what the network has learnt would be lost: its loss on the probe is 0." in Reinitialize().can_apply(now)
    assert torch.equal(flat(now.model), before)
    assert torch.equal(torch.get_rng_state(), stream)


def test_a_trained_network_under_a_new_last_layer_has_learnt_too(data):
    now = trained(data, network(2))
    now.model[-1].reset_parameters()
    assert "times that of the same weights in another order" in Reinitialize().can_apply(now)


def test_batch_norms_that_have_seen_batches_are_of_a_trained_network(data):
    model = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    now = Situation(model, None, cross_entropy, data)
    assert Reinitialize().can_apply(now) is None
    model(data[0])
    assert "its batch norms have seen 1 batches" in Reinitialize().can_apply(now)


def test_a_probe_that_fails_is_no_leave_to_start_anew(data):
    now = Situation(network(1), None, cross_entropy, (data[0][:, :5], data[1]))
    assert "whether it has learnt can't be told from the probe" in Reinitialize().can_apply(now)
    assert Reinitialize().can_apply(replace(now, fresh=True)) is None  # known already: the probe is not asked


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Sigmoid])
@pytest.mark.parametrize("gain", [0.5, 1.0, 3.0])
def test_a_fresh_network_is_fresh_at_any_depth_and_scale(activation, gain, data):
    for depth in (3, 50):
        assert Reinitialize().can_apply(situation_of(deep(depth, activation, gain), data)) is None


def test_a_start_from_which_the_loss_rises_by_more_than_a_tenth_did_not_help(data):
    """Whatever it was before: a signal that vanishes predicts nothing, which may cost less."""
    worse, better = situation_of(deep(12, nn.Tanh, gain=4.0), data), situation_of(deep(2, nn.Tanh, gain=1.0), data)
    before = Evidence(0, flow=worse.flow, probe_loss=1.0)
    for losses, helped in (([2.3], True), ([2.3] * 9 + [2.4] * 9, True), ([2.3] * 9 + [2.6] * 9, False)):
        assert Reinitialize().helped(before, Evidence(1, losses, flow=better.flow)) is helped
    assert Reinitialize().helped(before, Evidence(1, [float("nan"), 2.3], flow=better.flow)) is False


def test_a_flow_that_moves_a_little_by_itself_is_nobodys_merit(exploding):
    better = replace(exploding.flow, severity=0.8 * exploding.flow.severity)
    for action in (Rescale(), SpectralNormalize(), Reinitialize()):
        assert action.helped(Evidence(0, flow=exploding.flow), Evidence(1, flow=better)) is None
        assert action.helped(Evidence(0, flow=better), Evidence(1, flow=exploding.flow)) is False


def test_it_draws_from_a_stream_of_its_own(exploding):
    before = torch.get_rng_state()
    Reinitialize(seed=1).apply(exploding)
    one = flat(exploding.model)
    Reinitialize(seed=1).apply(exploding)
    assert torch.equal(one, flat(exploding.model))
    Reinitialize(seed=2).apply(exploding)
    assert not torch.equal(one, flat(exploding.model))
    assert torch.equal(before, torch.get_rng_state())

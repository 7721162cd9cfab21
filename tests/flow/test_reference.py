"""Networks whose flow is known in closed form."""

import math

import pytest
import torch
from torch import nn

import eigenscope as es
from flow.networks import WIDTH, Residual, chain, deep, inputs, wave
from zoo import seeded

X = inputs(6, WIDTH)


def flow(model, x=X, **settings):
    return es.signal_flow(model, wave, x, **settings)


@pytest.mark.parametrize(("sigma", "factor"), [(1.1, 117.39085), (1.5, 6.3762150e8)])
def test_fifty_layers_that_amplify_explode_by_the_power_of_fifty(sigma, factor):
    found = flow(chain(50, sigma))
    assert found.growth == pytest.approx(sigma, rel=1e-5)
    assert found.depth_factor == pytest.approx(factor, rel=1e-4)
    assert (found.verdict, found.layer_at_fault) == ("exploding", "0")
    assert len(found.layers_at_fault) == 50
    for block in found.blocks:
        for value in (block.sigma_max.value, block.sigma_rms.value, block.growth):
            assert value == pytest.approx(sigma, rel=1e-5)


def test_fifty_layers_that_shrink_vanish_alike():
    found = flow(chain(50, 0.5))
    assert found.depth_factor == pytest.approx(0.5**50, rel=1e-4)
    assert (found.verdict, found.layer_at_fault) == ("vanishing", "0")


def test_orthogonal_layers_keep_a_gradient_exactly():
    found = flow(chain(50, 1.0))
    assert found.verdict == "healthy"
    assert found.layer_at_fault is None
    assert found.remedies == ()
    assert found.depth_factor == pytest.approx(1, abs=1e-5)
    assert "stays as it is" in found.verdict_reason


@pytest.mark.parametrize(("factor", "verdict"), [(98.0, "exploding"), (0.01, "vanishing")])
def test_one_bad_layer_of_fifty_is_the_one_that_is_named(factor, verdict):
    found = flow(chain(50, 1.0, bad=17, factor=factor))
    assert (found.verdict, found.layers_at_fault) == (verdict, ("17",))
    assert found.blocks[17].sigma_max.value == pytest.approx(factor, rel=1e-5)
    assert "in 17 (Linear)" in found.verdict_reason


def test_a_growth_beyond_single_precision_is_followed():
    """60 layers of 10: 10⁶⁰ is no number of fp32."""
    found = es.signal_flow(chain(60, 10.0), lambda model, x: (model(x) * 1e-30).sum(), X * 1e-35)
    assert found.depth_factor == pytest.approx(1e60, rel=1e-3)
    assert found.verdict == "exploding"
    found = flow(chain(60, 0.1))
    assert found.depth_factor == pytest.approx(1e-60, rel=1e-3)
    assert (found.verdict, len(found.layers_at_fault)) == ("vanishing", 60)


def test_sigmoids_vanish_where_relus_of_the_right_scale_do_not():
    """A sigmoid's derivative is at most 1/4; ReLU with variance 2/n keeps a gradient's size (He et al. 2015)."""
    x = inputs(6, 64)
    sigmoid, relu = (es.signal_flow(deep(50, a, g), wave, x) for a, g in ((nn.Sigmoid, 1.0), (nn.ReLU, 2**0.5)))
    assert sigmoid.verdict == "vanishing"
    assert sigmoid.depth_factor < 0.25**50 * 4
    assert all(block.sigma_rms.value < 0.25 * 1.2 for block in sigmoid.blocks)
    assert relu.verdict == "healthy"
    assert all(block.sigma_rms.value == pytest.approx(1, abs=0.25) for block in relu.blocks)


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.BatchNorm1d])
@pytest.mark.parametrize("scale", [3.0, 0.1])
def test_normalization_keeps_a_badly_scaled_network_healthy(norm, scale):
    """Per-layer rescaling undoes the weights' scale; of batch norm only by the batch's own statistics."""
    x = inputs(64, 64)
    model = deep(10, nn.Tanh, scale, norm=norm).train()
    assert es.signal_flow(model, wave, x, train_mode=True).verdict == "healthy"
    if norm is nn.BatchNorm1d and scale == 0.1:  # in evaluation mode running statistics of 0 and 1 rescale nothing
        assert es.signal_flow(model, wave, x).verdict == "vanishing"


def test_layer_norm_has_the_singular_values_of_the_formula():
    """J = (I − 11ᵀ/n − zzᵀ/n)/s: n − 2 singular values of 1/s and two of 0, z the normalized input."""
    x = inputs(1, 10).double()
    model = nn.Sequential(nn.LayerNorm(10, eps=0.0, elementwise_affine=False), nn.Linear(10, 10)).double()
    found = es.signal_flow(model, wave, x, blocks=["0"], sigma_min=True, spectrum=True).blocks[0]
    scale = float(x.std(correction=0))
    assert found.sigma_max.value == pytest.approx(1 / scale, rel=1e-9)
    assert found.sigma_rms.value == pytest.approx(
        math.sqrt(0.8) / scale, rel=1e-6, abs=4 * found.sigma_rms.standard_error
    )
    assert found.sigma_min.value == pytest.approx(0, abs=1e-6)
    assert sorted(found.spectrum.sigma) == pytest.approx([0, 0] + [1 / scale] * 8, abs=1e-7)


@pytest.mark.parametrize("scale", [1.0, 1 / math.sqrt(20)])
def test_a_residual_stack_shows_the_whole_and_the_branch(scale):
    """σ of I + sB and of sB, against the dense matrices."""
    with seeded(4):
        model = nn.Sequential(*[Residual(scale=scale) for _ in range(20)], nn.Linear(WIDTH, WIDTH))
    found = flow(model)
    for block in found.blocks[:-1]:
        inner = model.get_submodule(block.name).inner.weight.detach().double() * scale
        whole = torch.linalg.svdvals(torch.eye(WIDTH, dtype=torch.float64) + inner)
        branch = torch.linalg.svdvals(inner)
        assert block.sigma_max.value == pytest.approx(float(whole[0]), rel=1e-2)
        assert block.branch.sigma_max.value == pytest.approx(float(branch[0]), rel=1e-2)
        assert block.branch.sigma_rms.value == pytest.approx(
            float(branch.norm() / WIDTH**0.5), abs=4 * block.branch.sigma_rms.standard_error + 1e-5
        )
    assert found.blocks[-1].branch is None
    if scale < 1:
        assert found.verdict == "healthy"
        assert all(block.growth == pytest.approx(1, abs=0.25) for block in found.blocks[:-1])


def test_the_telephone_game_growth_is_the_product_over_the_chain():
    """The blocks chain up: each ends where the next begins, so that their growths multiply to the whole."""
    model = deep(12, nn.Tanh, 1.3, width=WIDTH)
    x = X.clone().requires_grad_()
    (before,) = torch.autograd.grad(wave(model, x), x)
    out = model(X).detach().requires_grad_()
    after = torch.linspace(-1, 1, out.numel())
    found = flow(model)
    assert found.depth_factor == pytest.approx(float(before.norm() / after.norm()), rel=1e-4)
    for block, following in zip(found.blocks, found.blocks[1:], strict=False):
        assert block.gradient_norm[1] == following.gradient_norm[0]
        assert block.activation_norm[1] == pytest.approx(following.activation_norm[0])


def test_one_sample_is_a_probe():
    with seeded(0):
        model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 2))
    found = flow(model, X[:1])
    assert found.probe_samples == 1
    assert found.blocks[1].sigma_max.value == pytest.approx(
        float(torch.linalg.svdvals(model[2].weight.detach())[0]), rel=1e-2
    )


def test_products_and_their_price_are_reported():
    found = flow(chain(5, 1.0))
    assert found.num_matvecs == sum(block.num_matvecs for block in found.blocks) > 0
    assert found.cost_in_gradients > 0
    residual = flow(nn.Sequential(*[Residual() for _ in range(4)]))
    without = flow(nn.Sequential(*[Residual() for _ in range(4)]), branches=False)
    assert residual.num_matvecs > 1.5 * without.num_matvecs, "the branch's products count"

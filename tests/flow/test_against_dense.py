"""Every number of every block of the small zoo, against its dense Jacobian."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

import eigenscope as es
from flow.dense import dense_jacobians, dense_norms, few
from zoo import CASES, SMALL, seeded
from zoo.case import move

SAMPLES = 2


@functools.cache
def case(name):
    model, loss_fn, batches = CASES[name].build()
    batch = few(batches[0], SAMPLES)
    return model, loss_fn, batch


@functools.cache
def reading(name, dtype=torch.float32):
    model, loss_fn, batch = case(name)
    twin, wide = (model, batch) if dtype is torch.float32 else (case_in(name, dtype), move([batch], dtype)[0])
    return es.signal_flow(twin, loss_fn, [wide], sigma_min=True, spectrum=True)


def case_in(name, dtype):
    model, _, _ = CASES[name].build()
    return model.to(dtype)


def measured(of):
    return [block for block in of.blocks if block.reason is None]


@functools.cache
def singular(name):
    model, loss_fn, batch = case(name)
    found = dense_jacobians(model, loss_fn, batch, [block.modules for block in measured(reading(name))])
    return [(torch.linalg.svdvals(dense).numpy(), dense.shape) for dense in found]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("name", SMALL)
def test_singular_values_are_those_of_the_dense_jacobian(name, dtype):
    blocks = measured(reading(name, dtype))
    rounding = 1e-5 if dtype is torch.float32 else 1e-6
    assert blocks
    for block, (sigma, (rows, columns)) in zip(blocks, singular(name), strict=True):
        assert (np.prod(block.shape[1]), np.prod(block.shape[0])) == (rows, columns), block.name
        top, rms = sigma[0], np.sqrt((sigma**2).sum() / columns)
        assert top * (1 - 1e-2) <= block.sigma_max.value <= top * (1 + rounding), block.name
        assert np.abs(sigma - block.sigma_max.value).min() <= block.sigma_max.error + rounding * top, block.name
        spread = 4 * block.sigma_rms.standard_error
        assert abs(block.sigma_rms.value - rms) <= spread + rounding * top, block.name


@pytest.mark.parametrize("name", SMALL)
def test_the_whole_distribution_where_it_is_exact(name):
    for block, (sigma, (rows, columns)) in zip(measured(reading(name)), singular(name), strict=True):
        if block.spectrum.method != "exact":
            continue
        assert len(block.spectrum.sigma) == min(rows, columns)
        assert np.sum(block.spectrum.share) == pytest.approx(1)
        np.testing.assert_allclose(block.spectrum.sigma, sigma[::-1], atol=2e-5 * sigma[0], err_msg=block.name)
        assert abs(block.sigma_min.value - sigma[-1]) <= block.sigma_min.error + 2e-5 * sigma[0]


def test_most_distributions_of_the_zoo_are_exact():
    methods = [block.spectrum.method for name in SMALL for block in measured(reading(name))]
    assert methods.count("exact") > 0.9 * len(methods)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_those_at_the_blocks_ends(name):
    model, loss_fn, batch = case(name)
    blocks = measured(reading(name))
    for block, (before, after) in zip(
        blocks, dense_norms(model, loss_fn, batch, [block.modules for block in blocks]), strict=True
    ):
        assert block.gradient_norm == pytest.approx((before, after), rel=1e-4)
        assert block.growth == pytest.approx(before / after, rel=1e-4)


@pytest.mark.parametrize("name", ["mlp_tanh", "hf_gpt2", "lstm"])
def test_the_gradient_norm_is_that_of_all_parameters_over_ragged_batches(name):
    model, loss_fn, batches = CASES[name].build()
    parts = [batches[0], few(batches[1], 2)]
    weight = CASES[name].batch_weight
    sizes = [weight(b) if weight else len(next(iter(b))) for b in parts]
    loss = sum(s * loss_fn(model, b) for s, b in zip(sizes, parts, strict=True)) / sum(sizes)
    gradients = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
    found = es.signal_flow(model, loss_fn, parts, batch_weight=weight)
    assert found.gradient_norm == pytest.approx(float(torch.cat([g.flatten() for g in gradients]).norm()), rel=1e-4)
    assert found.loss == pytest.approx(float(loss.detach()), rel=1e-5)


def test_over_batches_a_block_is_the_block_diagonal_of_all():
    """σ_max is the largest, σ_rms the root mean square over all inputs, of ragged batches by their size."""
    model, loss_fn, batches = CASES["mlp_tanh"].build()
    parts = [few(batches[0], 1), few(batches[1], 3)]
    found = es.signal_flow(model, loss_fn, parts, sigma_min=True)
    for index, block in enumerate(found.blocks):
        names = [b.modules for b in found.blocks]
        each = [dense_jacobians(model, loss_fn, part, names)[index] for part in parts]
        sigma = torch.cat([torch.linalg.svdvals(dense) for dense in each]).numpy()
        columns = sum(dense.shape[1] for dense in each)
        assert block.sigma_max.value == pytest.approx(sigma.max(), rel=1e-2)
        assert block.sigma_min.value == pytest.approx(sigma.min(), rel=1e-3)
        rms = np.sqrt((sigma**2).sum() / columns)
        assert abs(block.sigma_rms.value - rms) <= 4 * block.sigma_rms.standard_error + 1e-5


class TimeFirst(nn.Module):
    """(T, B, C): the first axis is time, and its rows depend on each other."""

    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.inner, self.head = kind(5, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.inner(x)[0])


def batch_norm():
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh())


COUPLED = {
    "lstm, time first": (TimeFirst, (4, 3, 5), False),
    "gru, time first": (lambda: TimeFirst(nn.GRU), (4, 3, 5), False),
    "batch norm in train mode": (batch_norm, (6, 5), True),
    "batch norm under a head of zeros": (lambda: nn.Sequential(*batch_norm(), zero_head()), (6, 5), True),
}


def zero_head():
    head = nn.Linear(6, 2)
    nn.init.zeros_(head.weight)
    return head


@pytest.mark.parametrize("name", COUPLED)
def test_samples_that_influence_each_other_are_taken_together(name):
    make, shape, train = COUPLED[name]
    with seeded(5):
        model, x = make().train(train), torch.randn(shape)
    found = es.signal_flow(model, squares, x, train_mode=train, sigma_min=True)
    each = dense_jacobians(model, squares, x, [b.modules for b in found.blocks], train_mode=train)
    for block, dense in zip(found.blocks, each, strict=True):
        sigma = torch.linalg.svdvals(dense).numpy()
        assert block.sigma_max.value == pytest.approx(sigma[0], rel=1e-2, abs=1e-6), block.name
        rms = np.sqrt((sigma**2).sum() / dense.shape[1])
        assert abs(block.sigma_rms.value - rms) <= 4 * block.sigma_rms.standard_error + 1e-5, block.name


def squares(model, batch):
    return (model(batch) - 0.3).square().mean()


def test_the_standard_error_of_sigma_rms_covers_as_often_as_it_says():
    model, loss_fn, batches = CASES["mlp_tanh"].build()
    batch, ratios = few(batches[0], 3), []
    block = es.signal_flow(model, loss_fn, [batch]).blocks[0]
    (dense,) = dense_jacobians(model, loss_fn, batch, [block.modules])
    true = float(dense.norm() / dense.shape[1] ** 0.5)
    for seed in range(60):
        found = es.signal_flow(model, loss_fn, [batch], seed=seed).blocks[0]
        ratios.append(abs(found.sigma_rms.value - true) / found.sigma_rms.standard_error)
    assert 0.5 <= np.mean(np.array(ratios) <= 1) <= 0.86
    assert np.mean(np.array(ratios) <= 2) >= 0.87

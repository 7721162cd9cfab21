"""One layer: what is promised of its error is what is measured by running it, and no other layer does better."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compression.networks import stretched
from eigenscope.compression.candidates import find_layers
from eigenscope.compression.layers import with_factors
from eigenscope.compression.moments import Moments, oas_shrinkage
from eigenscope.compression.observing import call
from eigenscope.compression.statistics import collect
from eigenscope.compression.whitening import balanced, plain, whitened
from zoo.case import seeded


def statistics_of(model, batches):
    candidates, _ = find_layers(model, None, None)
    return collect(model.eval().requires_grad_(False), candidates, batches, call)


def layer_at(truncation, rank):
    factors = truncation.factors(rank)
    return with_factors(truncation.candidate.module.double(), factors.left, factors.right, factors.bias)


def shapes():
    with seeded(3):
        return {"wide": nn.Linear(30, 12), "tall": nn.Linear(12, 30), "square": nn.Linear(20, 20),
                "no bias": nn.Linear(20, 20, bias=False)}  # fmt: skip


@pytest.mark.parametrize("name", shapes())
@pytest.mark.parametrize("method", [whitened, lambda s: plain(s.candidate, s)], ids=["activation", "plain"])
def test_the_output_error_is_that_of_running_the_layer_with_rows_weighed_by_their_gradients(name, method):
    layer = shapes()[name].double()
    x = stretched(400, layer.in_features).double()
    seen = statistics_of(nn.Sequential(layer), [x[:150], x[150:]])["0"]
    truncation = method(seen)
    weights = torch.cat(seen.weights).double()[:, None]
    before = layer(x).detach()
    mean = (weights * before).sum(0) / weights.sum()
    for rank in (1, 3, 8):
        after = layer_at(truncation, rank)(x).detach()
        error = ((weights * (before - after) ** 2).sum() / (weights * (before - mean) ** 2).sum()).sqrt()
        assert truncation.output_error(rank) == pytest.approx(float(error), rel=1e-4)
        assert truncation.output_error_bound(rank) <= float(error) * (1 + 1e-9)


def test_without_gradients_the_error_is_the_least_that_any_affine_layer_of_that_rank_has():
    """The oracle is reduced-rank regression (Izenman 1975): the SVD of the best prediction, here of the outputs."""
    layer = shapes()["wide"].double()
    x = stretched(20000, 30).double()

    def no_gradients(model, batch):
        with torch.no_grad():
            return model(batch)

    model = nn.Sequential(layer).requires_grad_(False)
    candidates, _ = find_layers(model, None, None)
    truncation = whitened(collect(model, candidates, [x], no_gradients)["0"])
    y = layer(x).detach()
    centred = y - y.mean(0)
    for rank in (2, 5, 9):
        best = float(torch.linalg.svdvals(centred)[rank:].norm() / centred.norm())
        assert truncation.output_error_bound(rank) == pytest.approx(best, rel=1e-6)
        assert truncation.output_error(rank) == pytest.approx(best, rel=1e-3)  # shrinkage costs the rest


def test_the_predicted_effect_is_what_happens_to_the_output_of_a_linear_model():
    """f = B A x: the whole error in f of truncating A is known exactly. Cotangents are random: 4 of them a batch."""
    with seeded(4):
        first, second = nn.Linear(16, 24), nn.Linear(24, 5)
    model = nn.Sequential(first, second).double()
    x = stretched(4000, 16).double()
    truncation = whitened(statistics_of(model, [x])["0"])
    before = model(x).detach()
    for rank in (1, 2, 3):
        after = second(layer_at(truncation, rank)(x)).detach()
        actual = float((before - after).square().sum() / (before - before.mean(0)).square().sum())
        assert float(truncation.effects[rank]) == pytest.approx(actual, rel=0.1)


def test_directions_that_the_output_ignores_are_given_up_first():
    """The second layer reads 2 of 20 features, so rank 2 is enough for the model, not for the layer."""
    with seeded(5):
        first, second = nn.Linear(20, 20), nn.Linear(20, 6)
    with torch.no_grad():
        second.weight[:, 2:] = 0
    model = nn.Sequential(first, second).double()
    x = stretched(500, 20, decay=0.3).double()
    truncation = whitened(statistics_of(model, [x])["0"])
    assert float(truncation.effects[2] / truncation.effects[0]) < 0.01  # shrinkage leaves a little
    assert truncation.output_error(2) > 0.3


def test_fewer_samples_than_dimensions_do_no_harm_on_other_data():
    """20 rows for 64 dimensions: on held-out rows the layer is better than plain SVD's at every rank."""
    with seeded(6):
        layer = nn.Linear(64, 64).double()
    x = stretched(3020, 64).double()
    seen = statistics_of(nn.Sequential(layer), [x[:20]])["0"]
    held_out, wanted = x[20:], layer(x[20:]).detach()
    for rank in (4, 16, 32, 48):
        ours = (layer_at(whitened(seen), rank)(held_out) - wanted).norm()
        theirs = (layer_at(plain(seen.candidate), rank)(held_out) - wanted).norm()
        assert ours < theirs


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_handful_of_rows_gives_finite_factors(rows):
    with seeded(7):
        model = nn.Sequential(nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 4))
    for seen in statistics_of(model, [stretched(rows, 30)]).values():
        factors = whitened(seen).factors(3)
        assert bool(torch.isfinite(factors.left).all() & torch.isfinite(factors.right).all())


def test_inputs_that_never_vary_leave_the_mean_exact():
    with seeded(8):
        layer = nn.Linear(10, 6).double()
    x = torch.ones(50, 10).double()
    truncation = whitened(statistics_of(nn.Sequential(layer), [x])["0"])
    assert torch.allclose(layer_at(truncation, 1)(x), layer(x), atol=1e-10)


def test_a_bias_is_added_only_where_the_mean_matters():
    with seeded(9):
        layer = nn.Linear(12, 12, bias=False).double()
    x = stretched(300, 12).double()
    with_mean = whitened(statistics_of(nn.Sequential(layer), [x])["0"])
    without = whitened(statistics_of(nn.Sequential(layer), [torch.cat([x - x.mean(0), x.mean(0) - x])])["0"])
    assert with_mean.factors(3).bias is not None
    assert without.factors(3).bias is None


def test_rows_without_weight_and_pieces_do_not_change_the_moments():
    x = stretched(200, 7).double() + 1e6  # a large mean: the square of the sum would cancel
    weights = torch.rand(200, generator=torch.Generator().manual_seed(0)).double()
    weights[::3] = 0
    moments = Moments(7, x.device)
    for rows, part in zip(x.split(23), weights.split(23), strict=True):
        moments.add(rows, part)
    mean = (weights @ x) / weights.sum()
    covariance = ((x - mean) * weights[:, None]).T @ (x - mean) / weights.sum()
    assert torch.allclose(moments.mean, mean, rtol=1e-14)
    assert torch.allclose(moments.covariance, covariance, rtol=1e-8)
    assert moments.samples == pytest.approx(float(weights.sum() ** 2 / (weights**2).sum()))


def test_the_shrinkage_is_scikit_learns():
    from sklearn.covariance import oas

    x = stretched(40, 25).double()
    centred = x - x.mean(0)
    _, expected = oas(centred.numpy(), assume_centered=True)
    assert oas_shrinkage(centred.T @ centred / 40, 40) == pytest.approx(expected, rel=0.05)


def test_balanced_factors_have_the_same_product_and_equal_sizes():
    with seeded(10):
        left, right = torch.randn(9, 4).double(), 100 * torch.randn(4, 7).double()
    a, b = balanced(left, right)
    assert torch.allclose(a @ b, left @ right)
    assert torch.allclose(a.T @ a, b @ b.T)

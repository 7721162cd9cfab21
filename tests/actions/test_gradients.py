"""The gradients of a step as they are: unscaled, without sparse ones, over all precisions."""

import pytest
import torch

from actions.training import WithEmbedding, closure_of, gradient_of, tokens, train, train_scaled
from eigenscope.actions.gradients import gradient_norm, gradients, is_skipped, norm_of
from eigenscope.actions.hooks import Hooks
from eigenscope.actions.loudness import Loudness
from eigenscope.scenarios import cross_entropy


def watched(optimizer, look):
    seen = []
    Hooks(pytest.fail).add(optimizer, gradient=lambda one: seen.append(look(one)))
    return seen


@pytest.mark.parametrize("settings", [{"fused": True}, {"foreach": True}, {}])
def test_the_norm_under_a_grad_scaler_is_the_unscaled_ones(settings, model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, **settings)
    norms, skipped = watched(optimizer, gradient_norm), watched(optimizer, is_skipped)
    train_scaled(model, optimizer, data)
    train(model, optimizer, data)
    assert [float(n) for n in norms] == pytest.approx([float(gradient_of(model, data).norm())] * 2, rel=1e-5)
    assert skipped == [False, False]


def test_a_step_that_will_be_left_out_has_none(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, fused=True)
    norms, skipped = watched(optimizer, gradient_norm), watched(optimizer, is_skipped)
    train_scaled(model, optimizer, data, loss_fn=lambda m, b: 1e38 * cross_entropy(m, b))
    assert [bool(n.isnan()) for n in norms] == skipped == [True]


def test_sparse_ones_are_left_out():
    model = WithEmbedding(sparse=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert gradient_norm(optimizer) is None
    cross_entropy(model, tokens()).backward()
    assert [g.shape for g in gradients(optimizer)] == [p.shape for p in model.head.parameters()]


def test_the_norm_is_over_all_precisions():
    parts = [torch.full((4,), 3.0, dtype=dtype) for dtype in (torch.bfloat16, torch.float32, torch.float64)]
    assert float(norm_of(parts)) == pytest.approx(108**0.5, rel=1e-12)
    assert float(norm_of([torch.full((4,), 200.0, dtype=torch.float16)] * 999)) == pytest.approx(400 * 999**0.5)


def test_a_loud_gradient_of_a_closure_is_heard_in_its_own_step(model, data):
    optimizer, loudness = torch.optim.SGD(model.parameters(), lr=0.0), Loudness()
    heard = watched(optimizer, loudness.hear)
    for factor in (1.0, 1.0, 5.0, 1.0):
        optimizer.step(closure_of(model, optimizer, data, lambda m, b, f=factor: f * cross_entropy(m, b)))
        loudness.measured() if len(heard) == 1 else None
    assert heard == [False, False, True, False]


def test_the_scale_of_a_grad_scaler_is_not_loudness(model, data):
    optimizer, loudness = torch.optim.SGD(model.parameters(), lr=0.0, fused=True), Loudness()
    heard = watched(optimizer, loudness.hear)
    for scale in (1.0, 65536.0):
        train_scaled(model, optimizer, data, scale=scale)
        loudness.measured()
    train_scaled(model, optimizer, data, loss_fn=lambda m, b: 5 * cross_entropy(m, b))
    assert heard == [False, False, True]

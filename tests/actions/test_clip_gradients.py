"""Gradients clipped at a quantile of the norms so far."""

import numpy as np
import pytest
import torch

import eigenscope as es
from actions.training import WithEmbedding, closure_of, flat, gradient_of, tokens, train, train_scaled
from eigenscope.actions import ClipGradients, Evidence
from eigenscope.scenarios import cross_entropy, network


def test_the_value_is_numpys_quantile_of_the_last_norms_and_the_step_is_torchs_own_clipping(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    clip = ClipGradients(quantile=0.3, window=6, least=4).bind(optimizer)
    norms, clipped = [], 0
    for step in range(20):
        part = (data[0][step * 20 : step * 20 + 20], data[1][step * 20 : step * 20 + 20])
        theta, gradient = flat(model), gradient_of(model, part)
        norm = float(gradient.norm())
        value = np.quantile(norms[-6:], 0.3) if len(norms) >= 4 else np.inf
        assert clip.value == (None if np.isinf(value) else pytest.approx(value, rel=1e-5))
        train(model, optimizer, part)
        expected = theta - 0.5 * gradient * min(1.0, value / norm)
        torch.testing.assert_close(flat(model), expected, rtol=1e-5, atol=1e-7)
        clipped += norm > value
        norms.append(norm)
    assert clipped >= 5


def test_a_fixed_value_clips_as_torch_does(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    ClipGradients(max_norm=0.01).bind(optimizer)
    theta, gradient = flat(model), gradient_of(model, data)
    train(model, optimizer, data)
    torch.testing.assert_close(flat(model), theta - 0.5 * 0.01 * gradient / gradient.norm(), rtol=1e-4, atol=1e-8)


def test_what_is_under_the_value_passes_to_the_bit(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    ClipGradients(max_norm=1e6).bind(optimizer)
    loss = cross_entropy(model, data)
    loss.backward()
    before = [p.grad.clone() for p in model.parameters()]
    optimizer.step()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


def test_a_run_of_heavy_tails_that_diverges_does_not_when_clipped(model, data):
    """Every fifth batch is a hundred times too large."""

    def run(clipped):
        torch.manual_seed(0)
        twin = network(2)
        optimizer = torch.optim.SGD(twin.parameters(), lr=0.3)
        if clipped:
            ClipGradients(quantile=0.5, least=4).bind(optimizer)
        for step in range(40):
            train(
                twin, optimizer, data, loss_fn=lambda m, b, s=step: (200.0 if s % 5 == 4 else 1.0) * cross_entropy(m, b)
            )
        return float(cross_entropy(twin, data).detach())

    assert run(True) < 0.5 * run(False)


def test_the_probes_norms_are_no_minibatch_norms_and_do_not_count(situation, data):
    now = situation(history={"gradient_norm": [1e-9] * 20})
    action = ClipGradients(quantile=0.5, least=2)
    assert action.apply(now) == {"max_norm": None, "quantile": 0.5, "norms_known": 0}
    assert "already" in action.can_apply(now)
    norms = []
    for _ in range(3):
        norms.append(float(gradient_of(now.model, data).norm()))
        train(now.model, now.optimizer, data)
    assert action.value == pytest.approx(sorted(norms)[1], rel=1e-5)
    action.undo(now)
    action.undo(now)
    assert not now.optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("keyword", [False, True])
def test_what_a_closure_has_computed_is_clipped(keyword, model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    clip = ClipGradients(max_norm=1e-3).bind(optimizer)
    for _ in range(3):
        theta, gradient = flat(model), gradient_of(model, data)
        closure = closure_of(model, optimizer, data)
        loss = optimizer.step(closure=closure) if keyword else optimizer.step(closure)
        torch.testing.assert_close(flat(model), theta - 1e-3 * gradient / gradient.norm(), rtol=1e-3, atol=1e-7)
        assert float(loss.detach()) > 1
    clip.release()
    theta, gradient = flat(model), gradient_of(model, data)
    optimizer.step(closure_of(model, optimizer, data))
    torch.testing.assert_close(flat(model), theta - gradient)


def test_the_norms_that_it_knows_are_those_of_the_closures_own_gradients(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    clip = ClipGradients(quantile=1.0, least=2).bind(optimizer)
    norms = []
    for _ in range(2):
        norms.append(float(gradient_of(model, data).norm()))
        optimizer.step(closure_of(model, optimizer, data))
    assert clip.value == pytest.approx(max(norms), rel=1e-5)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adagrad])
def test_a_fused_optimizer_under_a_grad_scaler_is_clipped_by_the_true_norm(make, model, data):
    twin = network(2)
    twin.load_state_dict(model.state_dict())
    scaled, plain = make(model.parameters(), lr=0.5, fused=True), make(twin.parameters(), lr=0.5)
    clips = ClipGradients(max_norm=0.1).bind(scaled), ClipGradients(max_norm=0.1).bind(plain)
    train_scaled(model, scaled, data, 3)
    train(twin, plain, data, 3)
    torch.testing.assert_close(flat(model), flat(twin), rtol=1e-4, atol=1e-6)
    for clip in clips:
        clip.max_norm, clip.least = None, 3
    assert clips[0].value == pytest.approx(clips[1].value, rel=1e-4)


def test_a_step_that_a_grad_scaler_leaves_out_does_not_count(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, fused=True)
    clip = ClipGradients(least=1).bind(optimizer)
    train_scaled(model, optimizer, data)
    known, theta = clip.value, flat(model)
    train_scaled(model, optimizer, data, loss_fn=lambda m, b: 1e38 * cross_entropy(m, b))
    assert clip.value == known
    assert torch.equal(flat(model), theta)


def test_sparse_gradients_pass_as_they_are():
    model, batch = WithEmbedding(sparse=True), tokens()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    clip = ClipGradients(max_norm=1e-3).bind(optimizer)
    before, embedding, head = gradient_of_each(model, batch), model.embedding.weight.clone(), flat(model.head)
    train(model, optimizer, batch)
    assert clip.problem is None
    torch.testing.assert_close(model.embedding.weight, embedding - before["embedding.weight"].to_dense())
    assert float((flat(model.head) - head).norm()) == pytest.approx(1e-3, rel=1e-3)


def gradient_of_each(model, batch):
    cross_entropy(model, batch).backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    return found


def test_lbfgs_is_refused(situation, model):
    optimizer = torch.optim.LBFGS(model.parameters())
    assert "LBFGS" in ClipGradients().can_apply(situation(optimizer))
    with pytest.raises(es.InputError, match="LBFGS"):
        ClipGradients().bind(optimizer)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_are_clipped(dtype, model, data):
    model, inputs = model.to(dtype), (data[0].to(dtype), data[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    clip = ClipGradients(max_norm=1e-3).bind(optimizer)
    train(model, optimizer, inputs)
    norm = sum(float(p.grad.double().square().sum()) for p in model.parameters()) ** 0.5
    assert clip.problem is None
    assert norm == pytest.approx(1e-3, rel=1e-2)


def test_a_gradient_that_is_not_finite_does_not_enter_the_history(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    clip = ClipGradients(least=2).bind(optimizer)
    train(model, optimizer, data, 2)
    known = clip.value
    train(model, optimizer, data, loss_fn=lambda m, b: float("inf") * cross_entropy(m, b))
    assert clip.value == known


def test_it_helped_if_the_loss_falls_faster():
    action = ClipGradients()
    assert action.helped(Evidence(50, [1.0] * 50), Evidence(90, [0.9] * 40))
    assert action.helped(Evidence(50, [1.0] * 50), Evidence(90, [1.0] * 40)) is None
    assert action.helped(Evidence(50, [1.0] * 50), Evidence(90, [1.1] * 40)) is False
    assert action.helped(Evidence(0, [1.0]), Evidence(1, [float("nan")])) is False
    assert action.helped(Evidence(0), Evidence(1)) is None


@pytest.mark.parametrize("settings", [{"quantile": 0.0}, {"quantile": 1.1}, {"window": 0}, {"max_norm": 0.0}])
def test_bad_settings_are_told(settings):
    with pytest.raises(es.InputError, match="needed"):
        ClipGradients(**settings)

"""Gradients clipped at a quantile of the norms so far."""

import numpy as np
import pytest
import torch

import eigenscope as es
from actions.training import flat, gradient_of, train
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


def test_the_runs_own_history_counts(situation):
    now = situation(history={"gradient_norm": [float(n) for n in range(1, 12)] + [float("inf")]})
    action = ClipGradients(quantile=0.5)
    assert action.apply(now) == {"max_norm": 6.0, "quantile": 0.5, "norms_known": 11}
    assert "already" in action.can_apply(now)
    action.undo(now)
    action.undo(now)
    assert not now.optimizer._optimizer_step_pre_hooks


def test_a_gradient_that_is_not_finite_does_not_enter_the_history(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    clip = ClipGradients(least=2).bind(optimizer)
    train(model, optimizer, data, 2)
    known = clip.value
    train(model, optimizer, data, loss_fn=lambda m, b: float("inf") * cross_entropy(m, b))
    assert clip.value == known


def test_it_helped_if_the_loss_is_no_higher():
    action = ClipGradients()
    assert action.helped(Evidence(0, [1.0] * 9), Evidence(1, [1.0] * 9))
    assert not action.helped(Evidence(0, [1.0] * 9), Evidence(1, [1.1] * 9))
    assert not action.helped(Evidence(0, [1.0]), Evidence(1, [float("nan")]))
    assert action.helped(Evidence(0), Evidence(1)) is None


@pytest.mark.parametrize("settings", [{"quantile": 0.0}, {"quantile": 1.1}, {"window": 0}, {"max_norm": 0.0}])
def test_bad_settings_are_told(settings):
    with pytest.raises(es.InputError, match="needed"):
        ClipGradients(**settings)

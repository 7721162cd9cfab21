"""The step per direction equals the formula with an exact eigendecomposition."""

import copy

import pytest
import torch

import eigenscope as es
from actions.training import flat, gradient_of, train
from eigenscope.actions import CurvatureScaledStep, Evidence, Situation
from eigenscope.scenarios import cross_entropy, squared_error
from oracles import dense_hessian


def exact_pairs(model, data, top):
    values, vectors = torch.linalg.eigh(dense_hessian(model, cross_entropy, [data]))
    chosen = values.abs().argsort(descending=True)[:top]
    return values, values[chosen], vectors[:, chosen]


@pytest.mark.parametrize("top", [1, 4, 8])
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_one_step_is_the_exact_formula(top, rate, small):
    model, data = small
    _, values, vectors = exact_pairs(model, data, top)
    theta, gradient = flat(model), gradient_of(model, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    scaled = CurvatureScaledStep(top, rate=rate, max_matvecs=94, tolerance=1e-12)
    scaled.bind(model, cross_entropy, data, optimizer)
    torch.testing.assert_close(torch.tensor(scaled.eigenvalues), values, rtol=1e-9, atol=0)
    train(model, optimizer, data)
    along = vectors.T @ gradient
    expected = theta - 0.05 * (gradient - vectors @ along) - rate * vectors @ (along / values.abs())
    torch.testing.assert_close(flat(model), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("make", [
    lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9, weight_decay=0.01),
    lambda ps: torch.optim.AdamW(ps, lr=0.01),
], ids=["heavy ball", "adamw"])  # fmt: skip
def test_outside_of_the_eigenspace_the_step_is_the_optimizers_own(make, small):
    model, data = small
    optimizer = make(model.parameters())
    train(model, optimizer, data, 3)
    start, twin = flat(model), copy.deepcopy(model)
    other = make(twin.parameters())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _, values, vectors = exact_pairs(model, data, 3)
    gradient = gradient_of(model, data)
    train(twin, other, data)
    own = flat(twin) - start
    CurvatureScaledStep(3, max_matvecs=94, tolerance=1e-12).bind(model, cross_entropy, data, optimizer)
    train(model, optimizer, data)
    expected = start + own - vectors @ (vectors.T @ own) - vectors @ ((vectors.T @ gradient) / values.abs())
    torch.testing.assert_close(flat(model), expected, rtol=0, atol=1e-8)


def test_lifted_the_rest_steps_at_its_share_of_the_next_eigenvalues_edge(small):
    model, data = small
    every, values, _ = exact_pairs(model, data, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaled = CurvatureScaledStep(3, lift=0.5, max_matvecs=94, tolerance=1e-12).bind(
        model, cross_entropy, data, optimizer
    )
    rest = [float(v) for v in every if min(abs(float(v) - float(x)) for x in values) > 1e-9]
    assert scaled.boost == pytest.approx(0.5 * 2 / (0.01 * max(rest)), rel=0.03)


def test_down_a_canyon_it_takes_a_fraction_of_the_steps(data):
    """Inputs scaled so that a few directions are far steeper than the rest."""
    scale = torch.ones(64)
    scale[::8] = 12.0
    stretched = (data[0] * scale, data[1])

    def steps(lift):
        torch.manual_seed(0)
        model = torch.nn.Linear(64, 10)
        lam = es.sharpness(model, cross_entropy, stretched).lambda_max.value
        optimizer = torch.optim.SGD(model.parameters(), lr=1 / lam)
        if lift:
            CurvatureScaledStep(12, lift=0.5, every=50).bind(model, cross_entropy, stretched, optimizer)
        for step in range(600):
            if train(model, optimizer, stretched)[0] < 0.5:
                return step
        return 600

    assert 3 * steps(True) < steps(False)


def test_a_multiple_eigenvalue_is_not_lifted_over_the_edge(data):
    """Ten outputs under a squared error: every eigenvalue is there ten times, and a Krylov space finds it once."""
    model = torch.nn.Linear(64, 10)
    lam = es.sharpness(model, squared_error, data).lambda_max.value
    optimizer = torch.optim.SGD(model.parameters(), lr=1 / lam)
    scaled = CurvatureScaledStep(3, lift=0.9).bind(model, squared_error, data, optimizer)
    assert scaled.boost < 2
    losses = train(model, optimizer, data, 30, squared_error)
    assert losses[-1] < losses[0]


def test_it_measures_again_and_comes_off_to_the_bit(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    now, action = Situation(model, optimizer, cross_entropy, data), CurvatureScaledStep(4, every=3)
    changed = action.apply(now)
    assert len(changed["eigenvalues"]) <= 4
    assert "already" in action.can_apply(now)
    train(model, optimizer, data, 7)
    assert action.num_measurements == 3
    action.undo(now)
    twin = copy.deepcopy(model)
    train(model, optimizer, data)
    train(twin, torch.optim.SGD(twin.parameters(), lr=0.05), data)
    assert torch.equal(flat(model), flat(twin))


def test_a_measurement_that_fails_is_told_and_the_last_directions_go_on(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    now, action = Situation(model, optimizer, cross_entropy, data), CurvatureScaledStep(4, every=1)
    action.apply(now)
    now.loss_fn = None
    train(model, optimizer, data, 2)
    assert "loss_fn" in action.problem


def test_a_step_that_raised_changes_nothing(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    CurvatureScaledStep(4).bind(model, cross_entropy, data, optimizer)
    before = flat(model)

    def fails():
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        optimizer.step(fails)
    assert torch.equal(flat(model), before)


def test_it_helped_if_the_loss_fell():
    action = CurvatureScaledStep()
    assert action.helped(Evidence(1, [1.0] * 5), Evidence(9, [0.9] * 5))
    assert not action.helped(Evidence(1, [1.0] * 5), Evidence(9, [1.1] * 5))
    assert action.helped(Evidence(1), Evidence(9, [1.0])) is None


@pytest.mark.parametrize("settings", [{"top": 0}, {"every": 0}, {"rate": 0.0}, {"lift": -1.0}])
def test_bad_settings_are_told(settings):
    with pytest.raises(es.InputError, match="needed"):
        CurvatureScaledStep(**settings)

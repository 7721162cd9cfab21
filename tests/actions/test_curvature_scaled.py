"""The step per direction equals the formula with an exact eigendecomposition."""

import copy

import pytest
import torch

import eigenscope as es
from actions.training import WithEmbedding, closure_of, flat, gradient_of, tokens, train, train_scaled
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


@pytest.mark.parametrize("keyword", [False, True])
def test_with_a_closure_the_steps_are_those_without_to_the_bit(keyword, model, data):
    batches = [(data[0][i : i + 64], data[1][i : i + 64]) for i in range(0, 256, 64)]
    models = [model, copy.deepcopy(model)]
    first, second = (torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9) for m in models)
    for one, optimizer in zip(models, (first, second), strict=True):
        CurvatureScaledStep(5, every=2).bind(one, cross_entropy, data, optimizer)
    for batch in batches:
        train(models[0], first, batch)
        closure = closure_of(models[1], second, batch)
        second.step(closure=closure) if keyword else second.step(closure)
    assert torch.equal(flat(models[0]), flat(models[1]))


def test_a_fused_optimizer_under_a_grad_scaler_takes_the_same_steps(model, data):
    models = [model, copy.deepcopy(model)]
    scaled, plain = (torch.optim.SGD(m.parameters(), lr=0.05, fused=True) for m in models)
    for one, optimizer in zip(models, (scaled, plain), strict=True):
        CurvatureScaledStep(3).bind(one, cross_entropy, data, optimizer)
    train_scaled(models[0], scaled, data, 3)
    train(models[1], plain, data, 3)
    torch.testing.assert_close(flat(models[0]), flat(models[1]), rtol=1e-3, atol=1e-5)


def test_a_step_that_a_grad_scaler_leaves_out_moves_nothing(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, fused=True)
    CurvatureScaledStep(3).bind(model, cross_entropy, data, optimizer)
    before = flat(model)
    train_scaled(model, optimizer, data, loss_fn=lambda m, b: 1e38 * cross_entropy(m, b))
    assert torch.equal(flat(model), before)


def test_sparse_gradients_count_as_dense_ones():
    sparse, dense = WithEmbedding(sparse=True), WithEmbedding(sparse=False)
    dense.load_state_dict(sparse.state_dict())
    actions = []
    for model in (sparse, dense):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        actions.append(CurvatureScaledStep(3).bind(model, cross_entropy, tokens(), optimizer))
        train(model, optimizer, tokens(), 3)
    assert [action.problem for action in actions] == [None, None]
    torch.testing.assert_close(flat(sparse), flat(dense), rtol=1e-4, atol=1e-5)


class Mixed(torch.nn.Module):
    """Single precision below, double above."""

    def __init__(self):
        super().__init__()
        self.below, self.above = torch.nn.Linear(4, 6), torch.nn.Linear(6, 10).double()

    def forward(self, x):
        return self.above(torch.tanh(self.below(x.float())).double())


def test_parameters_of_mixed_precision_take_the_steps_of_the_widest(small):
    _, data = small
    mixed = Mixed()
    wide = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 10)).double()
    wide.load_state_dict({k.replace("below", "0").replace("above", "2"): v for k, v in mixed.state_dict().items()})
    for model in (mixed, wide):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        action = CurvatureScaledStep(3, tolerance=1e-6).bind(model, cross_entropy, data, optimizer)
        train(model, optimizer, data, 3)
        assert action.problem is None
    torch.testing.assert_close(flat(mixed), flat(wide), rtol=1e-2, atol=1e-3)


def test_what_the_optimizer_does_not_train_is_not_moved(model, data):
    optimizer = torch.optim.SGD(model[-1].parameters(), lr=0.05)
    with pytest.raises(es.InputError, match=r"does not train 4 parameters .* such as '0.weight'.*requires_grad_"):
        CurvatureScaledStep().bind(model, cross_entropy, data, optimizer)
    model[:-1].requires_grad_(False)
    before = flat(model[:-1])
    CurvatureScaledStep(3).bind(model, cross_entropy, data, optimizer)
    train(model, optimizer, data)
    assert torch.equal(flat(model[:-1]), before)


def test_lbfgs_is_refused(model, data):
    optimizer = torch.optim.LBFGS(model.parameters())
    assert "LBFGS" in CurvatureScaledStep().can_apply(Situation(model, optimizer, cross_entropy, data))


def test_it_helped_if_the_loss_falls_faster():
    action = CurvatureScaledStep()
    assert action.helped(Evidence(50, [1.0] * 50), Evidence(90, [0.9] * 40))
    assert not action.helped(Evidence(50, [1.0] * 50), Evidence(90, [1.1] * 40))
    assert action.helped(Evidence(1), Evidence(9, [1.0])) is None


@pytest.mark.parametrize("settings", [{"top": 0}, {"every": 0}, {"rate": 0.0}, {"lift": -1.0}])
def test_bad_settings_are_told(settings):
    with pytest.raises(es.InputError, match="needed"):
        CurvatureScaledStep(**settings)

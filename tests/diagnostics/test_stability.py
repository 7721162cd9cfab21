"""The edge of stability, held against the only judge there is: the optimizer itself, run on a quadratic."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import eigenscope as es
import zoo
from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.stability import Edge, plain_ratio, sharpness_score, stability_edge
from spectra import definite

Optimizer = torch.optim.Optimizer
MATRIX = definite(1e2, n=24).matrix
RATE = 0.1


class Halves(nn.Module):
    """½ xᵀ A x, x in two parameters, so that they may be in two groups."""

    def __init__(self) -> None:
        super().__init__()
        values = torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        self.first, self.second = nn.Parameter(values[:10].clone()), nn.Parameter(values[10:].clone())

    def forward(self, matrix: Tensor) -> Tensor:
        x = torch.cat([self.first, self.second])
        return 0.5 * x @ matrix @ x


def value(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch[0])  # type: ignore[no-any-return]


def frozen_scale(optimizer: Optimizer) -> Optimizer:
    """Give an adaptive optimizer second moments that hardly move any more, unlike in each entry."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.zeros_like(p)
    optimizer.step()
    generator = torch.Generator().manual_seed(1)
    for state in optimizer.state.values():
        for key in ("exp_avg_sq", "max_exp_avg_sq", "square_avg"):
            if key in state:
                state[key] = 0.01 + torch.rand(state[key].shape, dtype=torch.float64, generator=generator)
                state[key] += key.startswith("max")  # a maximum is over what it is the maximum of
        state["step"] = torch.tensor(1e12)
    optimizer.zero_grad()
    return optimizer


ADAM = {"betas": (0.9, 1 - 1e-14)}
OPTIMIZERS: dict[str, Callable[[Halves], Optimizer]] = {
    "SGD": lambda m: torch.optim.SGD(m.parameters(), RATE),
    "heavy ball": lambda m: torch.optim.SGD(m.parameters(), RATE, momentum=0.9),
    "damped heavy ball": lambda m: torch.optim.SGD(m.parameters(), RATE, momentum=0.9, dampening=0.5),
    "Nesterov": lambda m: torch.optim.SGD(m.parameters(), RATE, momentum=0.9, nesterov=True),
    "Adam": lambda m: frozen_scale(torch.optim.Adam(m.parameters(), RATE, **ADAM)),
    "Adam, AMSGrad": lambda m: frozen_scale(torch.optim.Adam(m.parameters(), RATE, amsgrad=True, **ADAM)),
    "AdamW": lambda m: frozen_scale(torch.optim.AdamW(m.parameters(), RATE, weight_decay=0.0, **ADAM)),
    "RMSprop": lambda m: frozen_scale(torch.optim.RMSprop(m.parameters(), RATE, alpha=1 - 1e-14)),
    "RMSprop with momentum": lambda m: frozen_scale(
        torch.optim.RMSprop(m.parameters(), RATE, alpha=1 - 1e-14, momentum=0.9)
    ),
    "SGD, two groups": lambda m: torch.optim.SGD([{"params": m.first, "lr": 3 * RATE}, {"params": m.second}], RATE),
    "heavy ball, two groups": lambda m: torch.optim.SGD(
        [{"params": m.first}, {"params": m.second, "lr": 5 * RATE}], RATE, momentum=0.8
    ),
    "SGD, half of it": lambda m: torch.optim.SGD([m.second], RATE),
    "Adam, two groups": lambda m: frozen_scale(
        torch.optim.Adam([{"params": m.first, "lr": 4 * RATE}, {"params": m.second}], RATE, **ADAM)
    ),
}


def ratio(optimizer: Optimizer, model: nn.Module) -> float:
    reading = es.curvature(model, value, MATRIX[None], optimizer=optimizer)
    assert reading.stability_ratio.value is not None
    assert reading.optimizer == type(optimizer).__name__
    return reading.stability_ratio.value


def growth(make: Callable[[Halves], Optimizer], factor: float, steps: int = 2000) -> float:
    """How far the moved parameters are from 0 after some steps, over what they were, with all rates scaled."""
    model = Halves()
    optimizer = make(model)
    for group in optimizer.param_groups:
        group["lr"] *= factor
    moved = [p for group in optimizer.param_groups for p in group["params"]]
    if len(moved) == 1:
        model.first.data.zero_()  # what is not moved pulls for ever
    start = sum(float(p.detach().norm()) for p in moved)
    for _ in range(steps):
        optimizer.zero_grad()
        value(model, MATRIX[None]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        end = sum(float(p.detach().norm()) for p in moved)
        if not 1e-3 < end / start < 1e3:
            break
    return end / start


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_diverges_just_past_the_edge_and_converges_just_before_it(name: str) -> None:
    """1.5 % to either side of the rate at which `stability_ratio` would be 1."""
    model = Halves()
    edge = 1 / ratio(OPTIMIZERS[name](model), model)
    assert growth(OPTIMIZERS[name], 0.985 * edge) < 0.5
    assert growth(OPTIMIZERS[name], 1.015 * edge) > 10


def test_the_ratio_follows_the_current_learning_rate() -> None:
    model = Halves()
    optimizer = OPTIMIZERS["SGD"](model)
    before = ratio(optimizer, model)
    optimizer.param_groups[0]["lr"] *= 3
    assert ratio(optimizer, model) == pytest.approx(3 * before)
    assert before == pytest.approx(RATE / 2)  # λmax is 1


def test_bias_correction_counts_in_the_first_steps_of_adam() -> None:
    """After one step m̂ = g and v̂ = g²: with β₁ = 0.9 a step is 10 times what its momentum would make it."""
    model = Halves()
    optimizer = torch.optim.Adam(model.parameters(), RATE, eps=0.0)
    value(model, MATRIX[None]).backward()  # type: ignore[no-untyped-call]
    gradient = torch.cat([model.first.grad, model.second.grad])  # type: ignore[list-item]
    optimizer.step()
    scales = stability_edge(optimizer, list(model.parameters())).scales
    assert scales is not None
    torch.testing.assert_close(scales, RATE / 3.8 / gradient.abs())


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW])
def test_frozen_and_unused_parameters_don_t_hide_the_edge(make: Callable[..., Optimizer]) -> None:
    """They never get a gradient, so that the optimizer never has a state for them: they count 0."""
    model, loss_fn, batches = zoo.CASES["partial_parameters"].build()
    optimizer = make(model.parameters(), lr=0.01)
    loss_fn(model, batches[0]).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    reading = es.curvature(model, loss_fn, batches, optimizer=optimizer)
    assert (reading.stability_ratio.value or 0.0) > 0


def test_entries_that_never_had_a_gradient_count_0() -> None:
    """A bias in front of a batch norm: in evaluation mode it has a curvature, in training nothing moves along it."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    optimizer = torch.optim.Adam(model.parameters())
    x, y = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    scales = stability_edge(optimizer, list(model.parameters())).scales
    assert scales is not None
    bias = scales[12:15]
    assert not bias.any()
    assert scales[:12].all()


def _adagrad(model: nn.Module) -> Any:
    return torch.optim.Adagrad(model.parameters())


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (lambda m: None, "none", "no optimizer was given: pass optimizer="),
        (_adagrad, "Adagrad", "no stability threshold is known for Adagrad"),
        (lambda m: torch.optim.SGD(m.parameters(), RATE, maximize=True), "SGD", "the optimizer maximizes"),
        (lambda m: torch.optim.Adam(m.parameters()), "Adam", "Adam has no state before its first step"),
        (lambda m: torch.optim.RMSprop(m.parameters()), "RMSprop", "RMSprop has no state before its first step"),
        (
            lambda m: torch.optim.SGD(Halves().parameters(), RATE),
            "SGD",
            "this SGD holds none of the model's parameters",
        ),
    ],
)
def test_where_there_is_no_threshold_the_reason_is_told(make: Callable[..., Any], name: str, reason: str) -> None:
    model = Halves()
    reading = es.curvature(model, value, MATRIX[None], optimizer=make(model))
    assert reading.optimizer == name
    assert reading.stability_ratio.value is None
    assert reading.sharpness_score.value is None
    assert (reading.stability_ratio.reason or "").startswith(reason)


def test_a_class_of_one_s_own_is_known_by_its_parent() -> None:
    class Mine(torch.optim.SGD):
        pass

    edge = stability_edge(Mine(Halves().parameters(), 0.4), [])
    assert edge.optimizer == "Mine"


@pytest.mark.parametrize(("r", "score"), [(0.0, 0.0), (1.0, 50.0), (3.0, 75.0), (-2.0, 0.0)])
def test_the_score_is_50_at_the_edge(r: float, score: float) -> None:
    assert sharpness_score(Estimate(r, error=0.0)).value == score


def test_the_score_s_error_is_that_of_the_ratio_times_its_slope() -> None:
    """d/dr 100 r/(1 + r) = 100/(1 + r)²."""
    exact, step = sharpness_score(Estimate(2.0, error=1e-4)), sharpness_score(Estimate(2.0001, error=0.0))
    assert exact.error == pytest.approx((step.value or 0.0) - (exact.value or 0.0), rel=1e-3)


def test_groups_with_their_own_rates_are_weighed_in() -> None:
    """diag(10, 1) with rates 0.01 and 0.5: the edge is at max(10·0.01, 1·0.5)/2, not at the largest of each."""
    model = nn.ParameterDict({"a": nn.Parameter(torch.ones(1)), "b": nn.Parameter(torch.ones(1))}).double()

    def loss_fn(model: Any, _batch: Any) -> Tensor:
        return (5.0 * model["a"] ** 2 + 0.5 * model["b"] ** 2).sum()

    groups = [{"params": [model["a"]], "lr": 0.01}, {"params": [model["b"]], "lr": 0.5}]
    reading = es.curvature(model, loss_fn, torch.zeros(1), optimizer=torch.optim.SGD(groups, lr=1.0))
    assert reading.lambda_max.value == pytest.approx(10.0)
    assert reading.stability_ratio.value == pytest.approx(0.25)


def test_a_hessian_of_zero_is_not_called_stable() -> None:
    """A saturated network: a gradient or none, but no curvature to compare."""
    for edge in (Edge("SGD", scale=RATE / 2), Edge("Adam", scales=torch.ones(3))):
        ratio = plain_ratio(edge, Estimate(0.0, error=0.0), radius=0.0)
        assert ratio is not None
        assert (ratio.value, sharpness_score(ratio).value) == (None, None)
        assert "zero to rounding: the network is saturated" in (ratio.reason or "")


def test_the_ratio_is_read_off_the_spectrum_where_one_scale_serves_all_parameters() -> None:
    top = Estimate(4.0, error=0.1)
    assert plain_ratio(Edge("SGD", scale=0.5), top, radius=4.0) == Estimate(2.0, error=0.05)
    assert plain_ratio(Edge("Adam", scales=torch.ones(3)), top, radius=4.0) is None
    assert plain_ratio(Edge("none", reason="why"), top, radius=0.0) == Estimate(None, reason="why")

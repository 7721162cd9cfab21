"""The stability threshold is where the optimizer itself turns from converging to diverging.

The oracle is the optimizer: on a quadratic it is run just below and just above the step size at which
`stability_ratio` is 1.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import eigenscope as es
from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.stability import sharpness_score, stability_edge
from spectra import SPECTRA, quadratic

MATRIX = SPECTRA["definite_1e2"]().matrix


def optimizer_of(name: str, parameters: Any, rate: float) -> torch.optim.Optimizer:
    return {
        "sgd": lambda: torch.optim.SGD(parameters, lr=rate),
        "heavy_ball": lambda: torch.optim.SGD(parameters, lr=rate, momentum=0.9),
        "dampened": lambda: torch.optim.SGD(parameters, lr=rate, momentum=0.5, dampening=0.5),
        "nesterov": lambda: torch.optim.SGD(parameters, lr=rate, momentum=0.9, nesterov=True),
    }[name]()


def grows(model: nn.Module, loss_fn: Callable[[Any, Any], Tensor], batch: Any, optimizer: Any, steps: int) -> bool:
    """Whether the loss is larger in the end than it was."""
    losses = []
    for _ in range(steps):
        loss = loss_fn(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses[-1] > losses[0]


@pytest.mark.parametrize("name", ["sgd", "heavy_ball", "dampened", "nesterov"])
def test_descent_converges_just_below_the_edge_and_diverges_just_above(name: str) -> None:
    model, loss_fn, batches = quadratic(MATRIX, distance=1.0)
    unit = es.curvature(model, loss_fn, batches, optimizer=optimizer_of(name, model.parameters(), 1.0))
    assert unit.stability_ratio.value is not None
    edge = 1 / unit.stability_ratio.value
    for factor, diverges in ((0.98, False), (1.02, True)):
        model, loss_fn, batches = quadratic(MATRIX, distance=1.0)
        optimizer = optimizer_of(name, model.parameters(), factor * edge)
        assert grows(model, loss_fn, batches[0], optimizer, 1600) is diverges


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_adam_with_a_frozen_preconditioner_diverges_just_above_the_edge(kind: Any) -> None:
    """β₂ = 1 − 10⁻¹⁴ holds v at what it was set to, so that P is constant and the theory exact.

    Only for the first steps: a loss that grows makes v grow, and so Adam catches itself.
    """
    for factor, diverges in ((0.95, False), (1.05, True)):
        model, loss_fn, batches = quadratic(MATRIX, distance=1.0)
        (parameter,) = model.parameters()
        optimizer = kind([parameter], lr=1.0, betas=(0.9, 1 - 1e-14), eps=1e-12, weight_decay=0.0)
        square = torch.logspace(-2, 2, parameter.numel(), dtype=parameter.dtype).view_as(parameter)
        steps = 1_000_000  # far enough that the first moment's bias is gone
        optimizer.state[parameter] = {
            "step": torch.tensor(float(steps)),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": square * (1 - (1 - 1e-14) ** steps),
        }
        measured = es.curvature(model, loss_fn, batches, optimizer=optimizer).stability_ratio
        assert measured.value is not None
        optimizer.param_groups[0]["lr"] = factor / measured.value
        assert grows(model, loss_fn, batches[0], optimizer, 100) is diverges


def test_parameter_groups_with_their_own_rates_are_weighed_in() -> None:
    """diag(a, b) with rates η₁, η₂: the edge is at max(aη₁, bη₂)/2 = 1, not at the largest of each."""
    model = nn.ParameterDict({"a": nn.Parameter(torch.ones(1)), "b": nn.Parameter(torch.ones(1))}).double()

    def loss_fn(model: Any, _batch: Any) -> Tensor:
        return (5.0 * model["a"] ** 2 + 0.5 * model["b"] ** 2).sum()

    groups = [{"params": [model["a"]], "lr": 0.01}, {"params": [model["b"]], "lr": 0.5}]
    reading = es.curvature(model, loss_fn, torch.zeros(1), optimizer=torch.optim.SGD(groups, lr=1.0))
    assert reading.lambda_max.value == pytest.approx(10.0)
    assert reading.stability_ratio.value == pytest.approx(max(10 * 0.01, 1 * 0.5) / 2)


def test_a_bias_in_front_of_a_batch_norm_does_not_look_unstable() -> None:
    """Adam has seen only rounding noise for it: √v is near ϵ, and its curvature in evaluation mode would be ÷ ϵ."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 1))
    inputs, targets = torch.randn(64, 6), torch.randn(64, 1)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (model(batch[0]) - batch[1]).square().mean()

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(50):
        optimizer.zero_grad()
        loss_fn(model, (inputs, targets)).backward()
        optimizer.step()
    reading = es.curvature(model, loss_fn, (inputs, targets), optimizer=optimizer)
    assert reading.stability_ratio.value is not None
    assert reading.stability_ratio.value < 10


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (lambda p: torch.optim.Adam(p), "no state before its first step"),
        (lambda p: torch.optim.SGD(p, lr=0.1, maximize=True), "maximizes"),
        (lambda p: torch.optim.LBFGS(p), "no stability threshold is known for LBFGS"),
    ],
)
def test_where_there_is_no_threshold_the_reason_is_given(optimizer: Any, reason: str) -> None:
    parameter = nn.Parameter(torch.ones(2))
    edge = stability_edge(optimizer([parameter]), [parameter])
    assert edge.scale is None
    assert edge.scales is None
    assert reason in str(edge.reason)


def test_the_score_is_50_at_the_edge_and_its_error_is_propagated() -> None:
    assert sharpness_score(Estimate(1.0, error=0.02)) == Estimate(50.0, error=pytest.approx(0.5))
    assert sharpness_score(Estimate(3.0)).value == pytest.approx(75.0)
    assert sharpness_score(Estimate(None, reason="why")).reason == "why"

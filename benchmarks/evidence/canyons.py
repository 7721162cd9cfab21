"""Tasks whose inputs are badly scaled, and what κ says about plain descent on the convex one of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import eigenscope as es
from eigenscope.scenarios import penalized
from evidence.depths import smaller
from evidence.tasks import Batch, Task, cifar_task, digits_task, loss_fn

JUDGED = 512
MOST, HALVINGS = 20_000, 5  # steps of descent, and halvings of its distance, at most
DECADES = torch.logspace(-1.2, 1.2, 64)  # the scenario's: factors from 0.06 to 16


@dataclass(frozen=True)
class Problem:
    """A task with its inputs scaled, and the loss that is trained."""

    name: str
    task: Task
    loss: Callable[[nn.Module, Batch], Tensor]

    def model(self, seed: int) -> nn.Module:
        return self.task.model(seed)

    @torch.no_grad()
    def judged(self, model: nn.Module) -> float:
        """The training loss, over the last samples of the training set: those that nothing is measured on."""
        value = float(self.loss(model, tuple(part[-JUDGED:] for part in self.task.train)))
        return value if math.isfinite(value) else math.inf


def scaled(task: Task, factors: Tensor, build: Callable[[], nn.Module] | None = None) -> Task:
    """The same task with inputs multiplied by factors (and another network)."""
    train, test = ((inputs * factors, labels) for inputs, labels in (task.train, task.test))
    return Task(task.name, train, test, build or task.build, task.batch_size)


def one_layer() -> nn.Module:
    """The scenario's: with its penalty the loss is strictly convex."""
    return nn.Sequential(nn.Linear(64, 10))


def stretched() -> Tensor:
    """A factor for each pixel, neighbours unlike, as in the scenario `canyon`."""
    return DECADES[torch.randperm(64, generator=torch.Generator().manual_seed(0))]


def problems() -> list[Problem]:
    """One convex, two not. The third is an MLP on CIFAR-10 at 8 × 8 pixels."""
    digits, cifar = digits_task(), smaller(cifar_task())
    return [
        Problem("digits, one layer", scaled(digits, 4 * stretched(), one_layer), penalized),
        Problem("digits, MLP", scaled(digits, stretched()), loss_fn),
        Problem("cifar, MLP", scaled(cifar, stretched().repeat(3)), loss_fn),
    ]


# -- what κ predicts ----------------------------------------------------------------------------------------------


def halvings() -> dict[str, Any]:
    """Steps in which full-batch descent halves its distance to the minimum: by κ, and as measured.

    With the best constant step, 2/(λmax + λmin), of the minimum's own eigenvalues.
    """
    digits = digits_task()
    plain = Problem("as they are", scaled(digits, torch.ones(64), one_layer), penalized)
    canyon = Problem("badly scaled", scaled(digits, 4 * stretched(), one_layer), penalized)
    return {problem.name: predicted(problem) for problem in (plain, canyon)}


def predicted(problem: Problem) -> dict[str, Any]:
    """κ at the start and at the minimum, and the steps of each halving on the way, in float64."""
    data = (problem.task.train[0].double(), problem.task.train[1])
    model = problem.model(0).double()
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    first = es.curvature(model, problem.loss, [data], max_matvecs=300)
    minimize(model, problem, data)
    last = es.curvature(model, problem.loss, [data], max_matvecs=300)
    best = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    rate = 2 / (last.lambda_max.value + last.lambda_min.value)
    nn.utils.vector_to_parameters(start.clone(), model.parameters())
    return {
        "kappa": {"start": first.condition_number.value, "minimum": last.condition_number.value},
        "halving_predicted": {"start": first.iterations_to_halve.value, "minimum": last.iterations_to_halve.value},
        "halvings_measured": descent(model, problem, data, best, rate),
        "rate": rate,
    }


def minimize(model: nn.Module, problem: Problem, data: Batch) -> None:
    """To the rounding of float64."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=3000, history_size=50, tolerance_grad=1e-10, tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = problem.loss(model, data)
        loss.backward()
        return loss

    optimizer.step(closure)


def descent(model: nn.Module, problem: Problem, data: Batch, best: Tensor, rate: float) -> list[int]:
    """The steps of each halving of the distance to the minimum, one after the other."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    marks, left = [0], None
    for step in range(MOST):
        with torch.no_grad():
            distance = float((nn.utils.parameters_to_vector(model.parameters()) - best).norm())
        left = distance if left is None else left
        while distance <= left / 2 and len(marks) <= HALVINGS:
            marks.append(step)
            left /= 2
        if len(marks) > HALVINGS:
            break
        optimizer.zero_grad()
        problem.loss(model, data).backward()
        optimizer.step()
    return [after - before for before, after in pairwise(marks)]

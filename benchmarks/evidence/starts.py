"""Networks at a saddle: deep linear ones, and MLPs whose hidden units can't be told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from evidence import tasks
from evidence.tasks import Task, cifar_task, digits_task, loss_fn

WIDTH = 32


@dataclass(frozen=True)
class Start:
    """A task, a network for it, and how to bring that to a saddle."""

    name: str
    task: Task
    build: Callable[[int], nn.Sequential]  # by the number of inputs
    settle: Callable[[nn.Sequential, Task], None]

    def network(self) -> nn.Sequential:
        """Anew from torch's random stream."""
        return self.build(self.task.train[0][0].numel())

    def saddle(self, seed: int) -> nn.Sequential:
        """The same for the same seed."""
        torch.manual_seed(tasks.first_seed + seed)
        model = self.network()
        self.settle(model, self.task)
        return model


def linear(depth: int) -> Callable[[int], nn.Sequential]:
    """A deep linear network, with a bias only at its end."""

    def build(inputs: int) -> nn.Sequential:
        widths = [inputs, *[WIDTH] * (depth - 1)]
        layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(widths)]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(WIDTH, 10))

    return build


def mlp(inputs: int) -> nn.Sequential:
    """One hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 10))


@torch.no_grad()
def zero(model: nn.Sequential, task: Task) -> None:
    """All weights 0. Of two layers that is a strict saddle, of more a degenerate one, without any curvature."""
    for p in model.parameters():
        p.zero_()
    frequencies(model, task)


@torch.no_grad()
def zero_ends(model: nn.Sequential, task: Task) -> None:
    """The first and the last layer 0 and orthogonal ones between: a strict saddle at any depth."""
    first, *between, last = (layer for layer in model if isinstance(layer, nn.Linear))
    for layer in between:
        nn.init.orthogonal_(layer.weight)
    first.weight.zero_()
    last.weight.zero_()
    frequencies(model, task)


@torch.no_grad()
def frequencies(model: nn.Sequential, task: Task) -> None:
    """The last bias at the classes' frequencies: nothing is left to learn without the inputs."""
    counts = torch.bincount(task.train[1], minlength=10)
    model[-1].bias.copy_((counts / counts.sum()).log())  # type: ignore[union-attr, operator]


def alike(model: nn.Sequential, task: Task) -> None:
    """All hidden units the same one, at the best that one unit can do: descent never tells them apart."""
    one = nn.Sequential(nn.Flatten(), nn.Linear(task.train[0][0].numel(), 1), nn.Tanh(), nn.Linear(1, 10))
    optimizer = torch.optim.LBFGS(one.parameters(), max_iter=1000, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_fn(one, task.train) + 1e-5 * sum(p.square().sum() for p in one.parameters())  # or it runs off
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        for mine, single, share in ((model[1], one[1], 1), (model[3], one[3], WIDTH)):
            mine.weight.copy_(single.weight.expand_as(mine.weight) / share)
            mine.bias.copy_(single.bias.expand_as(mine.bias))


def starts() -> list[Start]:
    """Digits and CIFAR-10."""
    digits, cifar = digits_task(), cifar_task()
    return [
        Start("digits, 2 linear layers at 0", digits, linear(2), zero),
        Start("digits, 4 linear layers, the ends 0", digits, linear(4), zero_ends),
        Start("digits, 3 linear layers at 0", digits, linear(3), zero),
        Start("digits, MLP at 0", digits, mlp, zero),
        Start("digits, MLP of equal units", digits, mlp, alike),
        Start("cifar, 4 linear layers, the ends 0", cifar, linear(4), zero_ends),
        Start("cifar, MLP of equal units", cifar, mlp, alike),
    ]

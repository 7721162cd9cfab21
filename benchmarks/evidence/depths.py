"""Plain networks of 50 layers in which the gradient explodes or vanishes, and the same built another way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evidence import tasks
from evidence.tasks import Task, cifar_task, digits_task

DEPTH, WIDTH = 50, 32


class Deep(nn.Module):
    """inputs → 32 → ... → 10 with weights of variance gain²/inputs, as `eigenscope.scenarios.deep`.

    `shortcut` adds each block's input to its output, x + F(x)/√L; `normalized` puts a LayerNorm behind each layer.
    """

    def __init__(
        self,
        inputs: int,
        activation: Callable[[], nn.Module],
        gain: float,
        shortcut: bool = False,
        normalized: bool = False,
    ) -> None:
        super().__init__()
        blocks = []
        for before, after in pairwise([inputs, *[WIDTH] * DEPTH]):
            layer = nn.Linear(before, after)
            nn.init.normal_(layer.weight, std=gain / before**0.5)
            nn.init.zeros_(layer.bias)
            norm = [nn.LayerNorm(after)] if normalized else []
            blocks.append(nn.Sequential(layer, *norm, activation()))
        self.blocks, self.head = nn.ModuleList(blocks), nn.Linear(WIDTH, 10)
        self.scale = DEPTH**-0.5 if shortcut else 0.0

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs) → (batch, 10)."""
        first, *others = self.blocks
        x = first(x.flatten(1))
        for block in others:
            x = x + self.scale * block(x) if self.scale else block(x)
        return self.head(x)


@dataclass(frozen=True)
class Case:
    """A network that does not train, and the task that it should learn."""

    name: str
    task: Task
    activation: type[nn.Module]
    gain: float

    def model(self, seed: int, **changes: bool) -> nn.Module:
        """The same start for the same seed."""
        torch.manual_seed(tasks.first_seed + seed)
        return Deep(self.task.train[0][0].numel(), self.activation, self.gain, **changes)


def cases() -> list[Case]:
    """Five on digits, two on CIFAR-10 at 8 × 8 pixels."""
    digits, cifar = digits_task(), smaller(cifar_task())
    kinds = {
        "exploding tanh": (nn.Tanh, 3.0),
        "exploding ReLU": (nn.ReLU, 2.0),
        "vanishing sigmoid": (nn.Sigmoid, 1.0),
        "vanishing tanh": (nn.Tanh, 0.5),
        "vanishing ReLU": (nn.ReLU, 1.0),
    }
    return [Case(f"digits, {name}", digits, *kind) for name, kind in kinds.items()] + [
        Case(f"cifar, {name}", cifar, *kinds[name]) for name in ("exploding tanh", "vanishing ReLU")
    ]


def smaller(task: Task) -> Task:
    """Images at half the resolution, flat, for a small MLP."""
    train, test = ((F.avg_pool2d(inputs, 2).flatten(1), labels) for inputs, labels in (task.train, task.test))

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Linear(train[0].shape[1], 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10)
        )

    return replace(task, train=train, test=test, build=build)

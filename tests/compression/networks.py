"""Small models whose layers see inputs of a prescribed, uneven spread: what whitening is for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.case import seeded


def stretched(rows: int, width: int, *, decay: float = 2.0, seed: int = 1) -> Tensor:
    """Rows whose deviations fall from 1 to 10^-decay along random directions, around a mean that isn't 0."""
    with seeded(seed):
        basis = torch.linalg.qr(torch.randn(width, width))[0]
        return torch.randn(rows, width) @ torch.diag(torch.logspace(0, -decay, width)) @ basis + torch.randn(width)


def mlp(width: int = 24, hidden: int = 40, outputs: int = 10) -> nn.Module:
    with seeded(0):
        return nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, outputs),
        ).eval()  # fmt: skip


def convolutions() -> nn.Module:
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, stride=2, padding=2, dilation=2), nn.ReLU(),
            nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 3, groups=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(32, 10),
        ).eval()  # fmt: skip


def images(count: int = 12) -> Tensor:
    """Smooth in space, as images are."""
    with seeded(2):
        return nn.functional.interpolate(torch.randn(count, 3, 5, 5), size=(16, 16), mode="bilinear")

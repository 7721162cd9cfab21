"""Small networks that meet each rule of the composition, and their exact slopes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.case import seeded


class Function(nn.Module):
    """A function of layers: ``body(x, *layers)``."""

    def __init__(self, body: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.body, self.layers = body, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x, *self.layers)


def linear(n: int, m: int, seed: int = 0) -> nn.Linear:
    with seeded(seed):
        return nn.Linear(n, m)


def shaken_batch_norm(layer: nn.Module, seed: int = 1) -> nn.Module:
    """Running statistics and weights away from 0 and 1."""
    with seeded(seed), torch.no_grad():
        layer.running_mean.normal_()  # type: ignore[operator, union-attr]
        layer.running_var.uniform_(0.2, 3.0)  # type: ignore[operator, union-attr]
        layer.weight.normal_()  # type: ignore[operator, union-attr]
    return layer.eval()


def steepest(model: nn.Module, *shape: int, points: int = 200, seed: int = 0) -> float:
    """The largest ‖J‖₂ over random points of several sizes, by dense Jacobians in fp64: never above the constant."""
    double = model.double().eval()
    generator = torch.Generator().manual_seed(seed)
    largest = 0.0
    for i in range(points):
        x = torch.randn(1, *shape, dtype=torch.float64, generator=generator) * (0.03, 0.3, 1.0, 3.0)[i % 4]
        jacobian = torch.autograd.functional.jacobian(double, x)
        largest = max(largest, float(torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()), 2)))
    model.float()
    return largest


__all__ = ["F", "Function", "linear", "shaken_batch_norm", "steepest"]

"""Weighted mean and covariance of rows that come in pieces, in fp64 and without cancellation."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class Moments:
    """Of rows of width `width`: merged piece by piece (Chan, Golub & LeVeque 1979), each centred on its own mean."""

    width: int
    device: torch.device
    weight: float = 0.0  # Σ w
    squared_weight: float = 0.0  # Σ w²
    mean: Float[Tensor, " d"] = field(init=False)
    scatter: Float[Tensor, "d d"] = field(init=False)  # Σ w (x − mean)(x − mean)ᵀ

    def __post_init__(self) -> None:
        self.mean = torch.zeros(self.width, dtype=torch.float64, device=self.device)
        self.scatter = torch.zeros(self.width, self.width, dtype=torch.float64, device=self.device)

    def add(self, rows: Float[Tensor, "n d"], weights: Float[Tensor, " n"] | None = None) -> None:
        """Rows and their weights, none of them negative; rows without weight count nothing."""
        rows = rows.to(torch.float64)
        if weights is None:
            weights = torch.ones(len(rows), dtype=torch.float64, device=rows.device)
        else:
            rows, weights = rows[weights > 0], weights[weights > 0].to(torch.float64)
        total = float(weights.sum())
        if not total > 0:
            return
        mean = weights @ rows / total
        shift, share = mean - self.mean, total / (self.weight + total)
        self.scatter += gram((rows - mean) * weights.sqrt()[:, None])
        self.scatter += self.weight * share * torch.outer(shift, shift)
        self.mean = self.mean + share * shift
        self.weight += total
        self.squared_weight += float(weights @ weights)

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Of the rows seen; zero before any."""
        return self.scatter / self.weight if self.weight > 0 else self.scatter

    @property
    def samples(self) -> float:
        """As many rows of equal weight would be as reliable (Kish 1965)."""
        return self.weight**2 / self.squared_weight if self.squared_weight > 0 else 0.0


@dataclass
class JointMoments:
    """Of rows of inputs and of outputs that belong together; of the covariance of the outputs the trace alone."""

    width: int  # of the inputs
    height: int  # of the outputs
    device: torch.device
    inner: Moments = field(init=False)
    outer_mean: Float[Tensor, " m"] = field(init=False)
    _scatter: Float[Tensor, "m d"] = field(init=False)
    _outer: float = 0.0

    def __post_init__(self) -> None:
        self.inner = Moments(self.width, self.device)
        self.outer_mean = torch.zeros(self.height, dtype=torch.float64, device=self.device)
        self._scatter = torch.zeros(self.height, self.width, dtype=torch.float64, device=self.device)

    def add(
        self, inputs: Float[Tensor, "n d"], outputs: Float[Tensor, "n m"], weights: Float[Tensor, " n"] | None
    ) -> None:
        """Rows of both, merged as in `Moments`."""
        counts = torch.ones(len(inputs)) if weights is None else weights
        inputs, outputs, counts = (
            rows[counts > 0].to(self.device, torch.float64) for rows in (inputs, outputs, counts)
        )
        total = float(counts.sum())
        if not total > 0:
            return
        means = counts @ inputs / total, counts @ outputs / total
        share = total / (self.inner.weight + total)
        shifts = means[0] - self.inner.mean, means[1] - self.outer_mean
        centred = (outputs - means[1]) * counts[:, None]
        self._scatter += centred.T @ (inputs - means[0]) + self.inner.weight * share * torch.outer(shifts[1], shifts[0])
        self._outer += float((centred * (outputs - means[1])).sum()) + self.inner.weight * share * float(
            shifts[1] @ shifts[1]
        )
        self.outer_mean = self.outer_mean + share * shifts[1]
        self.inner.add(inputs, counts)

    @property
    def cross(self) -> Float[Tensor, "m d"]:
        """The covariance of outputs with inputs."""
        return self._scatter / self.inner.weight

    @property
    def outer(self) -> float:
        """The variance of all outputs together."""
        return self._outer / self.inner.weight


def gram(rows: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """XᵀX in fp64. On the CPU by NumPy, which knows that it is symmetric: half of the work."""
    rows = rows.to(torch.float64)
    if rows.device.type != "cpu":
        return rows.T @ rows
    array = rows.numpy()
    return torch.from_numpy(array.T @ array)


def oas_shrinkage(covariance: Float[Tensor, "d d"], samples: float) -> float:
    """How much of a multiple of the identity a covariance from so few samples should be mixed with, from 0 to 1.

    The oracle-approximating shrinkage of Chen, Wiesel, Eldar & Hero 2010, eq. (23).
    """
    size = len(covariance)
    squares, square = float((covariance**2).sum()), float(covariance.trace()) ** 2
    spread = (samples + 1 - 2 / size) * (squares - square / size)
    return min(1.0, ((1 - 2 / size) * squares + square) / spread) if spread > 0 else 1.0

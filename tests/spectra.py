"""Symmetric matrices whose spectrum is prescribed, and the model whose loss has such a Hessian."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from zoo.case import Triple


@dataclass(frozen=True)
class Prescribed:
    """A symmetric matrix and its exact eigenvalues, ascending."""

    eigenvalues: Float64[Tensor, " n"]
    matrix: Float64[Tensor, "n n"]


def conjugated(eigenvalues: Float64[Tensor, " n"], seed: int = 0) -> Prescribed:
    """Q diag(eigenvalues) Qᵀ with Q uniformly random over the orthogonal matrices (Stewart 1980)."""
    n = len(eigenvalues)
    gaussian = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    q, r = torch.linalg.qr(gaussian)
    q = q * r.diagonal().sign()
    matrix = (q * eigenvalues) @ q.T
    return Prescribed(eigenvalues.sort().values, (matrix + matrix.T) / 2)


def definite(kappa: float, n: int = 200, seed: int = 0) -> Prescribed:
    """λ from 1/kappa to 1, evenly on a logarithmic axis: the condition number is kappa."""
    return conjugated(torch.logspace(-_log10(kappa), 0, n, dtype=torch.float64), seed)


def singular(n: int = 200, seed: int = 0) -> Prescribed:
    """A fifth of the eigenvalues are 0, the others from 0.01 to 1."""
    zeros = n // 5
    return conjugated(torch.cat([_zeros(zeros), torch.logspace(-2, 0, n - zeros, dtype=torch.float64)]), seed)


def indefinite(n: int = 200, seed: int = 0) -> Prescribed:
    """Exactly three negative eigenvalues, -0.5, -0.2 and -0.1; the others from 0.05 to 2."""
    negative = torch.tensor([-0.5, -0.2, -0.1], dtype=torch.float64)
    return conjugated(torch.cat([negative, torch.linspace(0.05, 2, n - 3, dtype=torch.float64)]), seed)


def degenerate(n: int = 200, seed: int = 0) -> Prescribed:
    """Five eigenvalues only: 3 four times, 1 ten times, -1 twice, -0.25 three times, and 0.1."""
    values, counts = torch.tensor([3, 1, -1, -0.25, 0.1], dtype=torch.float64), [4, 10, 2, 3, n - 19]
    return conjugated(values.repeat_interleave(torch.tensor(counts)), seed)


def neural(n: int = 500, seed: int = 0) -> Prescribed:
    """What trained networks show (Sagun et al. 2017, Ghorbani et al. 2019).

    Ten outliers from 5 to 100; of the rest, nine tenths fall off from zero as an exponential of mean 0.2, and
    one tenth is negative, down to -0.3 and crowded towards zero.
    """
    outliers = torch.logspace(_log10(5), 2, 10, dtype=torch.float64)
    negatives = -0.3 * torch.linspace(1, 0.01, (n - 10) // 10, dtype=torch.float64) ** 3
    quantiles = (torch.arange(n - 10 - len(negatives), dtype=torch.float64) + 0.5) / (n - 10 - len(negatives))
    return conjugated(torch.cat([negatives, -0.2 * torch.log1p(-quantiles), outliers]), seed)


SPECTRA: dict[str, Callable[[], Prescribed]] = {
    "definite_1e2": lambda: definite(1e2),
    "definite_1e4": lambda: definite(1e4),
    "singular": singular,
    "indefinite": indefinite,
    "degenerate": degenerate,
    "neural": neural,
}


class Point(nn.Module):
    """A point x in n dimensions; called with matrices ``(k, n, n)`` it gives the k values 0.5 xᵀ A x."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(x)

    def forward(self, matrices: Tensor) -> Tensor:
        return 0.5 * (matrices @ self.x) @ self.x


def quadratic(
    matrix: Float64[Tensor, "n n"],
    *,
    distance: float = 0.0,
    num_batches: int = 1,
    spread: float = 0.0,
    seed: int = 0,
) -> Triple:
    """A model whose mean loss is 0.5 xᵀ A x, so that its Hessian is `matrix` at every x.

    x lies `distance` from the stationary point 0, in a random direction. With `spread` the batches disagree:
    each has `matrix` plus a random symmetric one whose spectral norm is about `spread`, and their mean is
    `matrix` to rounding.
    """
    generator = torch.Generator().manual_seed(seed)
    n = len(matrix)
    direction = torch.randn(n, dtype=matrix.dtype, generator=generator)
    noise = torch.randn(num_batches, n, n, dtype=matrix.dtype, generator=generator)
    noise = (noise + noise.mT) * spread / (8 * n) ** 0.5  # the spectral norm of (G + Gᵀ) is about √(8 n)
    noise = noise - noise.mean(0)
    batches = [(matrix + part)[None] for part in noise]
    return Point(distance * direction / direction.norm()), _mean_value, batches


def _mean_value(model: nn.Module, matrices: Tensor) -> Tensor:
    value: Tensor = model(matrices).mean()
    return value


def _log10(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).log10())


def _zeros(n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.float64)

"""Singular triplets of scaling · B·A through small QR decompositions: ΔW itself is never formed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class FactorSpectrum:
    """ΔW = U·diag(σ)·Vᵀ of rank r, all in fp64."""

    u: Float[Tensor, "m k"]
    singular_values: Float[Tensor, " k"]  # descending
    vt: Float[Tensor, "k n"]

    @property
    def values(self) -> NDArray[np.float64]:
        return self.singular_values.numpy()


def factor_spectrum(a: Float[Tensor, "r n"], b: Float[Tensor, "m r"], scaling: float = 1.0) -> FactorSpectrum:
    """B = Q_B·R_B and Aᵀ = Q_A·R_A: the singular values of B·A are those of R_B·R_Aᵀ (r × r).

    O((m + n)·r²) instead of O(m·n·min(m, n)), and accurate to the rounding of fp64 relative to ‖A‖·‖B‖.
    """
    q_b, r_b = torch.linalg.qr(b.double())
    q_a, r_a = torch.linalg.qr(a.double().T)
    u, sigma, vt = torch.linalg.svd(scaling * (r_b @ r_a.T), full_matrices=False)
    return FactorSpectrum(q_b @ u, sigma, vt @ q_a.T)


def rounding_of_factors(a: Tensor, b: Tensor, scaling: float, roundoff: float) -> float:
    """What the storage of the factors makes of a singular value of ΔW that is 0: its root mean square bound.

    ‖δB·A + B·δA‖ with δ of independent entries of relative size u/√3, as Marchenko & Pastur's law has it.
    """
    noise = 0.0
    for moved, other in ((b, a), (a, b)):
        size = float(torch.linalg.matrix_norm(moved.double())) / max(moved.numel(), 1) ** 0.5
        spread = (max(moved.shape) ** 0.5 + min(moved.shape) ** 0.5) * size * roundoff / 3**0.5
        noise += spread * float(torch.linalg.matrix_norm(other.double(), 2))
    return abs(scaling) * noise

"""Normalization layers: the constant that bounds their Jacobian everywhere.

With running statistics a **batch norm** is the diagonal map γ/√(σ² + ε), and its norm is the largest entry: exact.

**Layer, group and instance norm** of x with n entries: y = γ·x̂, x̂ = (x − μ)/s, s = √(var + ε). The Jacobian of x̂ is
(1/s)·P·(I − x̂x̂ᵀ/n), where P takes out the mean. As ‖x̂‖² = n·var/(var + ε) ≤ n, both factors have norm at most 1, and
s ≥ √ε: hence ‖J‖ ≤ max|γ|/√ε. **RMS norm** is the same without P. It is nearly reached where all entries are equal
(P/√ε), and nowhere near real data, where s is the standard deviation: a proven constant, and a loose one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from eigenscope.bounds.norms import Norm, outward


def batch_norm_scale(weight: Tensor | None, variance: Tensor, eps: float) -> Tensor:
    """What each channel is multiplied by, in fp64."""
    scale = (variance.double() + eps).rsqrt()
    return scale if weight is None else scale * weight.detach().double()


def batch_norm(weight: Tensor | None, variance: Tensor, eps: float) -> Norm:
    """Batch norm with its running statistics."""
    scale = batch_norm_scale(weight, variance, eps)
    return Norm(outward(float(scale.abs().max())), "max |γ|/√(σ² + ε), running statistics", exact=True)


def normalization(weight: Tensor | None, eps: float | None, dtype: torch.dtype) -> Norm:
    """Layer, group, instance or RMS norm, by the statistics of the sample itself."""
    eps = torch.finfo(dtype).eps if eps is None else eps  # what torch's RMS norm takes for None
    if eps <= 0:
        return Norm(math.inf, "no ε under the root: unbounded", exact=True)
    gain = 1.0 if weight is None else float(weight.detach().double().abs().max())
    return Norm(outward(gain / math.sqrt(eps)), "max |γ|/√ε, everywhere: loose", exact=False)

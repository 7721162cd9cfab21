"""Pooling and upsampling: the same small linear map on every axis, or a maximum.

An average over windows is a Kronecker product of one matrix an axis, and so are its divisors (what is padded counts,
or does not, axis by axis): its norm is the product of theirs. So is that of nearest, linear and bilinear upsampling.
A maximum over windows is 1-Lipschitz in each window; an entry that m windows share counts m times: √m,
and that is reached where that entry is the largest of all its windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from eigenscope.bounds.norms import Norm, dense_norm, outward

Axis = Callable[[Tensor], Tensor]  # (batch, 1, n) → (batch, 1, m)


def separable(sizes: Sequence[int], axes: Sequence[Axis], method: str) -> Norm:
    """The norm of a linear map that works on each axis by itself: exact."""
    value = 1.0
    for size, axis in zip(sizes, axes, strict=True):
        columns = axis(torch.eye(size, dtype=torch.float64).unsqueeze(1)).squeeze(1)
        value *= dense_norm(columns).value
    return Norm(value, method, exact=True)


def average_pool(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Norm:
    """Average pooling; `divisor` replaces the windows' sizes."""

    def axis(x: Tensor, k: int, s: int, p: int) -> Tensor:
        mean = F.avg_pool1d(x, k, s, p, ceil_mode, count_include_pad)
        return (mean > 0).double() if divisor else mean  # a sum over the window

    axes = [lambda x, ksp=ksp: axis(x, *ksp) for ksp in zip(kernel, stride, padding, strict=True)]
    norm = separable(sizes, axes, "product of the axes' norms")
    return norm.times(1 / divisor) if divisor else norm


def adaptive_average_pool(sizes: Sequence[int], outputs: Sequence[int | None]) -> Norm:
    """Adaptive average pooling."""
    axes = [lambda x, m=m: F.adaptive_avg_pool1d(x, m) for m in _given(sizes, outputs)]
    return separable(sizes, axes, "product of the axes' norms")


def max_pool(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Norm:
    """Maximum over windows."""
    used = 1
    for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        out = F.max_pool1d(torch.zeros(1, 1, n), k, s, p, d, ceil_mode).shape[-1]
        position = (torch.arange(out) * s - p)[:, None] + torch.arange(k) * d
        used *= int(torch.bincount(position[(position >= 0) & (position < n)], minlength=n).max())
    return _maximum(used)


def adaptive_max_pool(sizes: Sequence[int], outputs: Sequence[int | None]) -> Norm:
    """Adaptive max pooling: window i of m runs from ⌊in/m⌋ to ⌈(i + 1)n/m⌉."""
    used = 1
    for n, m in zip(sizes, _given(sizes, outputs), strict=True):
        counts = torch.zeros(n, dtype=torch.long)
        for i in range(m):
            counts[i * n // m : -(-(i + 1) * n // m)] += 1
        used *= int(counts.max())
    return _maximum(used)


def _maximum(used: int) -> Norm:
    method = "√(windows that share an entry)" if used > 1 else "no entry is in two windows"
    return Norm(outward(math.sqrt(used)), method, exact=True)


def _given(sizes: Sequence[int], outputs: Sequence[int | None]) -> list[int]:
    return [n if m is None else m for n, m in zip(sizes, outputs, strict=True)]

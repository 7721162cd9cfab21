"""Bounds on a layer's norm that cost one look at its weights, and what the tight ones cost: for a layer too many.

‖A‖₂² ≤ ‖A‖₁·‖A‖∞ (the largest sums of magnitudes in a column and in a row), and ‖A‖₂ ≤ ‖A‖_F. In a convolution each
tap of the kernel meets an input position, and an output position, at most once, so those sums are at most the kernel's.
"""

from __future__ import annotations

import math

from torch import Tensor

from eigenscope.bounds.convolution import Convolution
from eigenscope.bounds.convolution_norm import without_padding
from eigenscope.bounds.norms import SOLVED, Norm, outward
from eigenscope.bounds.unrolled import PROVEN, gram_rows

_RATE = 4e9  # operations a second in fp64 on one core, of small matrices and of factorizations
_PRODUCTS = 2e10  # and of the products of large ones


def quick_dense(weight: Tensor) -> Norm:
    """The smaller of the Frobenius norm and √(‖W‖₁·‖W‖∞)."""
    size = weight.detach().double().abs()
    sums = math.sqrt(float(size.sum(0).max()) * float(size.sum(1).max())) if size.numel() else 0.0
    value = min(sums, float(size.square().sum().sqrt()))
    return Norm(outward(value), "Frobenius norm or √(‖W‖₁·‖W‖∞): loose, for lack of time", exact=False)


def quick_convolution(conv: Convolution) -> Norm:
    """√(‖A‖₁·‖A‖∞) of the operator, whatever its size."""
    repeats, conv = without_padding(conv)
    size = conv.weight.detach().double().abs()
    groups = size.view(conv.groups, -1, *size.shape[1:])  # groups, out, in, *kernel
    columns, rows = groups.flatten(3).sum((1, 3)).max(), groups.flatten(2).sum(2).max()
    value = math.sqrt(float(columns) * float(rows) * repeats)
    return Norm(outward(value), "√(‖A‖₁·‖A‖∞) of the kernel: loose, for lack of time", exact=False)


def dense_seconds(weight: Tensor) -> float:
    """What `dense_norm` may take: a Gram matrix and its eigenvalues, or a few factorizations of a large one."""
    short, long = sorted(weight.shape)
    return float(2 * short**2 * long / _PRODUCTS + _eigenvalue_seconds(short))


def convolution_seconds(conv: Convolution) -> float:
    """What `convolution_norm` may take: a matrix for each frequency of each twist, or the operator written out."""
    out, inn = conv.weight.shape[0] // conv.groups, conv.weight.shape[1]
    aliases, taps = math.prod(conv.stride), math.prod(conv.weight.shape[2:])
    lengths = [n + sum(pair) + reach for n, pair, reach in zip(conv.size, conv.padding, conv.reach, strict=True)]
    frequencies = math.prod(max(n // s, 1) for n, s in zip(lengths, conv.stride, strict=True)) / 2 * 2**conv.dims
    short, long = sorted((out, inn * aliases))
    operations = frequencies * conv.groups * 8 * (out * inn * aliases * taps + 2 * short**2 * long + short**3)
    rows = gram_rows(conv)
    return float(operations / _RATE) + (conv.groups * _eigenvalue_seconds(rows) if rows <= PROVEN else 0.0)


def _eigenvalue_seconds(rows: int) -> float:
    return float(4 * rows**3 / (1 if rows <= SOLVED else 16) / _RATE)

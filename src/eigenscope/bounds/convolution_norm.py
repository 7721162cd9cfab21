"""The norm of a convolution: exact where that is cheap, else bounded from above by a proof.

**Circular padding** ("same" size, the stride dividing it): exact, by Fourier transform. **Small** operators are written
out (`bounds/unrolled.py`) and solved, whatever their padding. Others are bounded by twisted tori (`bounds/torus.py`);
where that is more than 2 % above what Lanczos finds, and the Gram matrix has at most some 4,000 rows, it is written out
and factorized. **Large** ones with reflecting, replicating or other circular padding: ‖A‖ ≤ ‖convolution of the padded
input‖ · √(how often padding repeats an entry), which is loose.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch.nn import functional as F

from eigenscope.bounds.convolution import Convolution, lower_norm
from eigenscope.bounds.norms import SOLVED, Norm, dense_norm, outward
from eigenscope.bounds.torus import is_circulant, torus, twisted_torus
from eigenscope.bounds.unrolled import PROVEN, gram_rows, unrolled_norm

_TIGHT = 1.02  # upper ÷ lower, above which an operator that is not too large is written out
_MODES = {"constant": "zeros", "zeros": "zeros", "circular": "circular", "reflect": "reflect", "replicate": "replicate"}


def convolution_norm(conv: Convolution, *, unroll: bool = True, lower: bool = True) -> Norm:
    """The operator norm, exact or bounded from above; see the module for which, and why it is a bound.

    Without `lower` no bound from below is looked for, where nothing is decided by it: that is a third of the price.
    """
    conv = replace(conv, weight=conv.weight.double(), mode=_MODES[conv.mode])
    if not bool(conv.weight.any()):
        return Norm(0.0, "the kernel is zero", exact=True)
    if set(conv.weight.shape[2:]) == {1} and conv.mode == "zeros":  # a dense layer at each position that is read
        norms = [dense_norm(group.flatten(1)) for group in conv.weight.chunk(conv.groups)]
        return max(norms, key=lambda norm: norm.value)
    if is_circulant(conv):
        value = torus(conv, conv.size, (0.0,) * conv.dims, 0.0)
        return Norm(outward(math.sqrt(value)), "fft of the circular convolution", exact=True)
    rows = gram_rows(conv)
    if unroll and rows <= SOLVED:
        return unrolled_norm(conv)
    norm = _bounded(conv, lower or (unroll and rows <= PROVEN))
    if unroll and rows <= PROVEN and (norm.lower is None or norm.value > _TIGHT * norm.lower):
        return unrolled_norm(conv)
    return norm


def _bounded(conv: Convolution, lower: bool) -> Norm:
    """By the best twisted torus."""
    repeats, conv = without_padding(conv)
    value, twist = twisted_torus(conv)
    method = f"twisted torus (twist {twist})" + (" times padding's repeats: loose" if repeats > 1 else "")
    least = lower_norm(conv) if lower and repeats == 1 else None
    return Norm(outward(math.sqrt(value * repeats)), method, exact=False, lower=least)


def without_padding(conv: Convolution) -> tuple[float, Convolution]:
    """The square of padding's norm, and the convolution of what is then there; zeros stay as they are.

    Padding copies entries, so PᵀP is diagonal and holds how often each is there.
    """
    repeats = 1.0
    if _MODES[conv.mode] == "zeros":
        return repeats, conv
    for n, pair in zip(conv.size, conv.padding, strict=True):
        index = F.pad(torch.arange(n, dtype=torch.float64).view(1, 1, n), pair, mode=conv.mode).long().flatten()
        repeats *= float(torch.bincount(index).max())
    size = tuple(n + sum(pair) for n, pair in zip(conv.size, conv.padding, strict=True))
    return repeats, replace(conv, size=size, padding=((0, 0),) * conv.dims, mode="zeros")

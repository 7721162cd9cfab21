"""A convolution written out: the Gram matrix of the operator that it really is, whatever its padding and stride.

A = Σ_t K_t ⊗ S_t over the taps t of the kernel, where S_t says which input position each output position reads there
(none, in the zeros). So AᵀA = Σ_tt' K_tᵀK_t' ⊗ S_tᵀS_t' is put together from small blocks, without a product of large
matrices. Its largest eigenvalue is solved for while that is cheap; beyond, Lanczos finds it from below and a Cholesky
factorization of μI − AᵀA proves that it stays below μ.
"""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from eigenscope.bounds.convolution import Convolution, lower_norm
from eigenscope.bounds.norms import SOLVED, Norm, eigenvalue_bounds, largest_eigenvalue, outward

PROVEN = 4200  # rows of one that is factorized: a second or two, and 140 MB


def gram_rows(conv: Convolution) -> int:
    """Rows of the smaller Gram matrix of a group."""
    return min(_rows(conv, output=False), _rows(conv, output=True))


def unrolled_norm(conv: Convolution) -> Norm:
    """The norm from the Gram matrices of the groups."""
    grams = [_gram(conv, weight) for weight in conv.weight.double().chunk(conv.groups)]
    if len(grams[0]) <= SOLVED:
        value = math.sqrt(largest_eigenvalue(torch.stack(grams)))
        return Norm(outward(value), "gram of the operator written out (fp64)", exact=True)
    least = lower_norm(conv)
    upper = max(eigenvalue_bounds(gram, least**2)[1] for gram in grams)
    method = "Cholesky factorization of the operator written out (fp64)"
    return Norm(outward(math.sqrt(upper)), method, exact=False, lower=least)


def _rows(conv: Convolution, *, output: bool) -> int:
    """Rows of a group's Gram matrix, of AᵀA or of AAᵀ; the latter only where each position is read once a tap."""
    if not output:
        return conv.input_numel // conv.groups
    return conv.output_numel // conv.groups if conv.mode == "zeros" else PROVEN + 1


def _gram(conv: Convolution, weight: Float[Tensor, "out in *kernel"]) -> Float[Tensor, "n n"]:
    """AᵀA of one group, or AAᵀ where that is smaller."""
    output = _rows(conv, output=True) < _rows(conv, output=False)
    taps = weight.flatten(2).permute(2, 0, 1)
    read = _read(conv)
    if output:
        taps, read = taps.mT, _written(read, math.prod(conv.size))
    channels = taps.shape[2]
    positions = math.prod(conv.output_size if output else conv.size)
    gram = torch.zeros(positions, positions, channels, channels, dtype=torch.float64)
    for (k, rows), (other, columns) in itertools.product(zip(taps, read, strict=True), repeat=2):
        both = (rows >= 0) & (columns >= 0)
        block = (k.T @ other).expand(int(both.sum()), -1, -1)
        gram.index_put_((rows[both], columns[both]), block, accumulate=True)
    return gram.permute(0, 2, 1, 3).reshape(positions * channels, -1)


def _read(conv: Convolution) -> Int[Tensor, "taps outputs"]:
    """Which input position each output position reads at each tap; −1 in the zeros.

    Found by unfolding the positions' own numbers.
    """
    numbers = torch.arange(1, math.prod(conv.size) + 1, dtype=torch.float64).view(1, 1, *conv.size)
    flat = [p for pair in reversed(conv.padding) for p in pair]
    padded = F.pad(numbers, flat, mode="constant" if conv.mode == "zeros" else conv.mode)[0, 0]
    for axis, (reach, stride, dilation) in enumerate(zip(conv.reach, conv.stride, conv.dilation, strict=True)):
        padded = padded.unfold(axis, reach, stride)[..., ::dilation]  # the window's axis goes to the end
    return padded.flatten(conv.dims).flatten(0, conv.dims - 1).T.long() - 1


def _written(read: Int[Tensor, "taps outputs"], inputs: int) -> Int[Tensor, "taps inputs"]:
    """Which output position reads each input position at each tap; −1 for none."""
    written = torch.full((len(read), inputs + 1), -1)
    outputs = torch.arange(read.shape[1]).expand_as(read)
    return written.scatter(1, torch.where(read < 0, inputs, read), outputs)[:, :inputs]

"""Bounds on the norm of a convolution from tori, on which the Fourier transform diagonalizes it.

**Circular padding** ("same" size, the stride dividing it): the discrete Fourier transform splits the operator into one
small matrix a frequency, and its norm is the largest of theirs (Sedghi, Gupta & Long 2019). Exact.

**Zero padding**: let the input lie on a torus of N positions, N so large that what wraps around meets only the zeros
there. Then the operator is A = R·T·E with T the convolution on the torus, E the embedding and R the restriction to the
outputs, so ‖A‖ ≤ ‖T‖. What wraps around may moreover be multiplied by any phase e^{iφ}: it multiplies zeros. Each
such twisted torus (Davis 1979, {k}-circulant matrices) is diagonalized by the frequencies (2πj + φ)/N, and gives a
bound of its own. A peak of the symbol that falls between the frequencies of a twist counts there as little as it does
in the true operator, so the best of the twists φ ∈ {0, π} per axis is mostly within 1 % where the torus alone is
several per cent off.

**Stride** s: the output takes every s-th position, so the s frequencies that alias into one stand side by side in one
small matrix, over √s each axis. **Dilation** stretches the taps. **Groups** are blocks. A **transposed** convolution
is the adjoint of a convolution and has its norm.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.bounds.convolution import Convolution
from eigenscope.bounds.norms import ROUNDING, largest_eigenvalue, rayleigh

_ENTRIES = 1 << 22  # entries of the frequencies' matrices that are held at once (64 MB)


def is_circulant(conv: Convolution) -> bool:
    """The output of a circular convolution is as many positions as the stride takes out of the input."""
    axes = zip(conv.size, conv.padding, conv.reach, conv.stride, conv.output_size, strict=True)
    return all(n % s == 0 and out == n // s and (conv.mode == "circular" or r == 1) and
               (r > 1 or not any(p)) for n, p, r, s, out in axes)  # fmt: skip


def twisted_torus(conv: Convolution) -> tuple[float, str]:
    """The best bound of the 2^dims tori that are twisted by 0 or π per axis, and which one that was."""
    lengths = tuple(_torus_length(conv, axis) for axis in range(conv.dims))
    twists = list(itertools.product((0.0, math.pi), repeat=conv.dims))
    estimates = [_torus_estimate(conv, lengths, twist) for twist in twists]
    best = min(range(len(twists)), key=estimates.__getitem__)
    names = ", ".join("π" if part else "0" for part in twists[best])
    return torus(conv, lengths, twists[best], estimates[best]), names


def _torus_length(conv: Convolution, axis: int) -> int:
    """The shortest torus, a multiple of the stride, on which nothing that is read wraps around onto the input."""
    stride, (before, _), size = conv.stride[axis], conv.padding[axis], conv.size[axis]
    out, reach = conv.output_size[axis], conv.reach[axis]
    last = (out - 1) * stride - before + reach - 1  # the last position read; the first is −before
    length = max(size + before, last + 1, out * stride)
    return -(-length // stride) * stride


def torus(conv: Convolution, lengths: Sequence[int], twist: Sequence[float], floor: float) -> float:
    """The largest squared singular value of the convolution on a twisted torus, found and proven.

    `floor` is a value known to be reached.
    """
    best = floor
    for gram in _grams(conv, lengths, twist):
        best = largest_eigenvalue(gram, floor=best)
    return best


def _torus_estimate(conv: Convolution, lengths: Sequence[int], twist: Sequence[float]) -> float:
    """A lower bound on what `torus` finds, by the power method at each frequency."""
    return max(float(rayleigh(gram.flatten(0, 1)).max()) for gram in _grams(conv, lengths, twist)) * (1 - ROUNDING)


def _grams(conv: Convolution, lengths: Sequence[int], twist: Sequence[float]) -> Iterator[Tensor]:
    """The smaller Gram matrices of `_blocks`."""
    for blocks in _blocks(conv, lengths, twist):
        wide = blocks.shape[-1] > blocks.shape[-2]
        yield blocks @ blocks.mH if wide else blocks.mH @ blocks


def _blocks(conv: Convolution, lengths: Sequence[int], twist: Sequence[float]) -> Iterator[Tensor]:
    """For some output frequencies at a time, the matrices (out, in · aliases) of every group.

    K̂(ω) = Σ_t K_t e^{iω·t}; the aliases of ω are ω + 2πm/s. The kernel is real, so −ω has the conjugate matrix of ω:
    half of the first axis suffices.
    """
    weight = conv.weight.view(conv.groups, -1, *conv.weight.shape[1:])  # groups, out, in, *kernel
    out, inn = weight.shape[1:3]
    kernel_size = conv.weight.shape[2:]
    taps = _products([torch.arange(k) * d for k, d in zip(kernel_size, conv.dilation, strict=True)])
    kernel = weight.flatten(3).permute(3, 0, 1, 2).reshape(len(taps), -1).to(torch.complex128)
    aliases = _products([2 * math.pi / s * torch.arange(s, dtype=torch.float64) for s in conv.stride])
    at_once = max(1, _ENTRIES // (conv.groups * out * inn * len(aliases)))
    for omega in torch.split(_frequencies(lengths, conv.stride, twist), at_once):
        phases = torch.polar(torch.ones(()).double(), (omega[:, None] + aliases) @ taps.T)  # frequency, alias, tap
        symbol = (phases @ kernel).view(len(omega), len(aliases), conv.groups, out, inn)
        yield symbol.permute(0, 2, 3, 1, 4).flatten(3) / math.sqrt(len(aliases))


def _frequencies(lengths: Sequence[int], stride: Sequence[int], twist: Sequence[float]) -> Float[Tensor, "f dims"]:
    axes = []
    for axis, (n, s, phi) in enumerate(zip(lengths, stride, twist, strict=True)):
        count = n // s
        if axis == 0:  # one of each pair ±ω
            count = (count + 1) // 2 if phi else count // 2 + 1
        axes.append((2 * math.pi * torch.arange(count).double() + phi) / n)
    return _products(axes)


def _products(axes: Sequence[Tensor]) -> Float[Tensor, "points dims"]:
    """All points of a grid."""
    return torch.cartesian_prod(*[axis.double() for axis in axes]).view(-1, len(axes))

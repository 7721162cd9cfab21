"""The norm of a convolution as the linear operator that it is on its real input size.

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

**Small** operators, and those up to some 4,000 rows of which the torus does not say enough, are written out as a matrix
(`bounds/unrolled.py`), whatever their padding. **Large** ones with reflecting, replicating or other circular padding:
‖A‖ ≤ ‖convolution of the padded input‖ · √(how often padding repeats an entry), which is loose.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from eigenscope.bounds.norms import ROUNDING, SOLVED, Norm, dense_norm, largest_eigenvalue, outward, rayleigh
from eigenscope.bounds.unrolled import PROVEN, gram_rows, unrolled_norm
from eigenscope.estimators import lanczos
from eigenscope.operators import Operator, VectorSpace

_TIGHT = 1.01  # upper ÷ lower, above which an operator that is not too large is written out
_ENTRIES = 1 << 22  # entries of the frequencies' matrices that are held at once (64 MB)
_MODES = {"constant": "zeros", "zeros": "zeros", "circular": "circular", "reflect": "reflect", "replicate": "replicate"}


@dataclass(frozen=True)
class Convolution:
    """One convolution (1d, 2d, 3d) and the input size that it meets. Padding: (before, after) for each axis."""

    weight: Float[Tensor, "out in_per_group *kernel"]
    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    mode: str = "zeros"

    @property
    def dims(self) -> int:
        return len(self.size)

    @property
    def reach(self) -> tuple[int, ...]:
        """How many positions the stretched kernel spans, per axis."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.weight.shape[2:], strict=True))

    @property
    def output_size(self) -> tuple[int, ...]:
        axes = zip(self.size, self.padding, self.reach, self.stride, strict=True)
        return tuple((n + sum(p) - r) // s + 1 for n, p, r, s in axes)

    @property
    def input_numel(self) -> int:
        return self.weight.shape[1] * self.groups * math.prod(self.size)

    @property
    def output_numel(self) -> int:
        return int(self.weight.shape[0]) * math.prod(self.output_size)

    def scaled(self, scale: Float[Tensor, " out"]) -> Convolution:
        """Followed by a factor for each output channel (a batch norm in evaluation mode)."""
        return replace(self, weight=self.weight * scale.to(self.weight).view(-1, *[1] * (self.dims + 1)))

    def apply(self, x: Float[Tensor, "batch in *size"]) -> Float[Tensor, "batch out *output"]:
        """The linear part of the layer."""
        flat = [p for pair in reversed(self.padding) for p in pair]
        x = F.pad(x, flat, mode="constant" if self.mode == "zeros" else self.mode) if any(flat) else x
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.dims - 1]
        weight = self.weight.to(x)
        return convolve(x, weight, None, self.stride, 0, self.dilation, self.groups)


def convolution_norm(conv: Convolution, *, unroll: bool = True) -> Norm:
    """The operator norm, exact or bounded from above; see the module for which, and why it is a bound."""
    conv = replace(conv, weight=conv.weight.double(), mode=_MODES[conv.mode])
    if set(conv.weight.shape[2:]) == {1} and conv.mode == "zeros":  # a dense layer at each position that is read
        norms = [dense_norm(group.flatten(1)) for group in conv.weight.chunk(conv.groups)]
        return max(norms, key=lambda norm: norm.value)
    if _is_circulant(conv):
        value = _torus(conv, conv.size, (0.0,) * conv.dims, 0.0)
        return Norm(outward(math.sqrt(value)), "fft of the circular convolution", exact=True)
    rows = gram_rows(conv)
    if unroll and rows <= SOLVED:
        return unrolled_norm(conv, _lower)
    norm = _bounded(conv)
    if unroll and rows <= PROVEN and (norm.lower is None or norm.value > _TIGHT * norm.lower):
        return unrolled_norm(conv, _lower)
    return norm


def _bounded(conv: Convolution) -> Norm:
    """By the best twisted torus."""
    repeats = 1.0
    if conv.mode != "zeros":
        repeats, conv = _without_padding(conv)
    value, twist = _twisted(conv)
    method = f"twisted torus (twist {twist})" + (" times padding's repeats: loose" if repeats > 1 else "")
    lower = _lower(conv) if repeats == 1 else None
    return Norm(outward(math.sqrt(value * repeats)), method, exact=False, lower=lower)


# -- products ---------------------------------------------------------------------------------------------------------


def _adjoint(conv: Convolution, y: Tensor) -> Tensor:
    with torch.enable_grad():
        x = y.new_zeros(len(y), conv.weight.shape[1] * conv.groups, *conv.size).requires_grad_()
        return torch.autograd.grad(conv.apply(x), x, y)[0]


class ConvolutionGram(Operator):
    """AᵀA of a convolution A, by products."""

    def __init__(self, conv: Convolution) -> None:
        self.conv, self.space = conv, VectorSpace(conv.input_numel, torch.device("cpu"))

    def _matvec(self, v: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        x = v.to(self.conv.weight.dtype).view(1, -1, *self.conv.size)
        return _adjoint(self.conv, self.conv.apply(x)).flatten().to(v.dtype)


def _lower(conv: Convolution, steps: int = 40) -> float:
    """A Ritz value of AᵀA: never above the norm, but for the rounding of fp32."""
    gram = ConvolutionGram(replace(conv, weight=conv.weight.float()))
    generator = gram.space.generator(0)
    krylov = lanczos(gram, gram.space.random(generator), steps=steps, generator=generator)
    return math.sqrt(max(float(krylov.ritz().values[-1]), 0.0)) * (1 - 1e-6)


# -- tori -----------------------------------------------------------------------------------------------------------


def _is_circulant(conv: Convolution) -> bool:
    """The output of a circular convolution is as many positions as the stride takes out of the input."""
    axes = zip(conv.size, conv.padding, conv.reach, conv.stride, conv.output_size, strict=True)
    return all(n % s == 0 and out == n // s and (conv.mode == "circular" or r == 1) and
               (r > 1 or not any(p)) for n, p, r, s, out in axes)  # fmt: skip


def _twisted(conv: Convolution) -> tuple[float, str]:
    """The best bound of the 2^dims tori that are twisted by 0 or π per axis, and which one that was."""
    lengths = tuple(_torus_length(conv, axis) for axis in range(conv.dims))
    twists = list(itertools.product((0.0, math.pi), repeat=conv.dims))
    estimates = [_torus_estimate(conv, lengths, twist) for twist in twists]
    best = min(range(len(twists)), key=estimates.__getitem__)
    names = ", ".join("π" if part else "0" for part in twists[best])
    return _torus(conv, lengths, twists[best], estimates[best]), names


def _torus_length(conv: Convolution, axis: int) -> int:
    """The shortest torus, a multiple of the stride, on which nothing that is read wraps around onto the input."""
    stride, (before, _), size = conv.stride[axis], conv.padding[axis], conv.size[axis]
    out, reach = conv.output_size[axis], conv.reach[axis]
    last = (out - 1) * stride - before + reach - 1  # the last position read; the first is −before
    length = max(size + before, last + 1, out * stride)
    return -(-length // stride) * stride


def _torus(conv: Convolution, lengths: Sequence[int], twist: Sequence[float], floor: float) -> float:
    """The largest squared singular value of the convolution on a twisted torus, found and proven.

    `floor` is a value known to be reached.
    """
    best = floor
    for gram in _grams(conv, lengths, twist):
        best = largest_eigenvalue(gram, floor=best)
    return best


def _torus_estimate(conv: Convolution, lengths: Sequence[int], twist: Sequence[float]) -> float:
    """A lower bound on what `_torus` finds, by the power method at each frequency."""
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


def _without_padding(conv: Convolution) -> tuple[float, Convolution]:
    """The square of padding's norm, and the convolution of what is then there.

    Padding copies entries, so PᵀP is diagonal and holds how often each is there.
    """
    repeats = 1.0
    for n, pair in zip(conv.size, conv.padding, strict=True):
        index = F.pad(torch.arange(n, dtype=torch.float64).view(1, 1, n), pair, mode=conv.mode).long().flatten()
        repeats *= float(torch.bincount(index).max())
    size = tuple(n + sum(pair) for n, pair in zip(conv.size, conv.padding, strict=True))
    return repeats, replace(conv, size=size, padding=((0, 0),) * conv.dims, mode="zeros")

"""A convolution as the linear operator that it is on its real input size, and products with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from eigenscope.bounds.norms import ROUNDING
from eigenscope.estimators import lanczos
from eigenscope.operators import Operator, VectorSpace


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


def adjoint(conv: Convolution, y: Float[Tensor, "batch out *output"]) -> Float[Tensor, "batch in *size"]:
    """Aᵀy."""
    with torch.enable_grad():
        x = y.new_zeros(len(y), conv.weight.shape[1] * conv.groups, *conv.size).requires_grad_()
        return torch.autograd.grad(conv.apply(x), x, y)[0]


class ConvolutionGram(Operator):
    """AᵀA of a convolution A, by products."""

    def __init__(self, conv: Convolution) -> None:
        self.conv, self.space = conv, VectorSpace(conv.input_numel, torch.device("cpu"))

    def _matvec(self, v: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        x = v.to(self.conv.weight.dtype).view(1, -1, *self.conv.size)
        return adjoint(self.conv, self.conv.apply(x)).flatten().to(v.dtype)


def lower_norm(conv: Convolution, steps: int = 40) -> float:
    """A Ritz value of AᵀA in fp64, lowered by its rounding: never above the norm."""
    gram = ConvolutionGram(replace(conv, weight=conv.weight.detach().double()))
    generator = gram.space.generator(0)
    krylov = lanczos(gram, gram.space.random(generator), steps=steps, generator=generator)
    return math.sqrt(max(float(krylov.ritz().values[-1]), 0.0)) * (1 - 10 * ROUNDING)

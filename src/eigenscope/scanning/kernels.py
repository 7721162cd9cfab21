"""Which tensors of three axes or more are convolutions, and how their axes lie.

PyTorch stores out × in × kernel, Keras kernel × in × out; Keras's attention projections have three axes too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

_EXPERTS = re.compile(r"expert|moe|_exps\b", re.IGNORECASE)
_CONVOLUTION = re.compile(r"conv|(^|[./])(weight|weight_v|weight_orig|kernel|original\d)$", re.IGNORECASE)
_LEAST_SIDE = 16  # of three axes, those of a stack's matrices are longer than a kernel mostly is
_DEPTHWISE = re.compile(r"depthwise|separable\w*/vars/0")
_INTO_HEADS = re.compile(r"(^|[/_])(query|key|value)(_dense)?/")
_OUT_OF_HEADS = re.compile(r"(attention_output|output_dense)/")


@dataclass(frozen=True)
class Kernel:
    """A tensor unrolled to a matrix; of a convolution also its filters, out × in of a group × kernel."""

    matrix: Callable[[Tensor], Tensor]
    shape: tuple[int, int]
    size: tuple[int, ...] = ()  # of a convolution's kernel
    filters: Callable[[Tensor], Tensor] | None = None
    groups: int = 0  # 0: it doesn't say
    heads: int = 0  # of an attention projection


def torch_kernel(shape: Sequence[int]) -> Kernel:
    """Out × in × kernel, as PyTorch and ONNX have it (in × out of a transposed convolution)."""
    size = (shape[0], math.prod(shape[1:]))
    return Kernel(lambda tensor: tensor.flatten(1), size, tuple(shape[2:]), lambda tensor: tensor)


def keras_kernel(name: str, shape: Sequence[int]) -> Kernel:
    """Kernel × in × out; attention in × heads × width, or heads × width × out."""
    if len(shape) == 3 and _INTO_HEADS.search(name):
        size = (math.prod(shape[1:]), shape[0])
        return Kernel(lambda tensor: tensor.flatten(1).T, size, heads=shape[1])
    if len(shape) == 3 and _OUT_OF_HEADS.search(name):
        return Kernel(lambda tensor: tensor.flatten(0, 1).T, (shape[2], math.prod(shape[:2])))
    depth = len(shape) - 2
    if _DEPTHWISE.search(name):
        each = (math.prod(shape[-2:]), math.prod(shape[:-2]))

        def filters(tensor: Tensor) -> Tensor:
            return tensor.permute(depth, depth + 1, *range(depth)).flatten(0, 1).unsqueeze(1)

        return Kernel(lambda tensor: filters(tensor).flatten(1), each, tuple(shape[:-2]), filters, groups=shape[-2])
    turned = (shape[-1], math.prod(shape[:-1]))
    return Kernel(
        lambda tensor: tensor.movedim(-1, 0).flatten(1),
        turned,
        tuple(shape[:-2]),
        lambda tensor: tensor.permute(depth + 1, depth, *range(depth)),
        groups=1,
    )


def is_stack(name: str, shape: Sequence[int], experts: int) -> bool:
    """Whether three axes are matrices one after the other (experts, layers), not a convolution of one axis.

    The name decides (`experts`, `moe`, or that of a layer's own weight); then the number of experts that the
    configuration gives; then whether both last axes have 16 or more.
    """
    if len(shape) != 3:
        return False
    if _EXPERTS.search(name) or (experts > 1 and shape[0] == experts):
        return True
    return not _CONVOLUTION.search(name) and min(shape[1:]) >= _LEAST_SIDE


def stacked_word(name: str, shape: Sequence[int], experts: int) -> str:
    """What one matrix of a stack is called."""
    return "expert " if _EXPERTS.search(name) or shape[0] == experts else ""


def squeezed(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Without leading axes of length 1, such as a batch's (`pos_embed`); a layer's own weight keeps its outputs."""
    inner = tuple(shape)
    while len(inner) > 2 and inner[0] == 1 and not _CONVOLUTION.search(name):
        inner = inner[1:]
    return inner

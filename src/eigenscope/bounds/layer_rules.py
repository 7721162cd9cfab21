"""The rules for layers with weights, normalization and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from eigenscope.bounds import pooling
from eigenscope.bounds.composition import Walk
from eigenscope.bounds.convolution import Convolution
from eigenscope.bounds.graph import Operation, Ref
from eigenscope.bounds.normalization import batch_norm, batch_norm_scale, normalization
from eigenscope.bounds.norms import Norm
from eigenscope.bounds.pooling import Axis
from eigenscope.bounds.quick import dense_seconds
from eigenscope.bounds.rule import Bound, Rule, no_rule, rules
from eigenscope.bounds.value import Value, dense

# -- dense ----------------------------------------------------------------------------------------------------------


def _linear(state: Walk, operation: Operation) -> Value:
    return _dense(state, operation, operation.arguments["input"], operation.arguments["weight"])


def _addmm(state: Walk, operation: Operation) -> Value:
    """b + x·W with a constant b: what `Conv1D` of transformers and decomposed layers are."""
    arguments = operation.arguments
    return _dense(state, operation, arguments["mat1"], arguments["mat2"].T, float(arguments.get("alpha", 1)))


def _dense(state: Walk, operation: Operation, source: Ref, weight: Tensor, alpha: float = 1.0) -> Value:
    norm = state.layer(operation, "Linear", state.dense(weight).times(alpha), source.shape)
    if state.late(2 * dense_seconds(weight)):  # no time for the chain either
        return state.of(source).through(norm)
    return dense(state.of(source), weight if alpha == 1.0 else weight.double() * alpha, norm)


# -- convolution ------------------------------------------------------------------------------------------------------


def _convolution(state: Walk, operation: Operation) -> Value:
    arguments = operation.arguments
    ref, weight = arguments["input"], arguments["weight"]
    dims = weight.ndim - 2
    stride, dilation = _each(arguments["stride"], dims), _each(arguments["dilation"], dims)
    padding = _padding(arguments["padding"], weight.shape[2:], dilation)
    conv = Convolution(weight.detach(), ref.shape[-dims:], stride, padding, dilation, arguments["groups"])
    source, conv = _take_over_padding(state.of(ref), conv)
    norm = state.layer(operation, f"Conv{dims}d", state.convolution(conv), (1, ref.shape[-dims - 1], *conv.size))
    after = source.through(norm)
    if source.bound is None:
        return after
    return replace(after, convolution=(source.bound, conv))


def _take_over_padding(value: Value, conv: Convolution) -> tuple[Value, Convolution]:
    """Padding just before a convolution belongs to it: `padding_mode`, and padding by hand."""
    if value.padded is None or any(p != (0, 0) for p in conv.padding):
        return value, conv
    before, padding = value.padded
    missing = conv.dims - len(padding.size)
    if missing:
        return value, conv
    return before, replace(conv, size=padding.size, padding=padding.amounts, mode=padding.mode)


def _transposed(state: Walk, operation: Operation) -> Value:
    """The adjoint of the convolution that goes the other way, from the output's size."""
    arguments = operation.arguments
    ref, weight = arguments["input"], arguments["weight"]
    dims = weight.ndim - 2
    stride, dilation = _each(arguments["stride"], dims), _each(arguments["dilation"], dims)
    padding = tuple((p, p) for p in _each(arguments["padding"], dims))
    conv = Convolution(weight.detach(), operation.shape[-dims:], stride, padding, dilation, arguments["groups"])
    norm = state.layer(operation, f"ConvTranspose{dims}d", state.convolution(conv), ref.shape)
    return state.of(ref).through(norm)


def _padding(given: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    if given == "valid":
        return ((0, 0),) * len(kernel)
    if given == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((t // 2, t - t // 2) for t in totals)
    return tuple((p, p) for p in _each(given, len(kernel)))


# -- normalization --------------------------------------------------------------------------------------------------


def _batch_norm(state: Walk, operation: Operation) -> Value:
    """Folded into the dense layer or convolution just before it, where that is tighter."""
    arguments = operation.arguments
    ref, weight, variance = arguments["input"], arguments["weight"], arguments["running_var"]
    if variance is None or arguments.get("training"):
        return no_rule(operation, "batch norm without running statistics: it mixes the samples")
    norm = state.layer(operation, "BatchNorm", batch_norm(weight, variance, arguments["eps"]), ref.shape)
    before = state.of(ref)
    after = before.through(norm)
    scale = batch_norm_scale(weight, variance, arguments["eps"])
    if before.convolution is not None:
        base, conv = before.convolution
        folded = state.convolution(conv := conv.scaled(scale))
        state.folded += 1
        return replace(after.at_most(base * folded.value), convolution=(base, conv))
    if before.chain is not None and before.chain.scale is None and len(ref.shape) == 2:
        chain = before.chain.then(torch.diag(scale))
        state.folded += 1
        method = "eclipse_fast" if chain.activations else None
        return replace(after.at_most(chain.constant, method), chain=chain)
    return after


def _sample_norm(state: Walk, operation: Operation) -> Value:
    arguments = operation.arguments
    ref = arguments["input"]
    if operation.op == "instance_norm" and not arguments["use_input_stats"]:
        norm = batch_norm(arguments["weight"], arguments["running_var"], arguments["eps"])
    else:
        norm = normalization(arguments["weight"], arguments["eps"], operation.dtype)
    kind = {"layer_norm": "LayerNorm", "group_norm": "GroupNorm", "rms_norm": "RMSNorm"}.get(operation.op, "norm")
    return state.of(ref).through(state.layer(operation, kind, norm, ref.shape))


# -- pooling ----------------------------------------------------------------------------------------------------------


def _pool(kind: str, compute: Callable[[tuple[int, ...], int, Operation], Norm]) -> Callable[[Walk, Operation], Value]:
    def rule(state: Walk, operation: Operation) -> Value:
        ref = operation.arguments["self"]
        dims = int(next(character for character in operation.op if character.isdigit()))  # ...2d
        norm = state.layer(operation, f"{kind}{dims}d", compute(ref.shape[-dims:], dims, operation), ref.shape)
        return state.of(ref).through(norm)

    return rule


def _average(sizes: tuple[int, ...], dims: int, operation: Operation) -> Norm:
    a = operation.arguments
    kernel = _each(a["kernel_size"], dims)
    stride = _each(a["stride"] or kernel, dims)
    rest = a["ceil_mode"], a["count_include_pad"], a.get("divisor_override")
    return pooling.average_pool(sizes, kernel, stride, _each(a["padding"], dims), *rest)


def _maximum(sizes: tuple[int, ...], dims: int, operation: Operation) -> Norm:
    a = operation.arguments
    kernel = _each(a["kernel_size"], dims)
    stride = _each(a["stride"] or kernel, dims)
    return pooling.max_pool(
        sizes, kernel, stride, _each(a["padding"], dims), _each(a["dilation"], dims), a["ceil_mode"]
    )


def _adaptive_average(sizes: tuple[int, ...], dims: int, operation: Operation) -> Norm:
    return pooling.adaptive_average_pool(sizes, operation.shape[-dims:])


def _adaptive_maximum(sizes: tuple[int, ...], dims: int, operation: Operation) -> Norm:
    return pooling.adaptive_max_pool(sizes, operation.shape[-dims:])


def _upsample(state: Walk, operation: Operation) -> Value:
    """Interpolation, axis by axis. Its weights sum to 1, so what is constant along the other axes stays so."""
    ref = operation.arguments["input" if "input" in operation.arguments else "self"]
    factors = operation.arguments.get("scale_factors") or [1.0] * len(ref.shape[2:])
    least = [max(1, math.ceil(1 / factor)) for factor in factors]  # a size of which something is left

    def axis_map(axis: int, n: int) -> Axis:
        def run(unit: Tensor) -> Tensor:
            sizes = [*least[:axis], n, *least[axis + 1 :]]
            view = [n if a == axis else 1 for a in range(len(sizes))]
            answer: Tensor = operation.run({ref.name: unit.view(n, 1, *view).expand(n, 1, *sizes)})
            return answer.movedim(axis + 2, 2).flatten(3)[..., 0] if len(sizes) > 1 else answer

        return run

    sizes = ref.shape[2:]
    found = pooling.separable(sizes, [axis_map(a, n) for a, n in enumerate(sizes)], "product of the axes' norms")
    return state.of(ref).through(state.layer(operation, "Upsample", found, ref.shape))


def _getitem(state: Walk, operation: Operation) -> Value:
    """One of several results; each has the constant that the rule gave to all."""
    return state.of(operation.arguments["self"])


def _each(given: Any, dims: int) -> tuple[int, ...]:
    """One number for each axis: a number, or a list of one or `dims`."""
    numbers = list(given) if isinstance(given, Sequence) else [given]
    return tuple(int(n) for n in (numbers * dims if len(numbers) == 1 else numbers))


def _for_dims(name: str, bound: Bound, over: str = "self") -> dict[str, Rule]:
    return rules(bound, " ".join(name.format(dims) for dims in (1, 2, 3)), over)


_UPSAMPLING = ("nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d", "bicubic2d", "trilinear3d")

LAYER_RULES: dict[str, Rule] = {
    **rules(_linear, "linear", "input"),
    **rules(_addmm, "addmm", "mat1"),
    **_for_dims("conv{}d", _convolution, "input"),
    **_for_dims("conv_transpose{}d", _transposed, "input"),
    **rules(_batch_norm, "batch_norm _native_batch_norm_legit_no_training", "input"),
    **rules(_sample_norm, "layer_norm group_norm instance_norm rms_norm", "input"),
    **_for_dims("avg_pool{}d", _pool("AvgPool", _average)),
    **_for_dims("adaptive_avg_pool{}d", _pool("AdaptiveAvgPool", _adaptive_average)),
    **_for_dims("max_pool{}d", _pool("MaxPool", _maximum)),
    **_for_dims("max_pool{}d_with_indices", _pool("MaxPool", _maximum)),
    **_for_dims("adaptive_max_pool{}d", _pool("AdaptiveMaxPool", _adaptive_maximum)),
    **rules(_upsample, " ".join(f"upsample_{kind}" for kind in _UPSAMPLING), "input self"),
    **_for_dims("_upsample_nearest_exact{}d", _upsample, "input self"),
    **rules(_getitem, "getitem"),
}

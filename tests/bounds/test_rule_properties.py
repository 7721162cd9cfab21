"""Every entry of the table of rules, on random constants and random pairs: no pair is ever further apart than it says.

Each tensor among the arguments depends on the input in turn, then all of them: there is a bound that holds, or none.
"""

import itertools
import math
import operator
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from eigenscope.bounds.activations import ACTIVATIONS
from eigenscope.bounds.composition import Walk
from eigenscope.bounds.graph import Graph, Operation, Ref
from eigenscope.bounds.rules import RULES, _apply
from eigenscope.bounds.value import Value

aten = torch.ops.aten
PAIRS = 60


def _t(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=torch.float64)


X, ROW, IMAGE, SIGNAL, VOLUME = _t(2, 3, 4), _t(3, 4), _t(1, 2, 6, 6), _t(1, 2, 7), _t(1, 2, 4, 4, 4)
GAMMA, BETA, MEAN, VAR = _t(2), _t(2, seed=1), _t(2, seed=2), _t(2, seed=3).abs() + 0.1
MASK, COUNTS = torch.tensor([True, False, True, False]), torch.tensor([0, 0, 2, 3, 3])

_GIVEN = {"prelu", "_prelu_kernel", "rrelu", "hardtanh", "clamp", "clamp_min", "clamp_max"}  # arguments, below

_UNBOUNDED = ["exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "square"]

# The operation, its overload, and its arguments in order.
CALLS: list[tuple[str, str, tuple[Any, ...]]] = [
    *((name, "default", (X,)) for name in sorted(ACTIVATIONS - _GIVEN)),
    ("hardtanh", "default", (X, -0.5, 2.0)),
    ("leaky_relu", "default", (X, -1.7)), ("elu", "default", (X, 2.0, 1.5, 0.7)), ("celu", "default", (X, 0.3)),
    ("gelu", "default", (X,)), ("softplus", "default", (X, 3.0, 20.0)), ("softplus", "default", (X, 1.0, 0.5)),
    ("celu", "default", (X, -1.0)), ("elu", "default", (X, 1.0, 1.0, -1.0)), ("softshrink", "default", (X, 0.4)),
    ("prelu", "default", (IMAGE, GAMMA)), ("_prelu_kernel", "default", (IMAGE, _t(1, 2, 1, 1))),
    ("rrelu", "default", (X, 0.1, 0.3, False)), ("rrelu", "default", (X, 0.1, 0.9, True)),
    ("clamp", "default", (X, -0.5, 1.0)), ("clamp", "Tensor", (X, ROW - 1, ROW + 1)), ("clamp", "Tensor", (ROW, X)),
    ("clamp_min", "default", (X, 0.1)), ("clamp_min", "Tensor", (ROW, X)),
    ("clamp_max", "default", (X, 0.1)), ("clamp_max", "Tensor", (X, ROW)),
    ("dropout", "default", (X, 0.5, False)), ("dropout", "default", (X, 0.5, True)),
    ("feature_dropout", "default", (X, 0.5, False)), ("feature_dropout", "default", (X, 0.5, True)),
    ("alpha_dropout", "default", (X, 0.5, True)), ("feature_alpha_dropout", "default", (X, 0.5, False)),
    ("alias", "default", (X,)), ("clone", "default", (X,)), ("contiguous", "default", (X,)),
    ("detach", "default", (X,)), ("_to_copy", "default", (X,)), ("lift_fresh_copy", "default", (X,)),
    ("neg", "default", (X,)), ("to", "dtype", (X, torch.float64)), ("to", "dtype", (X, torch.int64)),
    ("view", "default", (X, [6, 4])), ("_unsafe_view", "default", (X, [3, 8])), ("reshape", "default", (X, [24])),
    ("flatten", "using_ints", (X, 1, 2)), ("unflatten", "int", (X, 2, [2, 2])), ("squeeze", "dim", (X[:1], 0)),
    ("unsqueeze", "default", (X, 1)), ("transpose", "int", (X, 0, 2)), ("permute", "default", (X, [2, 0, 1])),
    ("t", "default", (ROW,)), ("numpy_T", "default", (ROW,)), ("movedim", "int", (X, 0, 1)),
    ("swapaxes", "default", (X, 0, 1)), ("slice", "Tensor", (X, 2, 0, 4, 2)), ("select", "int", (X, 1, 0)),
    ("narrow", "default", (X, 2, 1, 2)), ("roll", "default", (X, [1], [2])), ("flip", "default", (X, [0, 2])),
    ("tril", "default", (X,)), ("triu", "default", (X,)), ("diagonal", "default", (X, 0, 1, 2)),
    ("split", "Tensor", (X, 2, 2)), ("split_with_sizes", "default", (X, [1, 3], 2)), ("chunk", "default", (X, 2, 2)),
    ("unbind", "int", (X, 1)), ("pixel_shuffle", "default", (_t(1, 4, 2, 2), 2)),
    ("pixel_unshuffle", "default", (IMAGE, 2)), ("channel_shuffle", "default", (_t(1, 4, 2, 2), 2)),
    ("expand", "default", (ROW, [5, 3, 4])), ("repeat", "default", (ROW, [2, 1, 3])),
    ("repeat_interleave", "self_int", (ROW, 3, 1)), ("index", "Tensor", (X, [None, None, COUNTS])),
    ("index_select", "default", (X, 2, COUNTS)), ("masked_fill", "Scalar", (X, MASK, -1e9)),
    ("masked_fill", "Tensor", (X, MASK, torch.tensor(-1e9, dtype=torch.float64))),
    ("unfold", "default", (X, 2, 3, 1)), ("im2col", "default", (IMAGE, [3, 3], [1, 1], [1, 1], [1, 1])),
    ("gather", "default", (ROW, 1, torch.zeros(3, 4, dtype=torch.long))),
    ("pad", "default", (X, [1, 2], "constant", 7.0)), ("pad", "default", (X, [2, 1], "replicate")),
    ("constant_pad_nd", "default", (X, [1, -1], 3.0)),
    ("add", "Tensor", (X, ROW)), ("add", "Scalar", (X, 3.0)), ("sub", "Tensor", (ROW, X)),
    ("rsub", "Tensor", (X, ROW)), ("rsub", "Scalar", (X, 2.0, 3.0)), ("mul", "Tensor", (X, ROW)),
    ("mul", "Scalar", (X, -2.5)), ("div", "Tensor", (X, ROW)), ("div", "Scalar", (X, 0.3)),
    ("div", "Tensor_mode", (X, ROW)), ("div", "Scalar_mode", (X, 0.3)),
    ("mm", "default", (ROW, _t(4, 5))), ("matmul", "default", (X, _t(5, 1, 4, 2))), ("matmul", "default", (X, _t(4))),
    ("matmul", "default", (_t(4), _t(3, 4, 2))), ("matmul", "default", (_t(6, 2, 2, 3), X)),
    ("bmm", "default", (X, _t(2, 4, 5))), ("mv", "default", (ROW, _t(4))),
    ("scaled_dot_product_attention", "default", (_t(1, 1, 3, 4), _t(1, 1, 3, 4, seed=1), _t(1, 1, 3, 4, seed=2))),
    *((name, "default", (X,)) for name in _UNBOUNDED),
    *((name, "default", (X,)) for name in ["hardshrink", "sign", "round", "floor", "ceil", "trunc"]),
    ("threshold", "default", (X, 0.1, 5.0)), ("heaviside", "default", (X, torch.ones(1, dtype=torch.float64))),
    ("pow", "Tensor_Scalar", (X, 2)), ("pow", "Tensor_Scalar", (X, 1)), ("pow", "Tensor_Tensor", (X, ROW)),
    ("cat", "default", ([X, _t(2, 3, 2), X * 2], 2)), ("stack", "default", ([X, X], 0)),
    ("concat", "default", ([X, X], 1)), ("maximum", "default", (X, ROW)), ("minimum", "default", (ROW, X)),
    ("where", "self", (MASK, X, ROW)), ("max", "dim", (X, 1)), ("max", "other", (X, ROW)), ("max", "default", (X,)),
    ("min", "dim", (X, 2)), ("min", "other", (ROW, X)), ("amax", "default", (X, [1, 2])), ("amin", "default", (X, [0])),
    ("logsumexp", "default", (X, [1])), ("sort", "default", (X, 1)), ("topk", "default", (X, 2)),
    *(("linalg_vector_norm", "default", (X, p, [1])) for p in (1, 1.5, 2, 3, math.inf, 0.5, -math.inf)),
    ("sum", "dim_IntList", (X, [0, 2])), ("sum", "default", (X,)), ("mean", "dim", (X, [1])),
    ("softmax", "int", (5 * X, 1)), ("_softmax", "default", (X, 2, False)), ("log_softmax", "int", (9 * X, 1)),
    ("_log_softmax", "default", (X, 0, False)),
    ("zeros_like", "default", (X,)), ("ones_like", "default", (X,)), ("full_like", "default", (X, 3.0)),
    ("new_zeros", "default", (X, [3])), ("new_ones", "default", (X, [3])), ("new_full", "default", (X, [3], 2.0)),
    ("linear", "default", (X, _t(5, 4), _t(5))), ("addmm", "default", (_t(5), ROW, _t(4, 5))),
    ("conv1d", "default", (SIGNAL, _t(3, 2, 3), _t(3), [2], [1], [1], 1)),
    ("conv2d", "default", (IMAGE, _t(4, 1, 3, 3), _t(4), [1, 1], [1, 1], [1, 1], 2)),
    ("conv2d", "padding", (IMAGE, _t(3, 2, 2, 3), None, [1, 1], "same")),
    ("conv3d", "default", (VOLUME, _t(2, 2, 2, 2, 2), _t(2))),
    ("conv_transpose1d", "default", (SIGNAL, _t(2, 3, 3), _t(3), [2])),
    ("conv_transpose2d", "input", (IMAGE, _t(2, 3, 3, 3), _t(3), [2, 2], [1, 1], [1, 1])),
    ("conv_transpose3d", "input", (VOLUME, _t(2, 1, 2, 2, 2))),
    ("batch_norm", "default", (IMAGE, GAMMA, BETA, MEAN, VAR, False, 0.1, 1e-5, False)),
    ("batch_norm", "default", (IMAGE, GAMMA, BETA, MEAN, VAR, True, 0.1, 1e-5, False)),
    ("_native_batch_norm_legit_no_training", "default", (IMAGE, GAMMA, BETA, MEAN, VAR, 0.1, 1e-5)),
    ("layer_norm", "default", (X, [4], _t(4), _t(4, seed=1))), ("rms_norm", "default", (X, [4], _t(4), 1e-3)),
    ("group_norm", "default", (IMAGE, 1, GAMMA, BETA)), ("rms_norm", "default", (X, [4])),
    ("instance_norm", "default", (IMAGE, GAMMA, BETA, None, None, True, 0.1, 1e-5, False)),
    ("instance_norm", "default", (IMAGE, GAMMA, BETA, MEAN, VAR, False, 0.1, 1e-5, False)),
    ("avg_pool1d", "default", (SIGNAL, [3], [2], [1])), ("avg_pool2d", "default", (IMAGE, [3, 2], [2, 1], [1, 0])),
    ("avg_pool3d", "default", (VOLUME, [2, 2, 2], [1, 1, 1])), ("adaptive_avg_pool1d", "default", (SIGNAL, [3])),
    ("adaptive_avg_pool2d", "default", (IMAGE, [4, 5])), ("adaptive_avg_pool3d", "default", (VOLUME, [3, 2, 1])),
    ("max_pool1d", "default", (SIGNAL, [3], [1])), ("max_pool2d", "default", (IMAGE, [3, 3], [2, 2], [1, 1])),
    ("max_pool3d", "default", (VOLUME, [2, 2, 2], [1, 1, 1])),
    ("max_pool1d_with_indices", "default", (SIGNAL, [3], [1])),
    ("max_pool2d_with_indices", "default", (IMAGE, [3, 3], [1, 1])),
    ("max_pool3d_with_indices", "default", (VOLUME, [2, 2, 2], [1, 1, 1])),
    ("adaptive_max_pool1d", "default", (SIGNAL, [3])), ("adaptive_max_pool2d", "default", (IMAGE, [4, 5])),
    ("adaptive_max_pool3d", "default", (VOLUME, [3, 2, 1])),
    ("upsample_nearest1d", "default", (SIGNAL, [12])), ("upsample_nearest2d", "default", (IMAGE, [13, 4])),
    ("upsample_nearest3d", "default", (VOLUME, [5, 8, 3])), ("upsample_linear1d", "default", (SIGNAL, [12], False)),
    ("upsample_bilinear2d", "vec", (IMAGE, None, True, [1.7, 0.6])),
    ("upsample_bicubic2d", "default", (IMAGE, [9, 4], False)),
    ("upsample_trilinear3d", "default", (VOLUME, [5, 6, 3], False)),
    ("_upsample_nearest_exact1d", "default", (SIGNAL, [12])),
    ("_upsample_nearest_exact2d", "default", (IMAGE, [13, 4])),
    ("_upsample_nearest_exact3d", "default", (VOLUME, [5, 8, 3])),
]  # fmt: skip


def _named(overload: Any, given: tuple[Any, ...]) -> dict[str, Any]:
    schema = overload._schema.arguments
    named = {a.name: value for a, value in itertools.zip_longest(schema, given, fillvalue=None) if a is not None}
    return {a.name: a.default_value if i >= len(given) else named[a.name] for i, a in enumerate(schema)}


def _operations(name: str, overload: str, given: tuple[Any, ...]) -> Iterator[tuple[Operation, dict[str, Tensor]]]:
    """With each of its floating tensors in turn, and then with all of them, depending on the input."""
    target = getattr(getattr(aten, name), overload)
    arguments = _named(target, given)
    if overload.endswith("_mode"):
        arguments["rounding_mode"] = "floor"
    floating: list[Tensor] = []
    tree_map(lambda leaf: floating.append(leaf) if _floating(leaf) else None, arguments)
    places = range(len(floating))
    for chosen in dict.fromkeys([*((i,) for i in places), tuple(places)]):
        refs = {id(floating[i]): (f"x{i}", floating[i]) for i in chosen}

        def leaf(value: Any, refs: dict[int, tuple[str, Tensor]] = refs) -> Any:
            return Ref(refs[id(value)][0], tuple(value.shape)) if id(value) in refs else value

        values = dict(refs.values())
        operation = Operation("out", name, "", target, tree_map(leaf, arguments), (), torch.float64)
        answer = operation.run(values)
        if isinstance(answer, Tensor):
            operation = Operation("out", name, "", target, operation.arguments, tuple(answer.shape), answer.dtype)
        yield operation, values


def _floating(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _bound(operation: Operation, values: dict[str, Tensor]) -> Value:
    first = next(iter(values))
    state = Walk(Graph((operation,), Ref(first, ()), "out", values[first]))
    state.values = {name: Value(1.0, 1.0) for name in values}
    return _apply(state, operation)


def _flat(answer: Any) -> Tensor:
    parts = answer if isinstance(answer, tuple | list) else [answer]
    return torch.cat([part.flatten() for part in parts if _floating(part)])


@pytest.mark.parametrize(("name", "overload", "given"), CALLS, ids=[f"{c[0]}-{i}" for i, c in enumerate(CALLS)])
def test_no_pair_is_further_apart_than_the_rule_says(name: str, overload: str, given: tuple[Any, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    for operation, values in _operations(name, overload, given):
        value = _bound(operation, values)
        if value.bound is None:
            assert value.reason, operation.references
            continue
        single = isinstance(operation.run(values), Tensor)
        for k in range(PAIRS):
            near = (1e-4, 1e-2, 1.0, 10.0)[k % 4]
            scale = (1e-3, 1.0, 5.0)[k % 3]
            one = {n: scale * torch.randn(v.shape, generator=generator).double() for n, v in values.items()}
            other = {n: v + near * torch.randn(v.shape, generator=generator).double() for n, v in one.items()}
            before, after = operation.run(one), operation.run(other)
            moved = math.sqrt(sum(float((one[n] - other[n]).square().sum()) for n in values))
            parts = [(before, after)] if single else list(zip(before, after, strict=True))
            for a, b in parts:  # each of several results has the constant by itself
                if _floating(a):
                    assert float((_flat(a) - _flat(b)).norm()) <= value.bound * moved * (1 + 1e-9) + 1e-12


BOUNDED_BY = {"add", "mul", "linear", "addmm", "conv2d", "clamp", "matmul", "where", "sort", "batch_norm", "avg_pool2d"}


def test_every_rule_is_tried_and_the_common_ones_do_bound() -> None:
    assert {name for name, _, _ in CALLS} | {"getitem"} == set(RULES)
    bounded = {
        name for name, kind, given in CALLS if any(_bound(*case).bound for case in _operations(name, kind, given))
    }
    assert bounded >= BOUNDED_BY


def test_one_of_several_results_has_the_constant_of_all() -> None:
    operation = Operation(
        "out", "getitem", "", operator.getitem, {"self": Ref("x", ()), "index": 0}, (3,), torch.float32
    )
    state = Walk(Graph((operation,), Ref("x", ()), "out", X))
    state.values = {"x": Value(2.0, 3.0)}
    assert _apply(state, operation).bound == 2.0

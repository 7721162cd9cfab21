"""How each of ATen's operations changes a Lipschitz constant. One rule a kind; a new operation is one entry here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from eigenscope.bounds.activations import ACTIVATIONS, slopes
from eigenscope.bounds.composition import Walk
from eigenscope.bounds.graph import Graph, Operation, Ref
from eigenscope.bounds.layer_rules import LAYER_RULES
from eigenscope.bounds.norms import Norm, outward
from eigenscope.bounds.value import Padding, Value, added, stacked, unknown

Rule = Callable[[Walk, Operation], Value]

_PRODUCT = "a product of two tensors that both depend on the input has no constant"


@torch.no_grad()
def walk(graph: Graph) -> Walk:
    """Go through a graph; the output's constants are in `values[graph.output]`."""
    state = Walk(graph)
    state.values[graph.input.name] = Value(1.0, 1.0)
    for operation in graph.operations:
        state.values[operation.name] = _apply(state, operation)
    return state


def _apply(state: Walk, operation: Operation) -> Value:
    rule = _activation if operation.op in ACTIVATIONS else _RULES.get(operation.op)
    if not operation.dtype.is_floating_point:  # an index, a comparison, a rounded number
        rule = _jump
    value = (
        rule(state, operation) if rule else unknown(f"{_where(operation)}: no rule for the operation {operation.op}")
    )
    known = [state.of(leaf) for leaf in _references(operation)]
    if value.bound is None:  # the first thing that went wrong is the reason
        reason = next((v.reason for v in known if v.bound is None), value.reason)
        return unknown(reason or f"{_where(operation)}: the bound is infinite")
    return value


def _references(operation: Operation) -> list[Ref]:
    flat: list[Any] = []
    for argument in operation.arguments.values():
        flat += argument if isinstance(argument, list | tuple) else [argument]
    return [leaf for leaf in flat if isinstance(leaf, Ref)]


def _where(operation: Operation) -> str:
    return f"layer {operation.layer!r}" if operation.layer else "the model itself"


def _no_bound(state: Walk, operation: Operation, why: str) -> Value:
    sentence = f"{_where(operation)}: {why}"
    state.no_global_bound = state.no_global_bound or sentence
    return unknown(sentence)


# -- what only moves entries, takes some, or repeats them -----------------------------------------------------------


def _same(state: Walk, operation: Operation) -> Value:
    """The tensor itself."""
    return state.of(operation.arguments["self" if "self" in operation.arguments else "input"])


def _subset(state: Walk, operation: Operation) -> Value:
    """Each entry at most once."""
    value = state.of(operation.arguments["self"])
    return Value(value.bound, value.product, value.reason, method=value.method)


def _reshape(state: Walk, operation: Operation) -> Value:
    """A new shape; dense layers may go on where the last axis is kept."""
    source = operation.arguments["self"]
    value = _subset(state, operation)
    if source.shape and operation.shape and source.shape[-1] == operation.shape[-1]:
        return _same(state, operation)
    return value


def _selection(state: Walk, operation: Operation) -> Value:
    """Entries moved, dropped and repeated: √(how often the most used one is there).

    Found by doing it to the entries' own numbers.
    """
    ref = operation.arguments["self"]
    numbers = torch.arange(1, math.prod(ref.shape) + 1, dtype=torch.float64).view(ref.shape)
    changed = {name: 0.0 for name in ("value",) if isinstance(operation.arguments.get(name), int | float)}
    placed = operation.run({ref.name: numbers}, **changed)
    counts = torch.bincount(placed.flatten().long())[1:]
    repeats = float(counts.max()) if len(counts) else 0.0
    return state.of(ref).through(outward(math.sqrt(repeats)) if repeats != 1 else 1.0)


def _pad(state: Walk, operation: Operation) -> Value:
    ref, amounts = operation.arguments["self"], list(operation.arguments["pad"])
    after = _selection(state, operation)
    axes, mode = len(amounts) // 2, operation.arguments.get("mode", "constant")
    if len(ref.shape) < axes + 2 or min(amounts, default=0) < 0:
        return after
    pairs = tuple((amounts[2 * i], amounts[2 * i + 1]) for i in reversed(range(axes)))
    padding = Padding(tuple(ref.shape[-axes:]), pairs, mode)
    return Value(after.bound, after.product, after.reason, padded=(state.of(ref), padding), method=after.method)


# -- sums, products, joins ----------------------------------------------------------------------------------------


def _add(state: Walk, operation: Operation) -> Value:
    """a + α·b: constants add up; a constant summand changes nothing."""
    parts = []
    for name in ("self", "other"):
        argument = operation.arguments[name]
        if isinstance(argument, Ref):
            factor = _expansion(argument, operation)
            factor *= abs(float(operation.arguments.get("alpha", 1))) if name == "other" else 1.0
            value = state.of(argument)
            parts.append(value if factor == 1.0 else value.through(factor))
    return parts[0] if len(parts) == 1 else added(parts)


def _reversed_sub(state: Walk, operation: Operation) -> Value:
    """b − α·a."""
    arguments = {**operation.arguments, "self": operation.arguments["other"], "other": operation.arguments["self"]}
    return _add(state, Operation(**{**vars(operation), "arguments": arguments}))


def _multiply(state: Walk, operation: Operation) -> Value:
    left, right = operation.arguments["self"], operation.arguments["other"]
    if isinstance(left, Ref) and isinstance(right, Ref):
        return _no_bound(state, operation, _PRODUCT)
    ref, factor = (left, right) if isinstance(left, Ref) else (right, left)
    return state.of(ref).through(_largest(factor) * _expansion(ref, operation))


def _divide(state: Walk, operation: Operation) -> Value:
    numerator, divisor = operation.arguments["self"], operation.arguments["other"]
    if isinstance(divisor, Ref):
        return _no_bound(state, operation, "a division by a tensor that depends on the input has no constant")
    gain = _largest(1 / torch.as_tensor(divisor, dtype=torch.float64))
    return state.of(numerator).through(gain * _expansion(numerator, operation))


def _matrix_product(state: Walk, operation: Operation) -> Value:
    """x @ W or W @ x for a constant W; `bmm` of a matrix for each x."""
    arguments = operation.arguments
    left, right = arguments["self"], arguments.get("mat2", arguments.get("other"))
    if isinstance(left, Ref) and isinstance(right, Ref):
        return _no_bound(state, operation, _PRODUCT)
    ref, weight = (left, right) if isinstance(left, Ref) else (right, left)
    if weight.ndim != 2 and weight.shape[:-2] != ref.shape[:-2]:
        return unknown(f"{_where(operation)}: no rule for {operation.op} with broadcast matrices")
    norms = [state.dense(matrix) for matrix in weight.reshape(-1, *weight.shape[-2:])]
    norm = state.layer(operation, operation.op, max(norms, key=lambda n: n.value), ref.shape)
    return state.of(ref).through(norm)


def _attention(state: Walk, operation: Operation) -> Value:
    """Named before any other operation without a constant: it is the one that certainly has none."""
    sentence = f"{_where(operation)}: dot-product attention is not Lipschitz (Kim, Papamakarios & Mnih 2021)"
    state.layer(operation, "attention", Norm(math.inf, "no constant holds everywhere", True), operation.shape)
    if "attention" not in (state.no_global_bound or ""):
        state.no_global_bound = sentence
    return unknown(sentence)


def _unbounded(state: Walk, operation: Operation) -> Value:
    return _no_bound(state, operation, f"{operation.op} has no constant: its slope has no limit")


def _jump(state: Walk, operation: Operation) -> Value:
    return _no_bound(state, operation, f"{operation.op} has no constant: it jumps")


def _power(state: Walk, operation: Operation) -> Value:
    if operation.arguments.get("exponent") == 1:
        return _same(state, operation)
    return _unbounded(state, operation)


def _concatenate(state: Walk, operation: Operation) -> Value:
    """Constants in the list change nothing."""
    return stacked([state.of(part) for part in operation.arguments["tensors"] if isinstance(part, Ref)])


def _larger(state: Walk, operation: Operation) -> Value:
    """max(a, b) entry by entry is 1-Lipschitz in the pair."""
    refs = [operation.arguments[name] for name in ("self", "other") if isinstance(operation.arguments[name], Ref)]
    return stacked([state.of(ref).through(_expansion(ref, operation)) for ref in refs])


def _where_rule(state: Walk, operation: Operation) -> Value:
    """Some entries of one, the others of the other."""
    if isinstance(operation.arguments["condition"], Ref):
        return _jump(state, operation)
    return _larger(state, operation)


# -- reductions and activations -----------------------------------------------------------------------------------


def _sum(state: Walk, operation: Operation) -> Value:
    """n entries into one: √n."""
    ref = operation.arguments["self"]
    return state.of(ref).through(math.sqrt(math.prod(ref.shape) / max(math.prod(operation.shape), 1)))


def _mean(state: Walk, operation: Operation) -> Value:
    ref = operation.arguments["self"]
    return state.of(ref).through(math.sqrt(max(math.prod(operation.shape), 1) / math.prod(ref.shape)))


def _softmax(state: Walk, operation: Operation) -> Value:
    """J = diag(p) − ppᵀ; by Gershgorin ‖J‖ ≤ max 2pᵢ(1 − pᵢ) ≤ ½."""
    norm = state.layer(operation, "softmax", Norm(0.5, "½ (Gershgorin)", exact=True), operation.shape)
    return state.of(operation.arguments["self"]).through(norm)


def _log_softmax(state: Walk, operation: Operation) -> Value:
    """J = I − 1pᵀ, an oblique projection: its norm is that of 1pᵀ, √n·‖p‖ ≤ √n."""
    n = operation.shape[operation.arguments["dim"]]
    norm = state.layer(operation, "log_softmax", Norm(math.sqrt(n), "√classes", exact=True), operation.shape)
    return state.of(operation.arguments["self"]).through(norm)


def _activation(state: Walk, operation: Operation) -> Value:
    found = slopes(operation.op, operation.arguments)
    ref = operation.arguments["self"]
    method = f"slopes in [{found.low:.4g}, {found.high:.4g}]"
    norm = state.layer(operation, operation.op, Norm(found.constant, method, exact=True), ref.shape)
    before = state.of(ref)
    after = before.through(norm)
    chain = before.chain.activated(found.high) if before.chain and found.low >= 0 else None
    return Value(after.bound, after.product, after.reason, chain=chain, method=after.method)


def _expansion(ref: Ref, operation: Operation) -> float:
    """√(how often broadcasting repeats each entry)."""
    return math.sqrt(math.prod(operation.shape) / max(math.prod(ref.shape), 1))


def _largest(factor: Any) -> float:
    return float(torch.as_tensor(factor).double().abs().max())


def _each(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


_RULES: dict[str, Rule] = {
    **LAYER_RULES,
    **_each(_same, "alias clone contiguous detach dropout feature_dropout alpha_dropout feature_alpha_dropout"),
    **_each(_same, "to _to_copy lift_fresh_copy neg"),
    **_each(_reshape, "view _unsafe_view reshape flatten unflatten squeeze unsqueeze"),
    **_each(_subset, "transpose permute t numpy_T movedim swapaxes slice select narrow roll flip tril triu diagonal"),
    **_each(_subset, "split split_with_sizes chunk unbind pixel_shuffle pixel_unshuffle channel_shuffle"),
    **_each(_selection, "expand repeat repeat_interleave index index_select masked_fill unfold im2col gather"),
    **_each(_pad, "pad constant_pad_nd"),
    **_each(_add, "add sub"),
    "rsub": _reversed_sub,
    "mul": _multiply,
    "div": _divide,
    **_each(_matrix_product, "mm matmul bmm"),
    "scaled_dot_product_attention": _attention,
    **_each(_unbounded, "exp expm1 log log1p log2 log10 sqrt rsqrt reciprocal square"),
    **_each(_jump, "hardshrink sign round floor ceil trunc threshold heaviside"),
    "pow": _power,
    **_each(_concatenate, "cat stack concat"),
    **_each(_larger, "maximum minimum"),
    "where": _where_rule,
    "sum": _sum,
    "mean": _mean,
    **_each(_subset, "amax amin logsumexp"),
    **_each(_softmax, "softmax _softmax"),
    **_each(_log_softmax, "log_softmax _log_softmax"),
}

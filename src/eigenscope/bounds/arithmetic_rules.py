"""The rules for sums, products, joins and reductions."""

from __future__ import annotations

import math
from typing import Any

import torch

from eigenscope.bounds.composition import Walk
from eigenscope.bounds.graph import Operation, Ref
from eigenscope.bounds.norms import Norm
from eigenscope.bounds.rule import Rule, expansion, jump, no_rule, rules
from eigenscope.bounds.shape_rules import same, subset
from eigenscope.bounds.value import Value, added, stacked, unknown

_PRODUCT = "a product of two tensors that both depend on the input has no constant by itself"


def _add(state: Walk, operation: Operation) -> Value:
    """a + α·b: constants add up; a constant summand changes nothing."""
    parts = []
    for name in ("self", "other"):
        argument = operation.arguments[name]
        if isinstance(argument, Ref):
            scaled = "other" if operation.op != "rsub" else "self"  # rsub: b − α·a
            factor = expansion(argument, operation)
            factor *= abs(float(operation.arguments.get("alpha", 1))) if name == scaled else 1.0
            value = state.of(argument)
            parts.append(value if factor == 1.0 else value.through(factor))
    return parts[0] if len(parts) == 1 else added(parts)


def _multiply(state: Walk, operation: Operation) -> Value:
    left, right = operation.arguments["self"], operation.arguments["other"]
    if isinstance(left, Ref) and isinstance(right, Ref):
        return unknown(f"{operation.where}: {_PRODUCT}")
    ref, factor = (left, right) if isinstance(left, Ref) else (right, left)
    return state.of(ref).through(_largest(factor) * expansion(ref, operation))


def _divide(state: Walk, operation: Operation) -> Value:
    numerator, divisor = operation.arguments["self"], operation.arguments["other"]
    if operation.arguments.get("rounding_mode") is not None:
        return jump(state, operation)
    if isinstance(divisor, Ref):
        return unknown(f"{operation.where}: a division by a tensor that depends on the input has no constant by itself")
    gain = _largest(1 / torch.as_tensor(divisor, dtype=torch.float64))
    return state.of(numerator).through(gain * expansion(numerator, operation))


def _matrix_product(state: Walk, operation: Operation) -> Value:
    """x @ W or W @ x for a constant W. Where batches broadcast, each x meets several of the matrices: √(how many)."""
    arguments = operation.arguments
    left, right = arguments["self"], next(arguments[name] for name in ("mat2", "other", "vec") if name in arguments)
    if isinstance(left, Ref) and isinstance(right, Ref):
        return unknown(f"{operation.where}: {_PRODUCT}")
    ref, weight = (left, right) if isinstance(left, Ref) else (right, left)
    batch = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])  # type: ignore[no-untyped-call]
    repeats = math.prod(batch) / max(math.prod(ref.shape[:-2]), 1)
    matrices = weight.reshape(-1, *weight.shape[-2:]) if weight.ndim > 1 else weight.view(1, 1, -1)
    norm = max((state.dense(matrix) for matrix in matrices), key=lambda n: n.value)
    state.layer(operation, operation.op, norm, ref.shape)
    return state.of(ref).through(norm.times(math.sqrt(repeats)))


def _attention(state: Walk, operation: Operation) -> Value:
    """Named before any other operation without a constant: it is the one that certainly has none."""
    state.layer(operation, "attention", Norm(math.inf, "no constant holds everywhere", True), operation.shape)
    if not all(isinstance(operation.arguments[name], Ref) for name in ("query", "key", "value")):
        return no_rule(operation, "attention to keys or values that are constant")
    sentence = f"{operation.where}: dot-product attention is not Lipschitz (Kim, Papamakarios & Mnih 2021)"
    return unknown(sentence, proven=True)


def _unbounded(state: Walk, operation: Operation) -> Value:
    return unknown(f"{operation.where}: {operation.op} has no constant: its slope has no limit")


def _power(state: Walk, operation: Operation) -> Value:
    if isinstance(exponent := operation.arguments["exponent"], int | float) and exponent == 1:
        return same(state, operation)
    return _unbounded(state, operation)


def _concatenate(state: Walk, operation: Operation) -> Value:
    """Constants in the list change nothing."""
    return stacked([state.of(part) for part in operation.arguments["tensors"] if isinstance(part, Ref)])


def larger(state: Walk, operation: Operation) -> Value:
    """max(a, b), or a or b by a constant condition, entry by entry: 1-Lipschitz in the pair."""
    refs = [ref for held in operation.references.values() for ref in held]
    return stacked([state.of(ref).through(expansion(ref, operation)) for ref in refs])


def _extreme(state: Walk, operation: Operation) -> Value:
    """`max` and `min`: of two tensors, or along an axis."""
    return larger(state, operation) if "other" in operation.arguments else subset(state, operation)


def _constant(state: Walk, operation: Operation) -> Value:
    """Only the shape of its argument counts."""
    return Value(0.0, 0.0)


def _sum(state: Walk, operation: Operation) -> Value:
    """n entries into one: √n."""
    ref = operation.arguments["self"]
    return state.of(ref).through(math.sqrt(math.prod(ref.shape) / max(math.prod(operation.shape), 1)))


def _mean(state: Walk, operation: Operation) -> Value:
    ref = operation.arguments["self"]
    return state.of(ref).through(math.sqrt(max(math.prod(operation.shape), 1) / math.prod(ref.shape)))


def _vector_norm(state: Walk, operation: Operation) -> Value:
    """‖x‖_p of n entries: ‖x‖_p ≤ ‖x‖₂ for p ≥ 2, and ≤ n^(1/p − ½)·‖x‖₂ for 1 ≤ p < 2."""
    ref, p = operation.arguments["self"], float(operation.arguments.get("ord", 2))
    if not p >= 1:
        return no_rule(operation, f"a norm of order {p:g}")
    entries = math.prod(ref.shape) / max(math.prod(operation.shape), 1)
    return state.of(ref).through(entries ** max(1 / p - 0.5, 0.0))


def _softmax(state: Walk, operation: Operation) -> Value:
    """J = diag(p) − ppᵀ; by Gershgorin ‖J‖ ≤ max 2pᵢ(1 − pᵢ) ≤ ½."""
    norm = state.layer(operation, "softmax", Norm(0.5, "½ (Gershgorin)", exact=True), operation.shape)
    return state.of(operation.arguments["self"]).through(norm)


def _log_softmax(state: Walk, operation: Operation) -> Value:
    """J = I − 1pᵀ, an oblique projection: its norm is that of 1pᵀ, √n·‖p‖ ≤ √n."""
    n = operation.shape[operation.arguments["dim"]]
    norm = state.layer(operation, "log_softmax", Norm(math.sqrt(n), "√classes", exact=True), operation.shape)
    return state.of(operation.arguments["self"]).through(norm)


def _largest(factor: Any) -> float:
    return float(torch.as_tensor(factor).double().abs().max())


ARITHMETIC_RULES: dict[str, Rule] = {
    **rules(_add, "add sub rsub", "self other"),
    **rules(_multiply, "mul", "self other"),
    **rules(_divide, "div", "self other"),
    **rules(_matrix_product, "mm matmul bmm mv", "self mat2 other vec"),
    **rules(_attention, "scaled_dot_product_attention", "query key value"),
    **rules(_unbounded, "exp expm1 log log1p log2 log10 sqrt rsqrt reciprocal square"),
    **rules(jump, "hardshrink sign round floor ceil trunc threshold heaviside"),
    **rules(_power, "pow"),
    **rules(_concatenate, "cat stack concat", "tensors"),
    **rules(larger, "maximum minimum where", "self other"),
    **rules(_extreme, "max min", "self other"),
    **rules(subset, "amax amin logsumexp sort topk"),
    **rules(_constant, "zeros_like ones_like full_like new_zeros new_ones new_full"),
    **rules(_vector_norm, "linalg_vector_norm"),
    **rules(_sum, "sum"),
    **rules(_mean, "mean"),
    **rules(_softmax, "softmax _softmax"),
    **rules(_log_softmax, "log_softmax _log_softmax"),
}

"""How each of ATen's operations changes a Lipschitz constant. One rule a kind; a new operation is one entry here.

What a rule does not say of an argument, it does not say: an operation with another argument that depends on the input,
and a rule that fails, end the bound there.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from eigenscope.bounds.activations import ACTIVATIONS, slopes
from eigenscope.bounds.arithmetic_rules import ARITHMETIC_RULES, larger
from eigenscope.bounds.composition import Shared, Walk
from eigenscope.bounds.graph import Graph, Operation
from eigenscope.bounds.layer_rules import LAYER_RULES
from eigenscope.bounds.norms import Norm
from eigenscope.bounds.rule import Rule, jump, no_rule, rules
from eigenscope.bounds.shape_rules import SHAPE_RULES
from eigenscope.bounds.value import Value, ended, unknown


@torch.no_grad()
def walk(graph: Graph, shared: Shared | None = None, deadline: float | None = None) -> Walk:
    """Go through a graph; the output's constants are in `values[graph.output]`.

    `shared`: with other graphs of the model. `deadline`: see `Walk`.
    """
    state = Walk(graph, shared=shared or Shared(), deadline=deadline)
    state.values[graph.input.name] = Value(1.0, 1.0)
    for operation in graph.operations:
        state.values[operation.name] = _apply(state, operation)
    return state


def _apply(state: Walk, operation: Operation) -> Value:
    """What the rule says; behind something unknown the first thing that went wrong stays the reason."""
    value = _by_rule(state, operation)
    end = ended([state.of(ref) for held in operation.references.values() for ref in held])
    if end is not None:
        return value if value.proven and not end.proven else unknown(end.reason or "", proven=end.proven)
    if value.bound is None and value.reason is None:
        return unknown(f"{operation.where}: the bound is infinite")
    return value


def _by_rule(state: Walk, operation: Operation) -> Value:
    rule = RULES.get(operation.op)
    if not operation.dtype.is_floating_point and not operation.dtype.is_complex:  # an index, a comparison
        return jump(state, operation)
    if rule is None or operation.dtype.is_complex:
        return no_rule(operation, f"the operation {operation.op}")
    others = [name for name in operation.references if name not in rule.over]
    if others:
        return no_rule(operation, f"{operation.op} where its {' and '.join(others)} depends on the input")
    try:
        return rule.bound(state, operation.on_cpu(state.shared.copies))
    except Exception:  # a use that the rule's author did not think of: it ends the bound, not the measurement
        return no_rule(operation, f"{operation.op} of these arguments")


def _activation(state: Walk, operation: Operation) -> Value:
    if any(isinstance(operation.arguments.get(name), Tensor) for name in ("min", "max")):
        return larger(state, operation)  # the bounds may be more than the tensor, and are no activation then
    found = slopes(operation.op, operation.arguments)
    if found is None:
        return no_rule(operation, f"{operation.op} with these settings: it jumps or is too steep")
    ref = operation.arguments["self"]
    method = f"slopes in [{found.low:.4g}, {found.high:.4g}]"
    norm = state.layer(operation, operation.op, Norm(found.constant, method, exact=True), ref.shape)
    before = state.of(ref)
    chain = before.chain.activated(found.high) if before.chain and found.low >= 0 else None
    return replace(before.through(norm), chain=chain)


def _clamp(state: Walk, operation: Operation) -> Value:
    """min(max(x, a), b) is 1-Lipschitz in the three; with constant numbers an activation."""
    between = set(operation.references) - {"self"}
    return larger(state, operation) if between else _activation(state, operation)


RULES: dict[str, Rule] = {
    **rules(_activation, " ".join(sorted(ACTIVATIONS))),
    **rules(_clamp, "clamp clamp_min clamp_max", "self min max"),
    **SHAPE_RULES,
    **ARITHMETIC_RULES,
    **LAYER_RULES,
}

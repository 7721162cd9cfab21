"""The rules for what only moves entries, takes some, or repeats them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from eigenscope.bounds.composition import Walk
from eigenscope.bounds.graph import Operation
from eigenscope.bounds.norms import outward
from eigenscope.bounds.rule import Rule, no_rule, rules
from eigenscope.bounds.value import Padding, Value


def same(state: Walk, operation: Operation) -> Value:
    """The tensor itself, or its negative."""
    return state.of(operation.arguments["self" if "self" in operation.arguments else "input"])


def subset(state: Walk, operation: Operation) -> Value:
    """Each entry at most once."""
    value = state.of(operation.arguments["self"])
    return Value(value.bound, value.product, value.reason, method=value.method, proven=value.proven)


def _dropout(state: Walk, operation: Operation) -> Value:
    if operation.arguments.get("train"):
        return no_rule(operation, "dropout that is on in evaluation mode: its answers are random")
    return same(state, operation)


def _reshape(state: Walk, operation: Operation) -> Value:
    """A new shape; dense layers may go on where the last axis is kept, what works on other axes may not."""
    source = operation.arguments["self"]
    value = subset(state, operation)
    if source.shape and operation.shape and source.shape[-1] == operation.shape[-1]:
        return Value(**{**vars(value), "chain": state.of(source).chain})
    return value


def _selection(state: Walk, operation: Operation) -> Value:
    """Entries moved, dropped and repeated: √(how often the most used one is there).

    Found by doing it to the entries' own numbers.
    """
    ref = operation.arguments["self"]
    numbers = torch.arange(1, math.prod(ref.shape) + 1, dtype=torch.float64).view(ref.shape)
    filled = operation.arguments.get("value")
    zero = torch.zeros((), dtype=torch.float64) if isinstance(filled, Tensor) else 0.0
    placed = operation.run({ref.name: numbers}, **({} if filled is None else {"value": zero}))
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
    return Value(**{**vars(after), "padded": (state.of(ref), padding)})


SHAPE_RULES: dict[str, Rule] = {
    **rules(_dropout, "dropout feature_dropout alpha_dropout feature_alpha_dropout", "input"),
    **rules(same, "alias clone contiguous detach to _to_copy lift_fresh_copy neg"),
    **rules(_reshape, "view _unsafe_view reshape flatten unflatten squeeze unsqueeze"),
    **rules(subset, "transpose permute t numpy_T movedim swapaxes slice select narrow roll flip tril triu diagonal"),
    **rules(subset, "split split_with_sizes chunk unbind pixel_shuffle pixel_unshuffle channel_shuffle"),
    **rules(_selection, "expand repeat repeat_interleave index index_select masked_fill unfold im2col gather"),
    **rules(_pad, "pad constant_pad_nd"),
}

"""What a rule is: how one kind of operation changes a Lipschitz constant, and over which of its arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from eigenscope.bounds.composition import Walk
from eigenscope.bounds.graph import Operation, Ref
from eigenscope.bounds.value import Value, unknown

Bound = Callable[[Walk, Operation], Value]


@dataclass(frozen=True)
class Rule:
    """`bound` holds where nothing but the arguments named in `over` depends on the input."""

    bound: Bound
    over: frozenset[str]


def rules(bound: Bound, names: str, over: str = "self") -> dict[str, Rule]:
    """One rule for several operations; `over` and `names` are lists of words."""
    return dict.fromkeys(names.split(), Rule(bound, frozenset(over.split())))


def no_rule(operation: Operation, what: str) -> Value:
    """Nothing is claimed of an operation in some use of it."""
    return unknown(f"{operation.where}: no rule for {what}")


def jump(state: Walk, operation: Operation) -> Value:
    """Of an operation that by itself has no constant; with others around it the network may have one."""
    return unknown(f"{operation.where}: {operation.op} has no constant: it jumps")


def expansion(ref: Ref, operation: Operation) -> float:
    """√(how often broadcasting repeats each entry)."""
    return math.sqrt(math.prod(operation.shape) / max(math.prod(ref.shape), 1))

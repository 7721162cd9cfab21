"""Fold a network's calls to a readable depth: the blocks that data passes one after the other.

A stack (two calls or more of one class, each with modules inside, the later reading what the earlier wrote) is
opened, and so is everything around it; what holds no stack stays whole. So a GPT folds into its transformer blocks,
a ResNet into its residual blocks, and a plain chain, which holds none, into its layers, each with the activation and
normalization that follow it. A block has the name of the first layer in it that has weights.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from eigenscope.errors import InputError
from eigenscope.flow.trace import Call, Trace
from eigenscope.operators.graph import differentiable_from

_FEW = 4  # blocks: with fewer, and no stack among them, those that hold modules are opened


@dataclass(frozen=True)
class Block:
    """Calls in a row that are looked at as one."""

    calls: tuple[Call, ...]

    @property
    def name(self) -> str:
        return next(filter(_weighs, self.calls), self.calls[0]).title

    @property
    def about(self) -> str:
        return " + ".join(type(call.module).__name__ for call in self.calls)


def blocks_of(trace: Trace, chosen: Sequence[str] | None = None) -> list[Block]:
    """The blocks in the order in which data reaches them, or those that the user names (globs allowed)."""
    if chosen is not None:
        return _named(trace, chosen)
    opens = [_opens(root) for root in trace.roots]
    calls = [part for root, wide in zip(trace.roots, opens, strict=True) for part in _opened(root, wide)]
    while not any(opens) and len(calls) < _FEW and any(call.children for call in calls):
        calls = [part for call in calls for part in (_flat(call) if call.children else [call])]
    return list(_grouped(calls))


def _named(trace: Trace, chosen: Sequence[str]) -> list[Block]:
    calls = list(trace.calls())
    names = list(dict.fromkeys(call.name for call in calls))
    for pattern in chosen:
        if not fnmatch.filter(names, pattern):
            close = difflib.get_close_matches(pattern, names, 3) or names[:8]
            raise InputError(f"no module named {pattern!r} runs on this batch; there are {', '.join(close)}")
    return [Block((call,)) for call in calls if any(fnmatch.fnmatchcase(call.name, p) for p in chosen)]


def _opens(call: Call) -> bool:
    """Whether a stack lies somewhere within."""
    inside = [child for child in _flat(call) if child.children]
    return any(_follows(a, b) for a, b in pairwise(inside)) or any(_opens(child) for child in inside)


def _follows(first: Call, second: Call) -> bool:
    return type(first.module) is type(second.module) and _reads(second, first)


def _reads(later: Call, earlier: Call) -> bool:
    """Whether what one call wrote leads to what the other takes in."""
    return any(differentiable_from(i.place.edge, o.place.edge) for i in later.inputs for o in earlier.outputs)


def _flat(call: Call) -> Iterator[Call]:
    """The calls that a call makes, those of plain sequences in their place."""
    for child in call.children:
        if isinstance(child.module, nn.Sequential) and child.children:
            yield from _flat(child)
        else:
            yield child


def _opened(call: Call, opens: bool) -> Iterator[Call]:
    if not opens:
        yield call
        return
    for child in _flat(call):
        yield from _opened(child, _opens(child))


def _grouped(calls: Sequence[Call]) -> Iterator[Block]:
    """A layer takes the reshapes before it and the activations and normalizations behind it into its block."""
    group: list[Call] = []
    for call in calls:
        if group and not _joins(call, group):
            yield Block(tuple(group))
            group = []
        group.append(call)
    if group:
        yield Block(tuple(group))


def _joins(call: Call, group: Sequence[Call]) -> bool:
    if call.children or call.integers or any(before.children for before in group):
        return False
    if _weighs(call) and any(map(_weighs, group)):
        return False
    if not (call.inputs and group[-1].outputs):
        return True
    return _reads_alone(call, group[-1]) if _normalizes(call) else _reads(call, group[-1])


def _reads_alone(later: Call, earlier: Call) -> bool:
    """Whether nothing else joins on the way: a normalization behind a sum begins the next branch."""
    ends = [(output.place.edge.node, output.place.edge.output_nr) for output in earlier.outputs]
    node, number = later.inputs[0].place.edge[:2]
    while (node, number) not in ends:
        before = [(other, index) for other, index in node.next_functions if other is not None]
        if len(before) != 1:
            return False
        node, number = before[0]
    return True


def _normalizes(call: Call) -> bool:
    return "Norm" in type(call.module).__name__


def _weighs(call: Call) -> bool:
    """Whether a call multiplies by weights, so that a block begins with it."""
    return not _normalizes(call) and any(True for _ in call.module.parameters())

"""Fold a network's calls to a readable depth: the blocks that data passes one after the other.

A stack (two calls or more of one class, each with modules inside, the later reading what the earlier wrote) is
opened, and so is everything around it; what holds no stack stays whole. So a GPT folds into its transformer blocks,
a ResNet into its residual blocks, and a plain chain, which holds none, into its layers, each with the activation and
normalization that follow it.
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

_FEW = 4  # blocks: with fewer, those that hold modules are opened once more
_NORMS = (
    nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.instancenorm._InstanceNorm,
)  # fmt: skip


@dataclass(frozen=True)
class Block:
    """Calls in a row that are looked at as one."""

    calls: tuple[Call, ...]

    @property
    def name(self) -> str:
        return self.calls[0].title

    @property
    def about(self) -> str:
        return " + ".join(type(call.module).__name__ for call in self.calls)


def blocks_of(trace: Trace, chosen: Sequence[str] | None = None) -> list[Block]:
    """The blocks in the order in which data reaches them, or those that the user names (globs allowed)."""
    if chosen is not None:
        return _named(trace, chosen)
    calls = [part for root in trace.roots for part in _opened(root, _opens(root))]
    while len(calls) < _FEW and any(call.children for call in calls):
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
    alike = type(first.module) is type(second.module)
    return alike and any(differentiable_from(i.place.edge, o.place.edge) for i in second.inputs for o in first.outputs)


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
        leaves = not call.children and not any(before.children for before in group)
        if group and not (leaves and not (_weighs(call) and any(map(_weighs, group)))):
            yield Block(tuple(group))
            group = []
        group.append(call)
    if group:
        yield Block(tuple(group))


def _weighs(call: Call) -> bool:
    """Whether a call multiplies by weights, so that a block begins with it."""
    return not isinstance(call.module, _NORMS) and any(True for _ in call.module.parameters())

"""Where each block begins and ends in the graph of one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.autograd.graph import GradientEdge

from eigenscope.flow.blocks import Block
from eigenscope.flow.residual import residual_sum
from eigenscope.flow.trace import Signal
from eigenscope.operators.graph import differentiable_from
from eigenscope.operators.jacobian import Place

_SPAN = 8  # blocks that one addition joins, at most


@dataclass(frozen=True)
class Segment:
    """A block with the places where it begins and ends, or the `reason` why it has none."""

    block: Block
    source: Signal | None = None
    end: Signal | None = None
    reason: str | None = None
    follows: bool = False  # it begins where the block before it ended


def segments_of(blocks: Sequence[Block], *, named: bool = False) -> list[Segment]:
    """From a block's input to the next block's, or, where that does not read what this one wrote, to its own output.

    What the network computes between two blocks (an addition, an activation written out) thus counts with the first,
    and the blocks' Jacobians chain up. Blocks that the user `named` end at their own outputs.
    """
    sources = _sources(blocks)
    following = [None] * len(blocks) if named else [*sources[1:], None][: len(blocks)]
    found = [_segment(*ends) for ends in zip(blocks, sources, following, strict=True)]
    return [replace(one, follows=_follows(before, one)) for before, one in zip([None, *found], found, strict=False)]


def _follows(before: Segment | None, one: Segment) -> bool:
    if before is None or before.end is None or one.source is None:
        return False
    beside = before.source is not None and before.source.place.edge == one.source.place.edge
    return beside or before.end.place.edge == one.source.place.edge


def joined(blocks: Sequence[Block]) -> list[Block]:
    """With the blocks as one that an addition spans: x + mlp(norm(x)), written in the parent, has its "+1" as a whole.

    A part of it alone would be neither the branch nor the sum.
    """
    sources, whole, start = _sources(blocks), [], 0
    while start < len(blocks):
        ends = range(start, min(start + _SPAN, len(blocks) - 1))
        end = next((end for end in ends if _adds(sources[start], blocks[end], sources[end + 1])), start)
        whole.append(Block(tuple(call for block in blocks[start : end + 1] for call in block.calls)))
        start = end + 1
    return whole


def _adds(source: Signal | None, last: Block, following: Signal | None) -> bool:
    """Whether what follows is the source plus what the last block wrote, changed on the way or not."""
    written = _written(last)
    if source is None or written is None or following is None or not _leads(written, following):
        return False
    return residual_sum(following.place, source.place) is not None


def _sources(blocks: Sequence[Block]) -> list[Signal | None]:
    """Each block's input: of several, the one that the block before led to."""
    found: list[Signal | None] = []
    before: Signal | None = None
    for block in blocks:
        inputs = block.calls[0].inputs
        fed = [signal for signal in inputs if before is not None and _leads(before, signal)]
        found.append(next(iter(fed or inputs), None))
        before = _written(block)
    return found


def _segment(block: Block, source: Signal | None, following: Signal | None) -> Segment:
    written = _written(block)
    if source is None or written is None:
        return Segment(block, reason=_why_not(block))
    end = following if following is not None and _leads(written, following) else written
    if not _leads(source, end):
        return Segment(block, reason="its output does not depend on its input")
    return Segment(block, source, end)


def independent_inputs(segments: Sequence[Segment], generator: torch.Generator) -> set[GradientEdge]:
    """The blocks' inputs from which on samples, along the first axis, don't influence each other.

    A backward pass from a row in the middle of every block's output must leave all other rows of an input at zero:
    time along the first axis, in either direction, and batch statistics fail. (Of two rows, from each.)
    """
    ends = [(s.source.place, s.end.place) for s in segments if s.source is not None and s.end is not None]
    equal = [(source, end) for source, end in ends if source.shape[:1] == end.shape[:1] != ()]
    counts = {source.shape[0] for source, _ in equal}
    return {edge for rows in counts for edge in _apart([p for p in equal if p[0].shape[0] == rows], rows, generator)}


def _apart(ends: Sequence[tuple[Place, Place]], rows: int, generator: torch.Generator) -> set[GradientEdge]:
    edges = list(dict.fromkeys(source.edge for source, _ in ends))
    apart = set(edges)
    for row in [rows // 2] if rows > 2 else range(rows):
        vectors = []
        for _, end in ends:
            u = torch.zeros(end.shape, dtype=end.dtype, device=end.device)
            u[row] = torch.randn(u[row].shape, generator=generator, device=end.device).to(end.dtype)
            vectors.append(u)
        gradients = torch.autograd.grad([end.edge for _, end in ends], edges, vectors, retain_graph=True)
        reached = (bool(g[:row].any()) or bool(g[row + 1 :].any()) for g in gradients)
        apart -= {edge for edge, others in zip(edges, reached, strict=True) if others}
    return apart


def _written(block: Block) -> Signal | None:
    return next((call.outputs[0] for call in reversed(block.calls) if call.outputs), None)


def _leads(first: Signal, second: Signal) -> bool:
    return differentiable_from(second.place.edge, first.place.edge)


def _why_not(block: Block) -> str:
    if block.calls[0].integers:
        return "its inputs are integers: the flow starts at its output"
    if block.calls[-1].raw:
        return "computed without gradients (no_grad or detach inside the model)"
    return "it takes or returns no floating tensor"

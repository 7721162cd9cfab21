"""Where each block begins and ends in the graph of one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from eigenscope.flow.blocks import Block
from eigenscope.flow.trace import Signal
from eigenscope.operators.graph import differentiable_from


@dataclass(frozen=True)
class Segment:
    """A block with the places where it begins and ends, or the `reason` why it has none."""

    block: Block
    source: Signal | None = None
    end: Signal | None = None
    reason: str | None = None


def segments_of(blocks: Sequence[Block]) -> list[Segment]:
    """From a block's input to the next block's, or, where that does not read what this one wrote, to its own output.

    What the network computes between two blocks (an addition, an activation written out) thus counts with the first,
    and the blocks' Jacobians chain up.
    """
    sources = _sources(blocks)
    following = [*sources[1:], None][: len(blocks)]
    return [_segment(*ends) for ends in zip(blocks, sources, following, strict=True)]


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


def rows_are_independent(segments: Sequence[Segment], generator: torch.Generator) -> bool:
    """Whether samples, along the first axis, don't influence each other between any block and the last.

    Two backward passes, from the first row of the last block's output and from its last row, must leave all other
    rows of every block's input at zero. (Time along the first axis, or batch statistics, fail.)
    """
    measured = [segment for segment in segments if segment.source is not None and segment.end is not None]
    if not measured or not measured[-1].end:
        return False
    end, places = measured[-1].end.place, [s.source.place for s in measured if s.source is not None]
    rows = end.shape[0] if end.shape else 0
    if not all(place.shape[:1] == (rows,) for place in places):
        return False
    for row in {0, rows - 1}:
        u = torch.zeros(end.shape, dtype=end.dtype, device=end.device)
        u[row] = torch.randn(u[row].shape, generator=generator, device=end.device).to(end.dtype)
        edges = [place.edge for place in places]
        gradients = torch.autograd.grad((end.edge,), edges, (u,), retain_graph=True, allow_unused=True)
        others = [torch.cat([g[:row], g[row + 1 :]]) for g in gradients if g is not None]
        if any(bool(part.any()) for part in others):
            return False
    return True


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

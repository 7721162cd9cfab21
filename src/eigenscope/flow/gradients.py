"""The gradient of one batch's loss between the blocks of a network."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from eigenscope.errors import InputError, first_line
from eigenscope.flow.segments import Segment

_TINY = 1e-30  # a norm below which single precision loses digits, and soon all
_SCALE = 2.0**100  # of the loss, that brings such a gradient back


class Gradients:
    """‖∂L/∂·‖ at every block's input and output, and the parameters' gradients, in one backward pass.

    Gradients that left the range of single precision are taken once more, of a loss scaled up or down.
    """

    def __init__(self, loss: Tensor, segments: Sequence[Segment], leaves: Sequence[Tensor], weight: float) -> None:
        ends = [(segment, signal) for segment in segments for signal in (segment.source, segment.end) if signal]
        edges = list(dict.fromkeys(signal.place.edge for _, signal in ends))
        start = time.perf_counter()
        found = _gradients(loss, [*edges, *leaves])
        self.seconds = time.perf_counter() - start
        self.weight = weight
        self.of_leaves = found[len(edges) :]
        self.used = {leaf: part is not None for leaf, part in zip(leaves, self.of_leaves, strict=True)}
        reached = {edge: part for edge, part in zip(edges, found, strict=False) if part is not None}
        self.unreached = [s.block.name for s in segments if s.end is not None and s.end.place.edge not in reached]
        self._norms = {edge: weight * norm(part) for edge, part in reached.items()}
        self._rescue(loss)

    def norm(self, edge: GradientEdge) -> float:
        """‖∂L/∂·‖ at one place, of the batch's share in the loss."""
        return self._norms.get(edge, 0.0)

    def added_to(self, totals: Sequence[Tensor]) -> list[Tensor]:
        """The parameters' gradients of this batch, with those of the batches before (none: an empty list)."""
        totals = totals or [torch.zeros_like(leaf, requires_grad=False) for leaf in self.used]
        for total, part in zip(totals, self.of_leaves, strict=True):
            if part is not None:
                total.add_(part.detach().to_dense(), alpha=self.weight)
        return list(totals)

    def _rescue(self, loss: Tensor) -> None:
        small = [edge for edge, known in self._norms.items() if known < _TINY]
        large = [edge for edge, known in self._norms.items() if not math.isfinite(known)]
        for edges, scale in ((small, _SCALE), (large, 1 / _SCALE)):
            again = _gradients(loss, edges, scale) if edges else ()
            norms = {e: self.weight * norm(g) / scale for e, g in zip(edges, again, strict=True) if g is not None}
            self._norms.update({edge: found for edge, found in norms.items() if math.isfinite(found)})


def _gradients(loss: Tensor, ends: Sequence[Any], scale: float = 1.0) -> tuple[Tensor | None, ...]:
    start = torch.full_like(loss, scale)
    try:
        return torch.autograd.grad(loss, ends, start, retain_graph=True, allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        raise InputError(f"the loss can't be differentiated: {first_line(error)}") from error


def norm(tensor: Tensor) -> float:
    """‖·‖₂, accumulated in double precision."""
    return float(torch.linalg.vector_norm(tensor.detach().to_dense(), dtype=torch.float64))

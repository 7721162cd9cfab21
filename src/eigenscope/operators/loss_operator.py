"""What the Hessian and the Gauss-Newton matrix share: products of each batch, kept or recomputed graphs, a gradient."""

from __future__ import annotations

import gc
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.operators.base import Operator
from eigenscope.operators.graph import available_memory, graph_bytes
from eigenscope.operators.probe import Probe
from eigenscope.operators.space import VectorSpace

KEPT = "double_backward_graph_kept"
RECOMPUTED = "double_backward_recomputed"
FINITE_DIFFERENCE = "finite_difference"
METHODS = ("auto", KEPT, RECOMPUTED, FINITE_DIFFERENCE)


@dataclass
class Graph:
    """One batch's differentiated loss: from here a product is one more backward pass."""

    loss: Tensor
    outputs: Sequence[Tensor]  # what is differentiated again
    gradient: list[Tensor | None]


class LossOperator(Operator):
    """The weighted sum over a probe's batches of a matrix of second derivatives of the loss.

    Parameters
    ----------
    probe
        The model, its loss and its batches.
    method
        ``"auto"`` keeps the graphs of all batches if they fit into half of `memory_limit` (1.7 to 2.2 gradients a
        product), else rebuilds them for each product (2.6 to 3.2); finite differences of gradients where the model
        has no second derivative.
    memory_limit
        Bytes for graphs and Krylov basis together; by default half of what is free.
    """

    def __init__(self, probe: Probe, *, method: str = "auto", memory_limit: float | None = None) -> None:
        if method not in METHODS:
            raise ValueError(f"method={method!r} is not one of {', '.join(METHODS)}")
        self.probe = probe
        device = probe.parameters.device
        self.space = VectorSpace(probe.parameters.count, device)
        self.memory_limit = memory_limit if memory_limit is not None else 0.5 * available_memory(device)
        self.graph_bytes = 0  # of all batches together, estimated from the first
        self.notes: list[str] = []
        self.parts: list[float] = []  # ⟨v, A_b v⟩ of each batch b in the last product
        self.loss = 0.0
        self.gradient_seconds = 0.0  # one gradient of the whole probe, estimated from the first batch
        self._graphs: list[Graph] = []
        self.gradient = self._start(method)

    # -- the first pass: loss, gradient, and which way products are made ------------------------------------------

    def _start(self, method: str) -> Float[Tensor, " n"]:
        probe, total, losses = self.probe, self.space_zero(), []
        with probe.isolated():
            first = probe.loss(0)
            if probe.reaches_originals(first):
                probe.use_originals()
                self.notes.append("the loss uses parameters other than through the model: their gradient hooks run")
            del first
        with probe.isolated():
            self.gradient_seconds = self._time_gradient()
            self.method = FINITE_DIFFERENCE if method == FINITE_DIFFERENCE else RECOMPUTED
            for index, weight in enumerate(probe.weights):
                graph, keep = self._first_graph(index, method)
                losses.append(weight * float(graph.loss.detach()))
                total += weight * self.probe.parameters.join(graph.gradient, total.dtype)
                if keep:
                    self._graphs.append(graph)
                del graph
        self.loss = sum(losses)
        return total

    def _first_graph(self, index: int, method: str) -> tuple[Graph, bool]:
        if index == 0 and method in ("auto", KEPT):
            self._choose(method)
        differentiable = self.method != FINITE_DIFFERENCE
        return self._graph(index) if differentiable else self._plain(index), self.method == KEPT

    def _choose(self, method: str) -> None:
        """Try a product on the first batch; measure its graph; decide."""
        probe = self.probe
        try:
            graph = self._graph(0)
            self._batch_product(graph, probe.leaves)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError) as error:
            if method != "auto":
                raise
            self.method = FINITE_DIFFERENCE
            self.notes.append(f"finite differences, for the model has no second derivative: {_first_line(error)}")
            return
        share = max(probe.weights[0], 1e-12)
        largest = max(w / share for w in probe.weights)
        size = graph_bytes([graph.loss, *graph.outputs], probe.leaves)
        self.graph_bytes = int(size * max(1.0 / share, largest)) if len(probe.weights) > 1 else size
        fits = self.graph_bytes <= self.memory_limit / 2
        self.method = KEPT if method == KEPT or fits else RECOMPUTED
        if not fits and self.method == RECOMPUTED:
            self.notes.append(
                f"graphs of {self.graph_bytes / 2**20:.0f} MB do not fit half of the memory limit of "
                f"{self.memory_limit / 2**20:.0f} MB: each product rebuilds them"
            )

    def _time_gradient(self) -> float:
        share = self.probe.weights[0]
        self._plain(0)  # the first pass warms caches and is not timed
        start = self._now()
        self._plain(0)
        return (self._now() - start) / max(share, 1e-12)

    def _now(self) -> float:
        if self.space.device.type == "cuda":
            torch.cuda.synchronize(self.space.device)
        return time.perf_counter()

    def _plain(self, index: int) -> Graph:
        loss = self.probe.loss(index)
        return Graph(loss.detach(), (), list(torch.autograd.grad(loss, self.probe.leaves, allow_unused=True)))

    # -- products -------------------------------------------------------------------------------------------------

    def _matvec(self, v: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        total = torch.zeros_like(v, dtype=self.space.dtype)
        self.parts = []
        for index, weight in enumerate(self.probe.weights):
            product = self._part(index, v).to(total.dtype)
            self.parts.append(self.space.dot(v, product))
            total.add_(product, alpha=weight)
        return total.to(v.dtype)

    def _part(self, index: int, v: Tensor) -> Tensor:
        """A_b v for one batch, flat."""
        if self.method == FINITE_DIFFERENCE:
            return self._difference(index, v)
        pieces = self.probe.parameters.split(v)
        if self.method == KEPT:
            with torch.enable_grad():
                product = self._batch_product(self._graphs[index], pieces)
        else:
            with self.probe.isolated():
                product = self._batch_product(self._graph(index), pieces)
        return self.probe.parameters.join(product, self.space.dtype)

    def _difference(self, index: int, v: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no finite-difference product")

    def quadratic_sampling_error(self) -> float | None:
        """The standard error of ⟨v, Av⟩ over the probe's batches, from the last product; None for one batch."""
        return weighted_standard_error(self.parts, self.probe.weights)

    def space_zero(self) -> Tensor:
        return torch.zeros(self.space.size, dtype=self.space.dtype, device=self.space.device)

    def close(self) -> None:
        """Free the kept graphs."""
        self._graphs.clear()
        gc.collect()

    @abstractmethod
    def _graph(self, index: int) -> Graph:
        """Run one batch and differentiate its loss once, ready for products."""

    @abstractmethod
    def _batch_product(self, graph: Graph, pieces: Sequence[Tensor]) -> list[Tensor | None]:
        """The product of one batch's matrix with a vector in pieces."""


def weighted_standard_error(values: Sequence[float], weights: Sequence[float]) -> float | None:
    """Standard error of a weighted mean of independent batches (Cochran 1977, the ratio estimator)."""
    batches = len(values)
    if batches < 2:
        return None
    total = sum(weights)
    mean = sum(w * x for w, x in zip(weights, values, strict=True)) / total
    spread = sum((w * (x - mean)) ** 2 for w, x in zip(weights, values, strict=True)) / total**2
    return float((batches / (batches - 1) * spread) ** 0.5)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]

"""What the Hessian and the Gauss-Newton matrix share: products of each batch, kept or recomputed graphs, a gradient."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook

from eigenscope.errors import InputError, MeasurementError, first_line
from eigenscope.operators.base import Operator
from eigenscope.operators.graph import available_memory, cut_off, graph_bytes
from eigenscope.operators.isolation import differentiable
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
    gradient: Sequence[Tensor | None]


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

    has_differences = False  # products by finite differences of gradients

    def __init__(self, probe: Probe, *, method: str = "auto", memory_limit: float | None = None) -> None:
        if method not in METHODS:
            raise InputError(f"method={method!r} is not one of {', '.join(METHODS)}")
        self.probe = probe
        device = probe.parameters.device
        self.space = VectorSpace(probe.parameters.count, device)
        self.memory_limit = memory_limit if memory_limit is not None else 0.5 * available_memory(device)
        self.graph_bytes = 0  # of all batches together, estimated from the first
        self.notes: list[str] = []
        self.loss = 0.0
        self.gradient_seconds = 0.0  # one gradient of the whole probe, estimated from the first batch
        self._graphs: list[Graph] = []
        with differentiable([device]):
            self.gradient = self._start(method)

    # -- the first pass: loss, gradient, and which way products are made ------------------------------------------

    def _start(self, method: str) -> Float[Tensor, " n"]:
        probe, total, reached = self.probe, self.space_zero(), False
        with probe.isolated():
            first = probe.loss(0)
            if probe.reaches_originals(first):
                probe.use_originals()
                self.notes.append("the loss uses parameters other than through the model: their gradient hooks run")
            del first
        with probe.isolated():
            self.gradient_seconds = self._time_gradient()
        self.method = self._choose(method)
        for index, weight in enumerate(probe.weights):
            with probe.isolated():  # one each, as in a product: in train mode a batch has the same dropout in both
                graph = self._plain(index) if self.method == FINITE_DIFFERENCE else self._graph(index)
            self.loss += weight * float(graph.loss.detach())
            total += weight * probe.parameters.join(graph.gradient, total.dtype)
            reached |= any(part is not None for part in graph.gradient)
            if self.method == KEPT:
                self._graphs.append(graph)
            del graph
        if not reached:
            raise InputError("the loss does not depend on any trainable parameter of the model")
        if not bool(torch.isfinite(total).all()):
            parts = zip(probe.parameters.names, probe.parameters.split(total), strict=True)
            name = next(name for name, part in parts if not bool(torch.isfinite(part).all()))
            raise InputError(f"the gradient of parameter {name!r} is not finite, though the loss is")
        return total

    def _choose(self, method: str) -> str:
        """Try a product on the first batch; measure its graph; decide."""
        if method == FINITE_DIFFERENCE:
            return self._differences_allowed()
        try:
            with self.probe.isolated():
                graph = self._graph(0)
                if cut_off(graph.outputs):  # its part would be missing from the product, without a word
                    raise NotImplementedError("an operation is once_differentiable")
                with _modules_that_run() as called:
                    self._batch_product(graph, self.probe.leaves)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError) as error:
            why = f"the model has no second derivative: {first_line(error)}"
            if method != "auto":
                raise MeasurementError(f"{why}; method='finite_difference' needs none") from error
            self.notes.append(f"finite differences, for {why}")
            return self._differences_allowed()
        size = graph_bytes([graph.loss, *graph.outputs], self.probe.leaves)
        self.graph_bytes = int(size / max(self.probe.weights[0], 1e-9))
        if called:  # a product runs them again, and must find the model isolated
            self.notes.append("activation checkpointing: each product runs the model again")
            return RECOMPUTED
        if method != "auto":
            return method
        if self.graph_bytes <= self.memory_limit / 2:
            return KEPT
        self.notes.append(
            f"graphs of {self.graph_bytes / 2**20:.3g} MB do not fit half of the memory limit of "
            f"{self.memory_limit / 2**20:.3g} MB: each product rebuilds them"
        )
        return RECOMPUTED

    def _differences_allowed(self) -> str:
        if not self.has_differences:
            raise InputError(f"{type(self).__name__} has no finite differences: use matrix='hessian'")
        if not self.probe.aliased:
            raise InputError(
                "finite differences move the model's parameters, but the loss uses some other than through the model"
            )
        return FINITE_DIFFERENCE

    def _time_gradient(self) -> float:
        self._plain(0)  # the first pass warms caches and is not timed
        start = self._now()
        self._plain(0)
        return (self._now() - start) / max(self.probe.weights[0], 1e-9)

    def _now(self) -> float:
        if self.space.device.type == "cuda":
            torch.cuda.synchronize(self.space.device)
        return time.perf_counter()

    def _plain(self, index: int) -> Graph:
        loss = self.probe.loss(index)
        try:
            gradient = torch.autograd.grad(loss, self.probe.leaves, allow_unused=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise MeasurementError(f"the gradient of the loss can't be taken: {first_line(error)}") from error
        return Graph(loss.detach(), (), gradient)

    # -- products -------------------------------------------------------------------------------------------------

    def _matvec(self, v: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        weights = self.probe.weights
        if len(weights) == 1:
            return self._part(0, v).to(v.dtype)
        total = self.space_zero()
        for index, weight in enumerate(weights):
            total.add_(self._part(index, v), alpha=weight)
        return total.to(v.dtype)

    def spread(self, v: Float[Tensor, " n"]) -> tuple[Float[Tensor, " n"], float | None]:
        """Av, and the standard error of ⟨v, Av⟩ over the probe's batches (None for a single batch)."""
        total, forms = self.space_zero(), []
        for index, weight in enumerate(self.probe.weights):
            product = self._part(index, v)
            forms.append(self.space.dot(v, product))
            total.add_(product, alpha=weight)
        return self._counted(1, total.to(v.dtype)), weighted_standard_error(forms, self.probe.weights)

    def _part(self, index: int, v: Tensor) -> Tensor:
        """A_b v for one batch, flat."""
        with differentiable([self.space.device]):
            if self.method == FINITE_DIFFERENCE:
                return self._difference(index, v)
            pieces = self.probe.parameters.split(v)
            if self.method == KEPT:
                product = self._batch_product(self._graphs[index], pieces)
            else:
                with self.probe.isolated():
                    product = self._batch_product(self._graph(index), pieces)
            return self.probe.parameters.join(product, self.space.dtype)

    def _difference(self, index: int, v: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no finite-difference product")

    def space_zero(self) -> Tensor:
        return torch.zeros(self.space.size, dtype=self.space.dtype, device=self.space.device)

    def close(self) -> None:
        """Free the kept graphs."""
        self._graphs.clear()

    @abstractmethod
    def _graph(self, index: int) -> Graph:
        """Run one batch and differentiate its loss once, ready for products."""

    @abstractmethod
    def _batch_product(self, graph: Graph, pieces: Sequence[Tensor]) -> list[Tensor | None]:
        """The product of one batch's matrix with a vector in pieces."""


@contextmanager
def _modules_that_run() -> Iterator[list[str]]:
    """The classes of the modules whose forward pass is run within."""
    called: list[str] = []
    handle = register_module_forward_pre_hook(lambda module, _inputs: called.append(type(module).__name__))
    try:
        yield called
    finally:
        handle.remove()


def weighted_standard_error(values: Sequence[float], weights: Sequence[float]) -> float | None:
    """Standard error of a weighted mean of independent batches (Cochran 1977, the ratio estimator)."""
    batches = len(values)
    if batches < 2:
        return None
    total = sum(weights)
    mean = sum(w * x for w, x in zip(weights, values, strict=True)) / total
    spread = sum((w * (x - mean)) ** 2 for w, x in zip(weights, values, strict=True)) / total**2
    return float((batches / (batches - 1) * spread) ** 0.5)

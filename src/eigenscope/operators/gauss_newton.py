"""The generalized Gauss-Newton matrix of the mean loss over a probe set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from eigenscope.errors import InputError
from eigenscope.operators.graph import nodes_above
from eigenscope.operators.loss_operator import Graph, LossOperator


@dataclass
class _GaussNewtonGraph(Graph):
    predictions: list[Tensor]  # z, what the model returned
    sensitivity: list[Tensor]  # ∂L/∂z, as a graph in z
    dual: list[Tensor]  # u, of ones; Jᵀu is linear in it, so that differentiating it again gives Jv
    pulled: Sequence[Tensor | None]  # Jᵀu


class GaussNewtonOperator(LossOperator):
    """G = Jᵀ H_L J: the Hessian with the network replaced by its linearization (Schraudolph 2002).

    J is the Jacobian of the model's outputs z, H_L the Hessian of the loss in z; G is positive semi-definite where
    the loss is convex in z. Jv comes from differentiating Jᵀu twice, so that no forward-mode rule is used.
    """

    def _graph(self, index: int) -> _GaussNewtonGraph:
        probe = self.probe
        seen: list[Any] = []
        handle = probe.model.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        try:
            loss = probe.loss(index)
        finally:
            handle.remove()
        candidates = _last([z for output in seen for z in _predictions(output) if z is not loss])
        if not candidates:
            raise InputError("the Gauss-Newton matrix needs a loss_fn that calls the model on the batch")
        sensitivity = torch.autograd.grad(loss, candidates, create_graph=True, allow_unused=True)
        pairs = [(z, s) for z, s in zip(candidates, sensitivity, strict=True) if s is not None]
        if not pairs:
            raise InputError("the loss does not depend on what the model returned: no Gauss-Newton matrix")
        predictions, used = [z for z, _ in pairs], [s for _, s in pairs]
        dual = [torch.ones_like(z, requires_grad=True) for z in predictions]
        pulled = list(
            torch.autograd.grad(predictions, probe.leaves, grad_outputs=dual, create_graph=True, allow_unused=True)
        )
        gradient = list(torch.autograd.grad(loss, probe.leaves, retain_graph=True, allow_unused=True))
        outputs = [*used, *(p for p in pulled if p is not None)]
        return _GaussNewtonGraph(loss, outputs, gradient, predictions, used, dual, pulled)

    def _batch_product(self, graph: Graph, pieces: Sequence[Tensor]) -> list[Tensor | None]:
        assert isinstance(graph, _GaussNewtonGraph)
        pairs = [(p, v) for p, v in zip(graph.pulled, pieces, strict=True) if p is not None and p.requires_grad]
        pulled, directions = zip(*pairs, strict=True)
        forward = torch.autograd.grad(pulled, graph.dual, grad_outputs=directions, retain_graph=True)  # Jv
        curved = [(s, jv) for s, jv in zip(graph.sensitivity, forward, strict=True) if s.requires_grad]
        if not curved:  # a loss that is linear in the outputs
            return [None] * len(pieces)
        sensitivity, steps = zip(*curved, strict=True)
        second = torch.autograd.grad(
            sensitivity, graph.predictions, grad_outputs=steps, retain_graph=True, allow_unused=True
        )
        live = [(z, h) for z, h in zip(graph.predictions, second, strict=True) if h is not None]
        if not live:
            return [None] * len(pieces)
        predictions, cotangents = zip(*live, strict=True)
        return list(
            torch.autograd.grad(
                predictions, self.probe.leaves, grad_outputs=cotangents, retain_graph=True, allow_unused=True
            )
        )


def _last(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Without the outputs that lead to another one (features, hidden states): their part is in that one already."""
    passed = {node for z in outputs if z.grad_fn is not None for node in nodes_above(z.grad_fn)}
    return list({id(z): z for z in outputs if z.grad_fn not in passed}.values())


def _predictions(output: Any) -> Iterator[Tensor]:
    """The differentiable tensors in what a model returned; of a record with a loss and logits, the logits."""
    if isinstance(output, Tensor):
        if output.is_floating_point() and output.requires_grad:
            yield output
        return
    if isinstance(output, Mapping):
        items = dict(output)
    elif is_dataclass(output) and not isinstance(output, type):
        items = {field.name: getattr(output, field.name) for field in fields(output)}
    elif isinstance(output, list | tuple):
        items = dict(enumerate(output))
    else:
        return
    if "logits" in items:
        items = {"logits": items["logits"]}
    for value in items.values():
        yield from _predictions(value)

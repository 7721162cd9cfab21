"""What passes through each layer on calibration data, and how much the model's output depends on it, in one pass.

A layer with no more outputs than inputs is known by the covariance of its outputs, one with fewer inputs by that of its
inputs: always the smaller side. For a convolution that spares the unfolding. Backward passes from random cotangents at
the model's output give what each output of a layer does to it: E[g gᵀ], the second factor of Martens & Grosse 2015
(K-FAC), and |g|² weighs the rows, so that padding that the output does not depend on counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eigenscope.compression.candidates import Candidate
from eigenscope.compression.layers import Convolution
from eigenscope.compression.moments import Moments, gram
from eigenscope.compression.observing import Forward, call, observe, samples_in
from eigenscope.errors import InputError
from eigenscope.operators.isolation import differentiable, random_streams

Progress = Callable[[str, int, int], None]


@dataclass
class Statistics:
    """Of one layer, over all calibration rows."""

    candidate: Candidate
    of_inputs: bool  # which side the moments are of
    moments: Moments
    sensitivity: Float[Tensor, "d d"]  # Σ g gᵀ, of the same side: the squared output change of a unit change
    rows: int = 0
    draws: int = 0  # independent gradients in `sensitivity`
    weights: list[Tensor | None] = field(default_factory=list)  # of the rows of each call, in the order of the calls
    calls: list[int] = field(default_factory=list)  # by batch

    @property
    def differentiated(self) -> bool:
        """Whether a gradient has come back from the output, be it 0."""
        return any(weights is not None for weights in self.weights)

    @property
    def matters(self) -> bool:
        """Whether the output depends on the layer, as far as its gradients tell."""
        return float(self.sensitivity.trace()) > 0


@dataclass
class _Call:
    """One call of one layer: what passed, and the weight of each row, which backward passes add to."""

    rows: Float[Tensor, "n d"]
    weights: Float[Tensor, " n"] | None = None


@dataclass
class _Recorder:
    """Hooked on a layer for one batch at a time."""

    statistics: Statistics
    calls: list[_Call] = field(default_factory=list)

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Tensor) -> Tensor:
        if not output.requires_grad:
            output = output.detach().requires_grad_().clone()  # the layer may be changed in place by what follows
        seen = input_of(inputs, named) if self.statistics.of_inputs else output
        call = _Call(rows_of(module, seen.detach(), self.statistics.of_inputs).clone())
        self.calls.append(call)
        if output.requires_grad:
            output.register_hook(lambda gradient: self.pull(module, call, gradient))  # type: ignore[no-untyped-call]
        return output

    def pull(self, module: nn.Module, call: _Call, gradient: Tensor) -> None:
        rows = rows_of(module, gradient.detach(), False)
        side = _to_inputs(module, rows) if self.statistics.of_inputs else rows
        rows = rows.to(torch.float64)
        weights = (rows**2).sum(1)
        call.weights = weights if call.weights is None else call.weights + weights
        self.statistics.sensitivity += gram(side[weights > 0])

    def settle(self, batch: int) -> None:
        self.statistics.calls.append(len(self.calls))
        for passed in self.calls:
            self._check(passed, batch)
            self.statistics.moments.add(passed.rows, passed.weights)
            self.statistics.rows += len(passed.rows)
            self.statistics.weights.append(None if passed.weights is None else passed.weights.to(torch.float32))
        self.calls.clear()

    def _check(self, passed: _Call, batch: int) -> None:
        name, weights = self.statistics.candidate.name, passed.weights
        counting = slice(None) if weights is None else weights != 0
        if not bool(passed.rows[counting].isfinite().all()):
            raise InputError(f"layer {name!r} sees NaN or infinity on calibration batch {batch}: check its data")
        if weights is not None and not bool(weights.isfinite().all()):
            raise InputError(
                f"the gradients at layer {name!r} are not finite on calibration batch {batch}: what is kept close "
                "(forward= says it, else the model's output) must be differentiable there: logits are, "
                "and (log p / 2).exp() is, where the root or the logarithm of a probability of 0 is not"
            )


def input_of(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """What a layer was called with, be it by the argument's name."""
    found: Tensor = inputs[0] if inputs else next(iter(named.values()))
    return found


def _to_inputs(module: nn.Module, gradients: Float[Tensor, "n m"]) -> Float[Tensor, "n d"]:
    """Wᵀg, in the precision of the backward pass, single at the least."""
    weight = module.get_parameter("weight").detach()
    kind = torch.promote_types(weight.dtype, torch.float32)
    return gradients.to(kind) @ (weight if isinstance(module, nn.Linear) else weight.T).to(kind)


def rows_of(module: nn.Module, values: Tensor, inputs: bool) -> Float[Tensor, "n d"]:
    """Inputs or outputs of a layer, a row for each position."""
    if isinstance(module, Convolution):
        assert not inputs
        values = values.movedim(1 - module.weight.ndim, -1)  # batched or not
    return values.reshape(-1, values.shape[-1])


def collect(
    model: nn.Module,
    candidates: Sequence[Candidate],
    batches: Sequence[Any],
    forward: Forward = call,
    progress: Progress | None = None,
) -> dict[str, Statistics]:
    """Run `model`, which is in evaluation mode, over the batches; layers that are never reached are left out."""
    devices = {p.device for p in model.parameters()}
    recorders = {c.name: _Recorder(_empty(c)) for c in candidates}
    with ExitStack() as stack:
        stack.enter_context(differentiable(list(devices)))
        stack.enter_context(random_streams(list(devices)))
        for candidate in candidates:
            hook = candidate.module.register_forward_hook(recorders[candidate.name], with_kwargs=True)
            stack.callback(hook.remove)
        for index, batch in enumerate(batches):
            draws = samples_in(batch) * observe(model, batch, index, forward).pull_back()
            for recorder in recorders.values():
                recorder.settle(index)
                recorder.statistics.draws += draws
            if progress:
                progress("calibration", index + 1, len(batches))
    return {name: recorder.statistics for name, recorder in recorders.items() if recorder.statistics.rows}


def _empty(candidate: Candidate) -> Statistics:
    of_inputs = candidate.columns < candidate.rows and not isinstance(candidate.module, Convolution)
    width = candidate.columns if of_inputs else candidate.rows
    device = candidate.module.get_parameter("weight").device
    nothing = torch.zeros(width, width, dtype=torch.float64, device=device)
    return Statistics(candidate, of_inputs, Moments(width, device), nothing)

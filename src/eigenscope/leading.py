"""The largest eigenvalue alone: the cheapest number that follows a run step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.errors import InputError
from eigenscope.estimators import RitzPairs, lanczos
from eigenscope.operators import HessianOperator, Operator, Probe
from eigenscope.operators.isolation import differentiable
from eigenscope.operators.probe import BatchWeight, LossFunction

_KEPT = 3  # runners-up are carried along: one of them may have taken the lead
_TOLERANCE = 3e-3


@dataclass(frozen=True)
class Sharpness:
    """λmax with its residual, the vectors to start the next measurement from, and the bill."""

    lambda_max: Estimate
    vectors: Float[Tensor, "k n"]
    num_matvecs: int


def sharpness(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Any,
    *,
    start: Sharpness | None = None,
    batch_weight: BatchWeight | None = None,
    tolerance: float = _TOLERANCE,
    seed: int = 0,
) -> Sharpness:
    """λmax of the Hessian of the mean loss over `batches`, expected to be right to `tolerance`.

    About 10 products from nothing; 2 to 5 with `start`, the result of a few training steps ago. What it can't do:
    prove that no other eigenvalue has grown larger; `curvature` looks afresh.
    """
    operator = HessianOperator(Probe(model, loss_fn, batches, batch_weight=batch_weight))
    if start is not None and start.vectors.shape[1] != operator.space.size:
        raise InputError(
            f"start is of {start.vectors.shape[1]:,} parameters, but {operator.space.size:,} are trainable now"
        )
    try:
        with differentiable([operator.space.device]):
            return leading(operator, start.vectors if start else None, operator.space.generator(seed), tolerance)
    finally:
        operator.close()


def leading(
    operator: Operator,
    start: Float[Tensor, "k n"] | None,
    generator: torch.Generator,
    tolerance: float = _TOLERANCE,
    steps: int = 30,
    memory_limit: float = float("inf"),
) -> Sharpness:
    """The largest eigenvalue of any operator, from the last vectors (the leading one first) where there are some."""
    first = operator.space.random(generator)
    if start is not None:
        weights = torch.full((len(start),), 0.3, dtype=first.dtype, device=first.device)
        weights[0] = 1.0
        first = weights @ start.to(first) + 0.03 * first

    def stop(pairs: RitzPairs) -> bool:
        return bool(pairs.expected_errors()[-1] <= tolerance * abs(pairs.values[-1]))

    room = max(int(memory_limit // (8 * operator.space.size)), 6) if memory_limit < float("inf") else None
    krylov = lanczos(
        operator,
        first,
        steps=steps,
        generator=generator,
        stop=stop,
        first_test=2,
        max_basis=room,
        memory_limit=memory_limit,
    )
    pairs = krylov.ritz()
    vectors = krylov.vectors(pairs.coefficients[:, ::-1][:, :_KEPT]).float().cpu()
    value = Estimate(float(pairs.values[-1]), error=float(pairs.residuals[-1] + krylov.noise))
    return Sharpness(value, vectors, krylov.num_matvecs)

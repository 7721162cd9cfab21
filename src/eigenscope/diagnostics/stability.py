"""How far the step size is from the edge of stability, for the optimizer as it stands.

Gradient descent on a quadratic diverges along an eigenvector once λη > 2; training hovers near that edge (Cohen et
al. 2021). Heavy ball: λη > 2 + 2β; Nesterov: λη > (2 + 2β)/(1 + 2β); Adam: the same on the preconditioned Hessian,
λ₁(P⁻¹H)η > (2 + 2β₁)/(1 − β₁) (Cohen et al. 2022). `stability_ratio` is λ over that threshold; 1 is the edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.step_factor import step_factor
from eigenscope.operators.space import accumulation_dtype


@dataclass(frozen=True)
class Edge:
    """ratio = λ₁(S^½ H S^½): S is one number for all parameters, or one for each (`scales`, flat)."""

    optimizer: str
    scale: float | None = None
    scales: Tensor | None = None
    reason: str | None = None  # why there is no threshold


def is_adaptive(optimizer: torch.optim.Optimizer | None) -> bool:
    """Whether it scales each entry by its own history, as Adam and its kin do: all but SGD, momentum or not."""
    return optimizer is not None and not isinstance(optimizer, torch.optim.SGD)


def stability_edge(
    optimizer: torch.optim.Optimizer | None,
    parameters: Sequence[Tensor],
    gradient: Sequence[Tensor] | None = None,
    factor: float | None = None,
) -> Edge:
    """Read the threshold off an optimizer's current groups and state; parameters that it does not move count 0.

    `gradient`, of the same parameters, foresees the first step of an optimizer that has no state yet. `factor`
    multiplies its learning rates: that of a `ControlStep` in force unless given.
    """
    if optimizer is None:
        return Edge("none", reason="no optimizer was given: pass optimizer= to compare λmax with its threshold")
    name = type(optimizer).__name__
    rule = next((_RULES[c.__name__] for c in type(optimizer).__mro__ if c.__name__ in _RULES), None)
    if rule is None:
        return Edge(name, reason=f"no stability threshold is known for {name}")
    factor = step_factor(optimizer) if factor is None else factor
    found: dict[int, float | Tensor] = {}
    foreseen = _foreseen(optimizer, parameters, gradient)
    stateless, loudest = 0, _loudest([*optimizer.state.values(), *foreseen.values()])
    for group in optimizer.param_groups:
        if group.get("maximize"):
            return Edge(name, reason="the optimizer maximizes: its threshold would be on −λmin")
        for p in group["params"]:
            scale = rule(group, optimizer.state.get(p) or foreseen.get(id(p), {}), loudest)
            stateless += scale is None
            found[id(p)] = 0.0 if scale is None else factor * scale  # a frozen or unused parameter never gets a state
    if not any(id(p) in found for p in parameters):
        return Edge(name, reason=f"this {name} holds none of the model's parameters")
    if stateless == len(found):
        return Edge(name, reason=f"{name} has no state before its first step: measured again after it")
    values = [found.get(id(p), 0.0) for p in parameters]
    plain = {v for v in values if not isinstance(v, Tensor)}
    if len(plain) == 1 and not any(isinstance(v, Tensor) for v in values):
        return Edge(name, scale=plain.pop())
    return Edge(name, scales=_flat(values, parameters))


def _flat(values: Sequence[float | Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """One number for each entry of all parameters."""
    parts = [
        v.detach().reshape(-1)
        if isinstance(v, Tensor)
        else p.new_full((p.numel(),), v, dtype=accumulation_dtype(p.device))
        for v, p in zip(values, parameters, strict=True)
    ]
    return torch.cat(parts)


def _foreseen(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], gradient: Sequence[Tensor] | None
) -> dict[int, dict[str, Any]]:
    """The state after a first step with this gradient, of parameters that have none yet."""
    squares = {id(p): g.detach().square() for p, g in zip(parameters, gradient or parameters, strict=True)}
    return {
        id(p): {
            "step": 1.0,
            "exp_avg_sq": (1 - float(group.get("betas", (0, 0))[1])) * squares[id(p)],
            "square_avg": (1 - float(group.get("alpha", 0))) * squares[id(p)],
            "grad_avg": torch.zeros_like(squares[id(p)]),
        }
        for group in (optimizer.param_groups if gradient is not None else ())
        for p in group["params"]
        if id(p) in squares and not optimizer.state.get(p)
    }


def _sgd(group: Mapping[str, Any], _state: Mapping[str, Any], _loudest: float) -> float:
    rate, beta = float(group["lr"]), float(group.get("momentum", 0.0))
    if beta == 0.0:
        return rate / 2
    if group.get("nesterov"):
        return rate * (1 + 2 * beta) / (2 + 2 * beta)
    return rate * (1 - float(group.get("dampening", 0.0))) / (2 + 2 * beta)


def _adam(group: Mapping[str, Any], state: Mapping[str, Any], loudest: float) -> Tensor | None:
    """η(1 − β₁)/(2 + 2β₁) · P⁻¹ by entry, P = (1 − β₁ᵗ)(√(v/(1 − β₂ᵗ)) + ϵ); 0 for entries without gradient."""
    square: Tensor | None = state.get("max_exp_avg_sq", state.get("exp_avg_sq"))
    if square is None:
        return None
    beta1, beta2 = (float(b) for b in group["betas"])
    steps = max(float(state["step"]), 1.0)
    bias1, bias2 = 1 - beta1**steps, 1 - beta2**steps
    rate: float = float(group["lr"]) * (1 - beta1) / (2 + 2 * beta1) / bias1
    return rate * _inverse_root(square / bias2, group, loudest)


def _rmsprop(group: Mapping[str, Any], state: Mapping[str, Any], loudest: float) -> Tensor | None:
    square = state.get("square_avg")
    if square is None:
        return None
    if group.get("centered"):
        square = square - state["grad_avg"] ** 2
    beta = float(group.get("momentum", 0.0))
    return float(group["lr"]) / (2 + 2 * beta) * _inverse_root(square, group, loudest)


def _loudest(states: Iterable[Mapping[str, Any]]) -> float:
    """The largest √v of all parameters."""
    squares = [s.get("exp_avg_sq", s.get("square_avg")) for s in states]
    return max((float(square.max()) ** 0.5 for square in squares if square is not None), default=0.0)


def _inverse_root(square: Tensor, group: Mapping[str, Any], loudest: float) -> Tensor:
    """1/(√v + ϵ), and 0 where √v is of ϵ's size and under 10⁻⁵ of the largest there is: rounding, never a gradient.

    A bias in front of a batch norm is such a parameter: training can't feel it, but in evaluation mode it has a
    curvature, and dividing that by ϵ would claim instability where nothing moves.
    """
    epsilon = float(group["eps"])
    root = square.to(accumulation_dtype(square.device)).clamp(min=0).sqrt()
    felt = (root > 10 * epsilon) | (root > 1e-5 * loudest)
    return torch.where(felt, 1 / (root + epsilon), torch.zeros_like(root))


_RULES = {"SGD": _sgd, "Adam": _adam, "AdamW": _adam, "RMSprop": _rmsprop}


SATURATED = "the Hessian is zero to rounding: the network is saturated, or the loss is linear"


def plain_ratio(edge: Edge, lambda_max: Estimate, radius: float) -> Estimate | None:
    """The stability ratio as far as the spectrum of H tells it; None where that of P⁻¹H has to be measured.

    Null where the whole spectrum (its `radius`) is 0: a network that has blown up into saturation has no curvature, and
    is not to be called stable for it.
    """
    if edge.reason is not None or radius == 0.0:
        return Estimate(None, reason=edge.reason or SATURATED)
    if edge.scale is None:
        return None
    scale = edge.scale
    return Estimate(scale * (lambda_max.value or 0.0), error=scale * (lambda_max.error or 0.0))


def sharpness_score(ratio: Estimate) -> Estimate:
    """100·r/(1 + r) of the stability ratio r: 0 flat, 50 the edge of stability, 100 infinitely far past it."""
    if ratio.value is None:
        return Estimate(None, reason=ratio.reason)
    r = max(ratio.value, 0.0)
    return Estimate(100 * r / (1 + r), error=100 * (ratio.error or 0.0) / (1 + r) ** 2)

"""Whether a network has learnt something that a fresh start would throw away."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from eigenscope.actions.situation import Situation
from eigenscope.actions.spectral_normalize import spectral_norm
from eigenscope.errors import first_line

_DRAWS = 10  # orders of the weights: of a fresh network none of them is worse than its own but by chance
_LOWER = 0.05  # by how much of it the loss must be under the lowest of theirs,
_REACH = 0.5  # and by how much of the distance between the lowest and the highest
_STRUCTURE = 1.2  # times the σ_max of the same weights in another order; fresh layers come to 1.0, or lower


def learnt(now: Situation, layers: Collection[nn.Module] | None = None) -> str | None:
    """What shows that the weights of `layers` (all) were trained, in a line; None for what a fresh network could be.

    A fresh layer's weights are as good in any other order, a trained layer's are not: compared is the loss over the
    probe with the weights as they are and in ten other orders, and, for a trained network whose last layer is new,
    the largest singular values. Neither the model nor a random stream is touched.
    """
    seen = max((int(b) for name, b in now.model.named_buffers() if name.endswith("num_batches_tracked")), default=0)
    if seen:
        return f"its batch norms have seen {seen:,} batches"
    known = [layer._parameters.get("weight") for layer in (now.model.modules() if layers is None else layers)]
    weights: list[Tensor] = [p for p in known if p is not None and p.ndim >= 2 and p.requires_grad]
    try:
        loss, others = _losses(now, weights)
    except Exception as error:
        return f"whether it has learnt can't be told from the probe: {first_line(error)}"
    if _clearly_lower(loss, others):
        lowest = min(others)
        return f"its loss on the probe is {loss:.4g}, and with its weights in another order at least {lowest:.4g}"
    structure = _structure(weights)
    if structure > _STRUCTURE:
        return f"the σ_max of its weights is {structure:.2g} times that of the same weights in another order"
    return None


def _clearly_lower(loss: float, others: list[float]) -> bool:
    """By factors, where all are positive: those of an exploding network lie many powers of ten apart."""
    known = [other for other in others if math.isfinite(other)]
    if not known or not math.isfinite(loss):
        return math.isfinite(loss)
    lowest, highest = min(known), max(known)
    if min(loss, lowest) > 0:
        loss, lowest, highest = math.log(loss), math.log(lowest), math.log(highest)
        return lowest - loss > max(_REACH * (highest - lowest), _LOWER)
    return lowest - loss > max(_REACH * (highest - lowest), _LOWER * abs(lowest))


def _losses(now: Situation, weights: list[Tensor]) -> tuple[float, list[float]]:
    """The loss over the probe, and those with the weights in other orders."""
    probe, drawn, generators = now.probe(), set(weights), _Generators()

    def loss(leaves: list[Any] | None) -> float:
        with probe.isolated(leaves), torch.no_grad():
            losses = [float(probe.loss_fn(probe.model, batch)) for batch in probe.batches]
        mean = sum(share * one for share, one in zip(probe.weights, losses, strict=True))
        return math.inf if math.isnan(mean) else mean

    def other() -> list[Any]:
        return [_shuffled(p, generators) if p in drawn else p.detach() for p in probe.parameters.tensors]

    return loss(None), [loss(other()) for _ in range(_DRAWS)]


def _structure(weights: list[Tensor]) -> float:
    """By what σ_max is larger than in another order: the median over the layers, of which the last may be new."""
    generators, found = _Generators(), []
    for weight in weights:
        other = statistics.median(float(spectral_norm(_shuffled(weight, generators), None)[0]) for _ in range(3))
        own = float(spectral_norm(weight.detach(), None)[0])
        if own > 0 and other > 0:
            found.append(own / other)
    return statistics.median(found) if found else 1.0


class _Generators(dict[torch.device, torch.Generator]):
    """A random stream of its own for each device."""

    def __missing__(self, device: torch.device) -> torch.Generator:
        self[device] = torch.Generator(device).manual_seed(0)
        return self[device]


def _shuffled(weight: Tensor, generators: _Generators) -> Tensor:
    order = torch.randperm(weight.numel(), generator=generators[weight.device], device=weight.device)
    return weight.detach().flatten()[order].view_as(weight)

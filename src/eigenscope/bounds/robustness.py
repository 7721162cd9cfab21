"""What a bound promises a sample, and what an attack finds.

**Certified radius.** If c·f(x) for c = e_y − e_j is L_yj-Lipschitz, no change of norm below margin_j/L_yj lets class j
overtake y (Tsuzuku, Sato & Sugiyama 2018, with the constant of each pair where the last layer is dense, else √2·L).

**Attacked radius.** Steps along the gradient of the margin, projected on a sphere around the sample (Madry et al.
2018), whose radius shrinks after a step that flips the answer and grows after one that does not (Rony et al. 2019),
first towards the class that is nearest to first order; then a bisection along the best direction. It is the norm of a
change that was seen to flip the answer: the least such change is at most that long, and at least the certified radius.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.bounds.local import LocalModel
from eigenscope.bounds.norms import ROUNDING

ATTACK_STEPS = 60
_BISECTIONS = 10
_TARGETS = 9  # other classes that the nearest one is chosen from
_FURTHEST = 100.0  # times the linearized radius: how far the attack looks


@dataclass(frozen=True)
class SampleRobustness:
    """One sample of the probe; radii are ℓ2 norms of a change of the input (of the embedding's output)."""

    index: int
    label: int | None
    predicted: int
    margin: float  # the label's logit (the predicted class's, without labels) − the largest other
    certified_radius: float | None
    attacked_radius: float | None  # None: none was found that flips it
    searched_radius: float | None  # how far the attack looked


@dataclass(frozen=True)
class Margins:
    """Of some samples: logits − those of the own class, turned round."""

    own: Tensor  # class numbers
    predicted: Tensor
    gaps: Float[Tensor, "samples classes"]  # own logit − each other's; +inf at the own

    @property
    def margin(self) -> Tensor:
        return self.gaps.min(1).values


def margins(logits: Float[Tensor, "samples classes"], labels: Tensor | None) -> Margins:
    """By the labels where they are class numbers, else by the predicted class."""
    predicted = logits.argmax(1)
    own = predicted if labels is None else labels.to(predicted)
    gaps = logits.gather(1, own[:, None]) - logits
    return Margins(own, predicted, gaps.scatter(1, own[:, None], math.inf))


def certified_radii(
    found: Margins, logits: Tensor, lipschitz: float, gram: Float[Tensor, "classes classes"] | None
) -> Float[Tensor, " samples"]:
    """The radius below which the answer can't change; 0 where it is wrong already."""
    constants = torch.full(found.gaps.shape, math.sqrt(2) * lipschitz, dtype=torch.float64)
    own = found.own.cpu()
    if gram is not None:
        diagonal = gram.diagonal()
        sums = diagonal[:, None] + diagonal  # the difference of equal rows cancels: its rounding is that of the sums
        pairs = (sums - 2 * gram + ROUNDING * sums).clamp_min(0).sqrt()[own] * (1 + ROUNDING)
        constants = torch.minimum(constants, pairs)
    rounding = 64 * torch.finfo(logits.dtype).eps * logits.detach().abs().max(1, keepdim=True).values
    gaps = (found.gaps - rounding).double().cpu()
    radii = torch.where(gaps > 0, gaps / constants.clamp_min(1e-300), 0.0)
    return radii.min(1).values


def attack_on(
    local: LocalModel, own: Tensor, steps: int = ATTACK_STEPS, on_step: Callable[[], None] = lambda: None
) -> tuple[Float[Tensor, " samples"], Float[Tensor, " samples"]]:
    """The norm of the smallest change found that flips each answer (inf: none), and how far was looked."""
    start = local.points.detach()
    target = _nearest(local, own)
    gap, gradient = _gap(local, start, own, target)
    radius = gap.clamp_min(0) / _lengths(gradient).clamp_min(1e-30) * 1.02
    radius = torch.where(torch.isfinite(radius), radius, torch.ones_like(radius))
    limit, furthest = _FURTHEST * radius, torch.zeros_like(radius)
    best = torch.where(gap <= 0, torch.zeros_like(radius), torch.full_like(radius, math.inf))
    found, points = start.clone(), start
    for step in range(steps):
        rate = 0.02 + 0.28 * (1 + math.cos(math.pi * step / steps)) / 2  # of the radius: Rony et al.'s annealing
        moved = points - start - _along(gradient) * _column(rate * radius.clamp_min(1e-12) * 3, start)
        points = start + _along(moved) * _column(radius, start)
        gap, gradient = _gap(local, points, own, target if step < steps // 2 else None)
        length = _lengths(points - start)
        better = (gap <= 0) & (length < best)
        best = torch.where(better, length, best)
        found = torch.where(_column(better, start), points, found)
        furthest = torch.maximum(furthest, length)
        radius = torch.where(gap <= 0, length * (1 - rate), radius * (1 + rate)).minimum(limit)
        on_step()
    return _bisected(local, own, found, best), furthest


def _bisected(local: LocalModel, own: Tensor, found: Tensor, best: Tensor) -> Tensor:
    """Shorter changes in the same direction that still flip."""
    start = local.points.detach()
    low, high = torch.zeros_like(best), torch.ones_like(best)
    with torch.no_grad():
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            points = start + (found - start) * _column(middle, start)
            flips = _margin(local(points), own) < 0
            best = torch.where(flips, torch.minimum(best, _lengths(points - start)), best)
            low, high = torch.where(flips, low, middle), torch.where(flips, middle, high)
    return best


def _nearest(local: LocalModel, own: Tensor) -> Tensor:
    """The other class whose boundary is nearest to first order (Moosavi-Dezfooli et al. 2016)."""
    points = local.points.detach().requires_grad_()
    logits = local(points)
    others = logits.detach().scatter(1, own[:, None], -math.inf).topk(min(_TARGETS, logits.shape[1] - 1), 1).indices
    distances = []
    for target in others.unbind(1):
        gap = (logits.gather(1, own[:, None]) - logits.gather(1, target[:, None]))[:, 0]
        (gradient,) = torch.autograd.grad(gap.sum(), points, retain_graph=True)
        distances.append(gap.detach() / _lengths(gradient).clamp_min(1e-30))
    nearest: Tensor = others.gather(1, torch.stack(distances, 1).argmin(1, keepdim=True))[:, 0]
    return nearest


def _gap(local: LocalModel, points: Tensor, own: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor]:
    """Own logit − the largest other, and the gradient of it, or of own logit − the target's."""
    points = points.detach().requires_grad_()
    logits = local(points)
    margin = chased = _margin(logits, own)
    if target is not None:
        chased = (logits.gather(1, own[:, None]) - logits.gather(1, target[:, None]))[:, 0]
    return margin.detach(), torch.autograd.grad(chased.sum(), points)[0]


def _margin(logits: Tensor, own: Tensor) -> Tensor:
    others = logits.scatter(1, own[:, None], -math.inf)
    margin: Tensor = logits.gather(1, own[:, None])[:, 0] - others.max(1).values
    return margin


def _lengths(v: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(v.flatten(1), dim=1, dtype=torch.float64)
    return lengths.to(v.dtype)


def _along(v: Tensor) -> Tensor:
    unit: Tensor = v / _column(_lengths(v).clamp_min(1e-30), v)
    return unit


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))

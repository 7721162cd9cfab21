"""A layer held at a spectral norm."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eigenscope.actions.base import Action
from eigenscope.actions.evidence import Evidence
from eigenscope.actions.hooks import Hooks
from eigenscope.actions.layers import at_fault, flow_helped, measured, named, why_not
from eigenscope.actions.situation import Situation
from eigenscope.errors import InputError

_TOLERANCE = 1e-5
_MOST = 200  # steps of the power method; from the last vector a few are enough


class SpectralNormalize(Action):
    """Scale a layer's weight to σ_max ≤ `target`, now and after each step of the optimizer.

    σ_max is that of the weight as a matrix of output × inputs (for a convolution input channels × taps, as in Miyato
    et al.; its norm as a map of images may be up to the square root of the number of taps larger). The weight stays
    where it is in the model, no key of a state dict changes; `hold=False` scales once.

    Miyato, Kataoka, Koyama & Yoshida 2018; Gouk, Frank, Pfahringer & Cree 2021 (projection after each step).
    """

    name = "spectral_normalize"
    rules: ClassVar[tuple[str, ...]] = ("signal_flow",)
    words = "NORMALIZE THE LAYER"
    criterion = "the gradient's norm gets at most half as far from where it began"
    changes_weights = True

    def __init__(self, layers: Sequence[str] | None = None, *, target: float = 1.0, hold: bool = True) -> None:
        if not target > 0:
            raise InputError(f"target={target:g}: a norm over 0 is needed")
        self.layers, self.target, self.hold = layers, target, hold
        self._hooks = Hooks(partial(setattr, self, "problem"))
        self._held: dict[str, nn.Module] = {}
        self._vectors: dict[str, Tensor] = {}

    def can_apply(self, now: Situation) -> str | None:
        if self._hooks.on:
            return f"{', '.join(self._held)} is normalized already"
        if self.hold and now.optimizer is None:
            return "there is no optimizer whose steps could be followed: pass optimizer=, or hold=False"
        return why_not(now, self.layers, ("exploding",))

    def apply(self, now: Situation) -> dict[str, object]:
        layers = at_fault(now, measured(now)) if self.layers is None else named(now.model, self.layers)
        if not layers:
            raise InputError("no single layer is at fault: name one, layers=[...]")
        self._held, self._vectors, self.problem = layers, {}, None
        found = self._project()
        if self.hold and now.optimizer is not None:
            self._hooks.add(now.optimizer, after=self._project)
        return {"sigma_max": {name: [sigma, min(sigma, self.target)] for name, sigma in found.items()}}

    def undo(self, now: Situation) -> None:
        self._hooks.remove()

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        return flow_helped(before, after)

    @torch.no_grad()
    def _project(self, *_: Any) -> dict[str, float]:
        """Scale what is over the target; returns the norms before."""
        weights = {name: layer.get_parameter("weight") for name, layer in self._held.items()}
        found = {name: spectral_norm(weight, self._vectors.get(name)) for name, weight in weights.items()}
        for name, (sigma, self._vectors[name]) in found.items():
            weights[name].mul_((self.target / sigma.clamp(min=self.target)).to(weights[name].dtype))
        return {name: float(sigma) for name, (sigma, _) in found.items()}


def spectral_norm(weight: Tensor, start: Float[Tensor, " m"] | None) -> tuple[Tensor, Float[Tensor, " m"]]:
    """σ_max of a weight as a matrix of output × inputs by the power method, and the vector that it ended at."""
    matrix = weight.flatten(1).to(torch.promote_types(weight.dtype, torch.float32))
    generator = torch.Generator(weight.device).manual_seed(0)
    noise = torch.randn(matrix.shape[1], generator=generator, dtype=matrix.dtype, device=weight.device)
    noise /= torch.linalg.vector_norm(noise)
    v = noise if start is None else start + 0.1 * noise  # another direction may have taken the lead
    sigma = matrix.new_zeros(())
    for _ in range(_MOST):
        v = v / torch.linalg.vector_norm(v).clamp(min=1e-30)
        u = matrix @ v
        last, sigma = sigma, torch.linalg.vector_norm(u)
        v = matrix.T @ (u / sigma.clamp(min=1e-30))
        if abs(sigma - last) <= _TOLERANCE * sigma:
            break
    return torch.linalg.vector_norm(v).maximum(sigma), v

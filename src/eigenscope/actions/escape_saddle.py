"""Off a saddle: a step along the certified direction of negative curvature."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from eigenscope.actions.base import Action
from eigenscope.actions.evidence import Evidence
from eigenscope.actions.held import not_held
from eigenscope.actions.situation import Situation
from eigenscope.diagnostics.extremes import extremes
from eigenscope.errors import InputError
from eigenscope.escape import escape_along, loss_at
from eigenscope.estimators import RitzPairs, lanczos
from eigenscope.operators import HessianOperator

_FIRST_TEST = 12  # products before it may be content: fewer find too few directions
_ROUGH = 0.1  # residual over |λ| at which the lowest eigenvector is known well enough to go along
_FLAT = 1e-2  # of the loss: a random step that changes it by less is too short to leave a plateau


class EscapeSaddle(Action):
    """Move the parameters along a direction in which the loss certainly curves down.

    Of the Hessian's Ritz vectors those count that are certified: Ritz value plus residual are negative by more than
    the noise floor. The direction is all of them together, each with the same weight, its sign against the gradient
    (`directions=1`: the lowest alone, after which a symmetric saddle often leads to the next one). The length is found
    by a line search on the measured loss, which doubles while the loss falls. Where no negative curvature can be
    certified, or no step along it lowers the loss, a random step is taken instead, if it is allowed (`random=True`): a
    saddle is left by noise too, only slower. Its length is `radius` · (1 + ‖θ‖); without a gradient it is doubled while
    the loss stays as it is, for on a plateau a short one would change nothing for long.

    Jin, Ge, Netrapalli, Kakade & Jordan 2017 (perturbation); Royer & Wright 2018 (steps along negative curvature with
    a line search).
    """

    name = "escape_saddle"
    rules: ClassVar[tuple[str, ...]] = ("saddle",)
    words = "PAUSE & PERTURB"
    criterion = "the loss of the probe is lower by a hundredth, or no higher and the point no saddle any more"
    changes_weights = True

    def __init__(
        self,
        *,
        max_matvecs: int = 40,
        directions: int | None = None,
        trials: int = 12,
        random: bool = True,
        radius: float = 0.01,
        seed: int = 0,
    ) -> None:
        if max_matvecs < 8 or trials < 1:
            raise InputError(f"max_matvecs={max_matvecs}, trials={trials}: at least 8 and 1 are needed")
        if directions is not None and directions < 1:
            raise InputError(f"directions={directions}: at least 1 is needed, or None for all")
        if not radius > 0:
            raise InputError(f"radius={radius:g}: a length over 0 is needed")
        self.max_matvecs, self.trials, self.random, self.radius = max_matvecs, trials, random, radius
        self.directions, self.seed = directions, seed
        self._times = 0

    def can_apply(self, now: Situation) -> str | None:
        if now.reading is not None and now.reading.verdict != "saddle":
            return f"the parameters are at no saddle: {now.reading.verdict_reason}"
        return None if now.optimizer is None else not_held(now.model, now.optimizer)

    def apply(self, now: Situation) -> dict[str, object]:
        with now.hessian() as operator:
            self._times += 1
            generator = operator.space.generator(self.seed + self._times)  # another direction if it is applied again
            direction, curvature, certified = self._downward(operator, generator)
            plan = escape_along(operator, direction, curvature, self.trials) if certified else None
            before = operator.loss
            if plan is not None:
                move, how = plan.sign * plan.step * direction, "negative curvature"
            elif self.random:
                move, how = self._random(operator, generator), "random"
            else:
                what = "no step along it lowers the loss" if certified else "none could be certified"
                raise InputError(f"there is no way down along negative curvature: {what}")
            parameters = operator.probe.parameters
            _add(parameters.tensors, parameters.split(move))
        return {
            "direction": how,
            "step": operator.space.norm(move),
            "directions": certified,
            "curvature": curvature if certified else None,
            "loss": [before, before - plan.measured] if plan else None,
            "products": operator.num_matvecs,
        }

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        if before.reading is None or after.reading is None or after.reading is before.reading:
            return None
        old, new = before.reading.loss, after.reading.loss
        lower, higher = new < old - _FLAT * abs(old), new > old + _FLAT * abs(old)
        return lower or (after.reading.verdict != "saddle" and not higher)

    def _downward(self, operator: HessianOperator, generator: torch.Generator) -> tuple[Tensor, float, int]:
        """A direction, the curvature along it, and how many certified ones it is made of; 0 if none is certain."""
        space = operator.space
        krylov = lanczos(
            operator,
            space.random(generator),
            steps=self.max_matvecs,
            generator=generator,
            stop=self._settled,
            first_test=_FIRST_TEST,
            max_basis=max(int(min(operator.memory_limit / (16 * space.size), self.max_matvecs)), 8),
        )
        pairs = krylov.ritz()
        ends = extremes(krylov)
        errors = pairs.residuals + krylov.noise
        certain = np.flatnonzero(pairs.values + errors < -ends.noise_floor)[: self.directions]
        if not len(certain):
            return space.random(generator), 0.0, 0
        vectors = krylov.vectors(pairs.coefficients[:, certain])
        values = torch.as_tensor(pairs.values[certain], dtype=space.dtype, device=space.device)
        slopes = vectors @ operator.gradient
        chance = torch.randn(len(certain), generator=generator, device=space.device).to(slopes)
        # equal weights: weighted by |λ| the steepest would end the line search before the others have gone anywhere
        weights = -torch.where(slopes == 0.0, chance, slopes).sign() / len(certain) ** 0.5
        return weights @ vectors, float(weights.square() @ values), len(certain)

    def _settled(self, pairs: RitzPairs) -> bool:
        """Whether the lowest pairs are known: more products would only find more of them."""
        lowest = slice(self.directions or 1)
        values, residuals = pairs.values[lowest], pairs.residuals[lowest]
        within = 1e-3 if self.directions else _ROUGH
        return bool((residuals <= within * np.abs(values)).all() and values[0] < -1e-3 * np.abs(pairs.values).max())

    def _random(self, operator: HessianOperator, generator: torch.Generator) -> Tensor:
        parameters, space = operator.probe.parameters, operator.space
        theta = parameters.join(parameters.tensors, space.dtype)
        length = self.radius * (1 + space.norm(theta))
        move = length * space.random(generator)
        flat = length * space.norm(operator.gradient) < _FLAT * abs(operator.loss)
        for _ in range(self.trials if flat else 0):
            if abs(loss_at(operator, theta + 2 * move) - operator.loss) > _FLAT * abs(operator.loss):
                break
            move = 2 * move
        return move


@torch.no_grad()
def _add(tensors: tuple[Tensor, ...], parts: list[Tensor]) -> None:
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.add_(part)

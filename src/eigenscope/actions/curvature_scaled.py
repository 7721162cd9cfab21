"""A step of its own length along each of the sharpest directions."""

from __future__ import annotations

from functools import partial, reduce
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from eigenscope.actions.base import Action
from eigenscope.actions.evidence import Evidence, loss_helped
from eigenscope.actions.gradients import is_skipped, unscaled
from eigenscope.actions.held import not_held
from eigenscope.actions.hooks import Hooks, in_a_line
from eigenscope.actions.situation import Situation
from eigenscope.actions.tracking import Tracker
from eigenscope.diagnostics.stability import stability_edge
from eigenscope.errors import InputError, MeasurementError
from eigenscope.estimators import Krylov, RitzPairs, lanczos
from eigenscope.operators import HessianOperator, Operator
from eigenscope.operators.probe import BatchWeight, LossFunction

_SOUND = 0.1  # a Ritz pair whose residual is more than this of its value is not used


class CurvatureScaledStep(Action):
    """Divide the gradient by |λ| along the `top` eigenvectors of the Hessian; elsewhere step as the optimizer says.

    ::

        scaled = es.actions.CurvatureScaledStep(top=10).bind(model, loss_fn, batches, optimizer)

    Δθ = (I − VVᵀ)Δ − rate · V|Λ|⁻¹Vᵀg: Δ is the optimizer's own step, g the gradient, λ and V the eigenpairs of largest
    |λ|, measured anew every `every` steps on the probe. Without the sharpest directions the edge of stability lies at
    the next eigenvalue: `lift` lengthens the optimizer's step elsewhere until it stands at that share of the edge
    (SGD, with momentum or without). Dividing by |λ| and not by λ leaves saddles (Dauphin et al. 2014).

    It keeps `top` vectors of the size of the model. The optimizer must hold all that is trainable in it: what another
    one trains, or none, is not moved from here. With a closure it works with the gradient that this has computed.
    """

    name = "curvature_scaled_step"
    rules: ClassVar[tuple[str, ...]] = ("ill_conditioned", "stretched")
    words = "SCALE THE STEP BY CURVATURE"
    criterion = "the loss falls faster than it did before, by more than its noise"
    checks = 2

    def __init__(
        self,
        top: int = 10,
        *,
        every: int = 20,
        rate: float = 1.0,
        lift: float | None = None,
        max_matvecs: int = 60,
        tolerance: float = 1e-2,
        seed: int = 0,
    ) -> None:
        if top < 1 or every < 1 or max_matvecs < 2:
            raise InputError(f"top={top}, every={every}, max_matvecs={max_matvecs}: at least 1, 1 and 2 are needed")
        for name, value in (("rate", rate), ("lift", lift), ("tolerance", tolerance)):
            if value is not None and not value > 0:
                raise InputError(f"{name}={value:g}: a number over 0 is needed")
        self.top, self.every, self.rate, self.lift = top, every, rate, lift
        self.max_matvecs, self.tolerance, self.seed = max_matvecs, tolerance, seed
        self.num_matvecs = self.num_measurements = 0
        self.eigenvalues: NDArray[np.float64] = np.zeros(0)
        self.boost = 1.0
        self._hooks = Hooks(partial(setattr, self, "problem"))
        self._now: Situation | None = None
        self._vectors: Float[Tensor, "k n"] | None = None
        self._left = 0
        self._old: Tensor | None = None
        self._along: Tensor | None = None

    def bind(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        batches: Any,
        optimizer: torch.optim.Optimizer,
        *,
        batch_weight: BatchWeight | None = None,
    ) -> CurvatureScaledStep:
        """Measure, and change this optimizer's steps from the next on."""
        now = Situation(model, optimizer, loss_fn, batches, batch_weight)
        if why := self.can_apply(now):
            raise InputError(why)
        self.apply(now)
        return self

    def release(self) -> None:
        """Leave the steps to the optimizer again."""
        self._hooks.remove()
        self._vectors = self._old = self._along = None

    def can_apply(self, now: Situation) -> str | None:
        if now.optimizer is None:
            return "there is no optimizer whose steps could be scaled: pass optimizer="
        if self._hooks.on:
            return "the steps are scaled by curvature already"
        if isinstance(now.optimizer, torch.optim.LBFGS):
            return "LBFGS steps by a curvature of its own, several times for each gradient"
        return not_held(now.model, now.optimizer)

    def apply(self, now: Situation) -> dict[str, object]:
        assert now.optimizer is not None
        self._now, self.problem = now, None
        self._measure()
        self._hooks.add(now.optimizer, before=self._before, gradient=self._project, after=self._after)
        return {"eigenvalues": self.eigenvalues.tolist(), "boost": self.boost, "products": self.num_matvecs}

    def undo(self, now: Situation) -> None:
        self.release()

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        return loss_helped(before, after)

    # -- the step -------------------------------------------------------------------------------------------------

    def _before(self, *_: Any) -> None:
        """Before a closure too, which may go elsewhere and come back."""
        self._old = self._along = None
        try:
            if self._left <= 0:
                self._measure()
        except Exception as error:  # the last eigenpairs go on
            self._left = self.every
            self.problem = in_a_line(error)
        self._left -= 1
        parameters = self._parameters()
        if self._vectors is not None and self._vectors.shape[1] == sum(p.numel() for p in parameters):
            self._old = _flat(parameters).to(self._vectors)

    @torch.no_grad()
    def _project(self, optimizer: torch.optim.Optimizer) -> None:
        if self._old is None or self._vectors is None or is_skipped(optimizer):
            return
        own = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in self._parameters()]
        gradient = unscaled(optimizer, _flat(own).to(self._vectors))
        values = torch.as_tensor(self.eigenvalues, dtype=gradient.dtype, device=gradient.device)
        self._along = -self.rate * (self._vectors @ gradient) / values.abs()

    @torch.no_grad()
    def _after(self, *_: Any) -> None:
        if self._old is None or self._along is None or self._vectors is None:
            return
        parameters = self._parameters()
        step = _flat(parameters).to(self._old) - self._old
        rest = step - self._vectors.T @ (self._vectors @ step)
        new = self._old + self.boost * rest + self._vectors.T @ self._along
        for p, part in zip(parameters, torch.split(new, [p.numel() for p in parameters]), strict=True):
            p.copy_(part.view_as(p))
        self._old = self._along = None

    def _parameters(self) -> list[nn.Parameter]:
        assert self._now is not None
        return [p for p in self._now.model.parameters() if p.requires_grad]

    # -- the eigenpairs -------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        assert self._now is not None
        with self._now.hessian() as operator:
            krylov = self._krylov(operator)
            pairs = krylov.ritz()
            order = np.argsort(-np.abs(pairs.values))
            sound = pairs.residuals <= _SOUND * np.abs(pairs.values)
            chosen = np.array([i for i in order[: self.top] if sound[i] and pairs.values[i] != 0.0], dtype=int)
            self.num_matvecs += operator.num_matvecs
            self.num_measurements += 1
            if not len(chosen):
                raise MeasurementError(f"no eigenvalue has settled after {krylov.num_matvecs} products")
            dtype = reduce(torch.promote_types, (p.dtype for p in operator.probe.parameters.tensors))
            self._vectors = krylov.vectors(pairs.coefficients[:, chosen]).to(dtype)
            self.eigenvalues = pairs.values[chosen]
            self.boost = self._boost(operator)
        self._left = self.every

    def _krylov(self, operator: HessianOperator) -> Krylov:
        space = operator.space
        generator = space.generator(self.seed + self.num_measurements)
        start = space.random(generator)
        if self._vectors is not None and self._vectors.shape[1] == space.size:
            signs = torch.randn(len(self._vectors), generator=generator, device=start.device).sign()
            start = signs.to(start) @ self._vectors.to(start) + 0.3 * start

        def settled(pairs: RitzPairs) -> bool:
            largest = np.argsort(-np.abs(pairs.values))[: self.top]
            return bool((pairs.residuals[largest] <= self.tolerance * np.abs(pairs.values[largest])).all())

        return lanczos(
            operator, start, steps=self.max_matvecs, generator=generator, stop=settled, first_test=self.top + 2,
            memory_limit=operator.memory_limit / 2,
        )  # fmt: skip

    def _boost(self, operator: HessianOperator) -> float:
        """By what the step may be longer where the sharpest directions are taken out of it.

        The next eigenvalue is looked for afresh: a Krylov space holds one vector of each eigenvalue, and knows of no
        multiple ones.
        """
        assert self._now is not None
        assert self._vectors is not None
        edge = stability_edge(self._now.optimizer, self._parameters())
        if self.lift is None or not edge.scale:
            return 1.0
        rest = _Deflated(operator, self._vectors.to(operator.space.dtype))
        tracker = Tracker(0.01, self.seed + self.num_measurements)
        following = tracker.measure(rest, operator.gradient, memory_limit=operator.memory_limit / 2)
        self.num_matvecs += tracker.num_matvecs
        return max(1.0, self.lift / (edge.scale * following)) if following > 0 else 1.0


class _Deflated(Operator):
    """(I − VVᵀ)A(I − VVᵀ)."""

    def __init__(self, operator: Operator, vectors: Float[Tensor, "k n"]) -> None:
        self.operator, self.vectors, self.space = operator, vectors, operator.space

    def _matvec(self, v: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self._without(self.operator @ self._without(v))

    def _without(self, v: Tensor) -> Tensor:
        return v - self.vectors.T @ (self.vectors @ v)


def _flat(tensors: list[nn.Parameter] | list[Tensor]) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])

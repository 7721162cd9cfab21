"""Gradients clipped at a norm from the run's own history."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from eigenscope.actions.base import Action
from eigenscope.actions.evidence import Evidence, loss_helped
from eigenscope.actions.gradients import gradient_norm, gradients
from eigenscope.actions.hooks import Hooks
from eigenscope.actions.situation import Situation
from eigenscope.errors import InputError


class ClipGradients(Action):
    """Scale each step's gradient to a norm of at most a quantile of the norms so far.

    ::

        clip = es.actions.ClipGradients(quantile=0.9).bind(optimizer)

    The norm is that of all the optimizer's gradients together (but for sparse ones, which pass as they are), before
    clipping, over the last `window` steps that it has seen; nothing is clipped before `least` norms are known.
    `max_norm` sets a fixed value instead. It bounds a step, not the growth of a gradient over the depth. With a closure
    it clips what that has computed; a `GradScaler` may stand before it, with a fused optimizer too.

    Pascanu, Mikolov & Bengio 2013; Seetharaman, Wichern, Pardo & Le Roux 2020 (AutoClip: the quantile).
    """

    name = "clip_gradients"
    rules: ClassVar[tuple[str, ...]] = ("signal_flow", "loss_rise")
    words = "CLIP THE GRADIENT"
    criterion = "the loss falls faster than it did before, by more than its noise"

    def __init__(
        self, *, quantile: float = 0.9, window: int = 1000, least: int = 10, max_norm: float | None = None
    ) -> None:
        if not 0 < quantile <= 1:
            raise InputError(f"quantile={quantile:g}: over 0 and at most 1 is needed")
        if window < 1 or least < 1:
            raise InputError(f"window={window}, least={least}: at least 1 norm is needed")
        if max_norm is not None and not max_norm > 0:
            raise InputError(f"max_norm={max_norm:g}: a norm over 0 is needed")
        self.quantile, self.window, self.least, self.max_norm = quantile, window, min(least, window), max_norm
        self._hooks = Hooks(partial(setattr, self, "problem"))
        self._norms: Tensor | None = None  # a ring of the last norms, on the gradients' device: nothing waits for it
        self._count = 0

    @property
    def value(self) -> float | None:
        """The norm that would be let through now; None while too few norms are known."""
        value = self._value()
        return None if value is None else float(value)

    def bind(self, optimizer: torch.optim.Optimizer) -> ClipGradients:
        """Clip this optimizer's gradients from its next step on."""
        if why := self._why_not(optimizer):
            raise InputError(why)
        self.problem = None
        self._hooks.add(optimizer, gradient=self._clip)
        return self

    def release(self) -> None:
        """Let the gradients through again."""
        self._hooks.remove()

    def can_apply(self, now: Situation) -> str | None:
        if now.optimizer is None:
            return "there is no optimizer whose gradients could be clipped: pass optimizer="
        return self._why_not(now.optimizer)

    def apply(self, now: Situation) -> dict[str, object]:
        assert now.optimizer is not None
        self.bind(now.optimizer)
        return {"max_norm": self.value, "quantile": self.quantile, "norms_known": min(self._count, self.window)}

    def undo(self, now: Situation) -> None:
        self.release()

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        return loss_helped(before, after)

    def _why_not(self, optimizer: torch.optim.Optimizer) -> str | None:
        if isinstance(optimizer, torch.optim.LBFGS):
            return "LBFGS searches along a line by its gradients: clipped, they would mislead it"
        return "the gradients are clipped already" if self._hooks.on else None

    @torch.no_grad()
    def _clip(self, optimizer: torch.optim.Optimizer) -> None:
        norm = gradient_norm(optimizer)
        if norm is None:
            return
        value = self._value()
        if value is not None:
            scale = torch.where(norm > value, value / norm, torch.ones_like(norm))
            for gradient in gradients(optimizer):
                gradient.mul_(scale.to(gradient.device))
        self._note(norm)

    def _value(self) -> Tensor | float | None:
        if self.max_norm is not None:
            return self.max_norm
        if self._norms is None or self._count < self.least:
            return None
        return torch.nanquantile(self._norms[: min(self._count, self.window)], self.quantile)

    def _note(self, norm: Tensor) -> None:
        if self._norms is None:
            self._norms = torch.full((self.window,), torch.nan, device=norm.device)
        self._norms[self._count % self.window] = torch.where(norm.isfinite(), norm, torch.nan)
        self._count += 1

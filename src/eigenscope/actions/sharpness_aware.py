"""Steps that look at the loss around them: SAM and ASAM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from eigenscope.actions.base import Action
from eigenscope.actions.closures import Call, Closure, bare, closure_of, with_closure
from eigenscope.actions.evidence import Evidence
from eigenscope.actions.gradients import norm_of
from eigenscope.actions.hooks import Hooks
from eigenscope.actions.situation import Situation
from eigenscope.errors import InputError

_ETA = 0.01  # what ASAM adds to |w|, by its authors' code


class SharpnessAware(Action):
    """Take each step with the gradient at the worst point nearby, θ + ε with ε = ρ g/‖g‖.

    ::

        sam = es.actions.SharpnessAware(model, optimizer, rho=0.05)
        loss = sam.step(lambda: loss_fn(model, batch))

    `adaptive` measures "nearby" in units of each weight (ASAM): ε = ρ T²g/‖Tg‖, T = |w| + 0.01 for weights and 1 for
    biases. It costs a second gradient a step; the running statistics of batch norm and instance norm are those of the
    first. Parameters with sparse gradients stay where they are. As an action it changes what `optimizer.step(closure)`
    does, for `steps` steps (None: without end): the loop must hand a closure. Used alone, as above, it has no end.

    Foret, Kleiner, Mobahi & Neyshabur 2021; Kwon, Kim, Park & Choi 2021. Whether it generalizes better depends on the
    task: what was measured here stands in the benchmarks.
    """

    name = "sharpness_aware"
    rules: ClassVar[tuple[str, ...]] = ("edge_of_stability", "adaptive_edge")
    words = "STEP SHARPNESS-AWARE"
    criterion = "λmax is smaller by a tenth, and the loss is not more than a tenth higher"
    checks = 2

    def __init__(
        self,
        model: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        rho: float | None = None,
        adaptive: bool = False,
        steps: int | None = 1000,
    ) -> None:
        if rho is not None and not rho > 0:
            raise InputError(f"rho={rho:g}: a radius over 0 is needed")
        if steps is not None and steps < 1:
            raise InputError(f"steps={steps}: at least 1 is needed, or None for no end")
        self.model, self.optimizer, self.adaptive, self.steps = model, optimizer, adaptive, steps
        self.rho = rho if rho is not None else 0.5 if adaptive else 0.05  # of the two papers
        self.steps_done = 0
        self._hooks = Hooks(partial(setattr, self, "problem"))

    # -- alone ----------------------------------------------------------------------------------------------------

    def step(self, loss: Callable[[], Tensor]) -> Tensor:
        """One step of the optimizer; `loss()` runs the model on the batch. Returns the loss at θ."""
        if self.optimizer is None:
            raise InputError("there is nothing to step: SharpnessAware(model, optimizer)")

        def gradient() -> Tensor:
            assert self.optimizer is not None
            self.optimizer.zero_grad()
            value = loss()
            value.backward()  # type: ignore[no-untyped-call]
            return value.detach()

        value = gradient()
        self._gradient_nearby(gradient)
        self.optimizer.step()
        return value

    # -- as an action ---------------------------------------------------------------------------------------------

    def can_apply(self, now: Situation) -> str | None:
        if now.optimizer is None:
            return "there is no optimizer whose steps could be changed: pass optimizer="
        if isinstance(now.optimizer, torch.optim.LBFGS):
            return "LBFGS asks for the gradient at several points itself"
        if self._hooks.on:
            return "the steps are sharpness-aware already"
        return None if now.closure else "the loop calls optimizer.step() without a closure: a second gradient needs one"

    def apply(self, now: Situation) -> dict[str, object]:
        assert now.optimizer is not None
        self.model, self.optimizer, self.steps_done, self.problem = now.model, now.optimizer, 0, None
        self._hooks.add(now.optimizer, before=self._before, after=self._after)
        return {"rho": self.rho, "adaptive": self.adaptive, "steps": self.steps}

    def undo(self, now: Situation) -> None:
        self._hooks.remove()

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        sharp, now = before.number("lambda_max"), after.number("lambda_max")
        if sharp is None or now is None or before.loss is None or after.loss is None:
            return None
        return now < 0.9 * sharp and after.loss <= 1.1 * before.loss

    def _before(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        closure = closure_of(args, kwargs)
        if closure is None:
            self.problem = "optimizer.step() was called without a closure: the steps are plain ones"
            return None
        return with_closure(args, kwargs, partial(self._evaluate, closure))

    def _after(self, *_: Any) -> None:
        if self.steps is not None and self.steps_done >= self.steps:
            self._hooks.silence()

    def _evaluate(self, closure: Closure) -> Any:
        """What the optimizer evaluates in the closure's place; where it fails, the step is a plain one."""
        loss = bare(closure)()  # what it raises is the loop's own; what follows it waits for the gradient to step by
        try:
            self._gradient_nearby(closure)
        except Exception as error:
            self._hooks.fail(error)
            with _statistics_kept(self.model):
                closure()
        return loss

    # -- the gradient ---------------------------------------------------------------------------------------------

    def _gradient_nearby(self, gradient: Closure) -> None:
        """From the gradient at θ in `.grad` to that at θ + ε; the parameters stay at θ."""
        parameters = self._parameters()
        kept = [(p, p.detach().clone()) for _, p in parameters]
        try:
            self._climb(parameters)
            with _statistics_kept(self.model):
                gradient()
        finally:
            with torch.no_grad():
                for p, value in kept:
                    p.copy_(value)
        self.steps_done += 1

    def _parameters(self) -> list[tuple[bool, Tensor]]:
        """Whether it is a weight, and the parameter, of those that have a dense gradient."""
        assert self.optimizer is not None
        names = {p: name for name, p in self.model.named_parameters()} if self.model is not None else {}
        every = (p for group in self.optimizer.param_groups for p in group["params"])
        return [("weight" in names.get(p, "weight"), p) for p in every if _dense(p)]

    @torch.no_grad()
    def _climb(self, parameters: list[tuple[bool, Tensor]]) -> None:
        scales = [p.abs() + _ETA if self.adaptive and weight else torch.ones_like(p) for weight, p in parameters]
        gradients = [p.grad for _, p in parameters if p.grad is not None]
        scaled = [t * g for t, g in zip(scales, gradients, strict=True)]
        if not scaled:
            return
        norm = norm_of(scaled)
        length = self.rho / norm.clamp(min=torch.finfo(norm.dtype).tiny)
        for (_, p), t, part in zip(parameters, scales, scaled, strict=True):
            p.add_(t * part * length.to(p.device))


def _dense(parameter: Tensor) -> bool:
    return parameter.grad is not None and parameter.grad.layout == torch.strided


@contextmanager
def _statistics_kept(model: nn.Module | None) -> Iterator[None]:
    norms = [m for m in model.modules() if isinstance(m, _NormBase)] if model is not None else []
    buffers = [(b, b.clone()) for m in norms for b in m.buffers()]
    try:
        yield
    finally:
        for buffer, value in buffers:
            buffer.copy_(value)

"""Another optimizer in mid-run, with the groups and the schedule of the old one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any, ClassVar

import torch
from torch import nn

from eigenscope.actions.base import Action
from eigenscope.actions.evidence import Evidence, loss_helped
from eigenscope.actions.grafting import grafted_rate
from eigenscope.actions.muon import MuonWithAdamW, muon_groups
from eigenscope.actions.situation import Situation
from eigenscope.diagnostics.step_factor import StepControl, step_controls
from eigenscope.errors import InputError
from eigenscope.words import did_you_mean

Factory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
_RATE = 1e-3  # AdamW's own default, where SGD has no step yet; Muon's step is scaled to AdamW's
_PRECONDITIONED = {"Adam", "NAdam", "RAdam", "SparseAdam", "Adamax", "Adagrad", "Adadelta", "Adafactor", "RMSprop",
                   "Rprop", "LBFGS", "Muon", "MuonWithAdamW", "SOAP", "Shampoo", "ScalableShampoo"}  # fmt: skip
_NAMES = ("adamw", "muon", "shampoo", "soap")
_RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")  # of a group, those of schedulers included
_SCHEDULED = ("optimizer", "base_lrs", "min_lrs", "max_lrs", "_last_lr", "lr_lambdas", "eta_min", "use_beta1")
_HANDED_OVER = ("step", "zero_grad", "state_dict", "load_state_dict", "add_param_group", "__reduce_ex__")
_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


class SwitchOptimizer(Action):
    """Go on with a preconditioned method: AdamW, or Muon for hidden matrices (and AdamW for the rest).

    ::

        optimizer = es.actions.SwitchOptimizer("adamw").switch(optimizer)

    Without `lr` the new steps are as long as the last one of SGD was: the learning rate is the root mean square of that
    step, for a step of AdamW or Muon is about 1 in units of theirs (1e-3 before the first step). After any other
    optimizer `lr` is needed. Parameter groups stay apart, each with its learning rate relative to the first (whose base
    becomes `lr`) and with its weight decay, so that a step shrinks the weights as before: lr · weight_decay is carried
    over. The scheduler, which has to be given where there is one, goes on where it is, its base rates scaled alike. The
    old object hands its calls over to the new one, so that a loop that holds it needs no change. `to` may also be
    ``"soap"`` or ``"shampoo"`` of pytorch-optimizer, or a function that makes an optimizer from groups.

    To resume from a checkpoint of after the switch: switch the fresh optimizer, and load the states then.

    Agarwal et al. 2020 (the length of the steps); Loshchilov & Hutter 2019 (AdamW); Jordan et al. 2024, Liu et al. 2025
    (Muon); Vyas et al. 2025 (SOAP); Gupta, Koren & Singer 2018 (Shampoo).
    """

    name = "switch_optimizer"
    rules: ClassVar[tuple[str, ...]] = ("ill_conditioned", "stretched")
    words = "PRECONDITION"
    criterion = "the loss falls faster than it did before, by more than its noise"
    checks = 2

    def __init__(self, to: str | Factory = "adamw", *, lr: float | None = None) -> None:
        if isinstance(to, str) and to not in _NAMES:
            raise InputError(f"there is no optimizer {to!r} to switch to{did_you_mean(to, _NAMES)}")
        if lr is not None and not lr > 0:
            raise InputError(f"lr={lr:g}: a learning rate over 0 is needed")
        self.to, self.lr = to, lr
        self._old: torch.optim.Optimizer | None = None
        self._new: torch.optim.Optimizer | None = None
        self._schedule: list[tuple[Any, dict[str, Any]]] = []
        self._rates: list[float] = []
        self._ratio = 1.0
        self._before: dict[str, Any] = {}
        self._controls: list[tuple[StepControl, Callable[[bool], None]]] = []
        self._let_go: list[StepControl] = []  # since another optimizer has taken over

    def switch(
        self, optimizer: torch.optim.Optimizer, scheduler: Any = None, model: nn.Module | None = None
    ) -> torch.optim.Optimizer:
        """Make the new optimizer and let it take over; `model` tells Muon which layer is the last."""
        if (why := self._unfit(optimizer, scheduler)) is not None:
            raise InputError(why)
        base = optimizer.param_groups[0]
        first = float(base.get("initial_lr", base["lr"]))
        lr = self.lr or grafted_rate(optimizer, _RATE)
        self._ratio = lr / first if first else 1.0
        groups = [_carried(group, self._ratio, optimizer) for group in optimizer.param_groups]
        new = self._made(groups, model)
        for group in new.param_groups if scheduler is not None else ():  # what a factory left to its own default
            group.setdefault("initial_lr", group["lr"])
        self._controls = [(control, control.kept()) for control in step_controls(optimizer)]
        _take_over(optimizer, new, self._before)
        self._schedule = _move(scheduler, new, self._ratio)
        self._rates = [float(group["lr"]) for group in new.param_groups]
        self._old, self._new = optimizer, new
        return new

    def can_apply(self, now: Situation) -> str | None:
        if now.optimizer is None:
            return "there is no optimizer to switch from: pass optimizer="
        if self._new is not None:
            return "the optimizer was switched already"
        if (why := self._unfit(now.optimizer, now.scheduler)) is not None:
            return why
        if now.replace_optimizer is None:
            return "the loop would not know of the new optimizer: pass replace_optimizer="
        try:
            self._library()
        except InputError as error:
            return str(error)
        return None

    def apply(self, now: Situation) -> dict[str, object]:
        assert now.optimizer is not None
        old = [float(group["lr"]) for group in now.optimizer.param_groups]
        name = type(now.optimizer).__name__
        new = self.switch(now.optimizer, now.scheduler, now.model)
        if now.replace_optimizer is not None:
            now.replace_optimizer(new)
        self._let_go = [control for control, _ in self._controls if control not in step_controls(new)]
        rates = [[old[group.get("origin", i)], float(group["lr"])] for i, group in enumerate(new.param_groups)]
        return {"optimizer": [name, type(new).__name__], "lr": rates}

    def undo(self, now: Situation) -> None:
        """Back to the old optimizer, with the state that it had; its rates follow the schedule as it is now.

        A `ControlStep` that was in force before is so again, and measures before the next step.
        """
        if self._old is None or self._new is None:
            return
        old, new = self._old, self._new
        self._old = self._new = None
        again = [back for control, back in self._controls if control in (*self._let_go, *step_controls(new))]
        _give_back(old, self._before)
        for index, (group, then) in enumerate(zip(new.param_groups, self._rates, strict=False)):
            origin = old.param_groups[group.get("origin", index)]
            if float(group["lr"]) != then:  # its scheduler has moved on
                origin["lr"] = group["lr"] / self._ratio
        for scheduler, held in self._schedule:
            last = [group["lr"] for group in old.param_groups]
            vars(scheduler).update({**held, "_last_lr": last} if "_last_lr" in held else held)
        if now.replace_optimizer is not None:
            now.replace_optimizer(old)
        for back in again:
            back(True)

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        return loss_helped(before, after)

    def _unfit(self, old: torch.optim.Optimizer, scheduler: Any) -> str | None:
        """Why the length of its steps, or their schedule, could not be carried over."""
        if self.lr is None and not isinstance(old, torch.optim.SGD):
            name = type(old).__name__
            if any(kind.__name__ in _PRECONDITIONED for kind in type(old).__mro__):
                return f"{name} is a preconditioned method already: pass lr= to switch from it all the same"
            return f"how long the steps of {name} are is not known: pass lr= to switch from it"
        scheduled = hasattr(old.step, "_wrapped_by_lr_sched") or any("initial_lr" in g for g in old.param_groups)
        return "a scheduler drives this optimizer: pass scheduler=" if scheduled and scheduler is None else None

    def _made(self, groups: list[dict[str, Any]], model: nn.Module | None) -> torch.optim.Optimizer:
        if self.to == "muon":
            return MuonWithAdamW(muon_groups(groups, model))
        return self._library()(groups)

    def _library(self) -> Factory:
        if not isinstance(self.to, str):
            return self.to
        if self.to in ("adamw", "muon"):
            if self.to == "muon" and not hasattr(torch.optim, "Muon"):
                raise InputError(f"torch {torch.__version__} has no Muon: pip install 'torch>=2.9'")
            return torch.optim.AdamW
        try:
            import pytorch_optimizer  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise InputError(f"{self.to} comes with pytorch-optimizer: pip install 'eigenscope[optimizers]'") from None
        kind: Factory = {"soap": pytorch_optimizer.SOAP, "shampoo": pytorch_optimizer.ScalableShampoo}[self.to]
        return kind


# -- carrying over --------------------------------------------------------------------------------------------------


def _carried(group: dict[str, Any], ratio: float, old: torch.optim.Optimizer) -> dict[str, Any]:
    """The options of a group that mean something to any optimizer; rates scaled, and lr · weight_decay kept."""
    own = set(old.defaults) - {"lr", "weight_decay", "maximize"}
    kept = {key: value for key, value in group.items() if key not in own}
    kept["params"] = list(group["params"])
    kept.update({key: kept[key] * ratio for key in _RATES if key in kept})
    decay = float(group.get("weight_decay", 0.0))
    momentum = float(group.get("momentum", 0.0))
    kept["weight_decay"] = decay / ratio * (1 - float(group.get("dampening", 0.0))) / (1 - momentum) if decay else 0.0
    if not group.get("maximize"):
        kept.pop("maximize", None)
    return kept


def _schedulers(scheduler: Any) -> Iterator[Any]:
    """A scheduler and those that it is made of."""
    if scheduler is not None:
        yield scheduler
        for part in getattr(scheduler, "_schedulers", ()):
            yield from _schedulers(part)


def _move(scheduler: Any, to: torch.optim.Optimizer, ratio: float) -> list[tuple[Any, dict[str, Any]]]:
    """Let a scheduler go on with an optimizer whose base rates are `ratio` times as large; returns what it held."""
    before = []
    for one in _schedulers(scheduler):
        held = {name: value for name, value in vars(one).items() if name in _SCHEDULED}
        before.append((one, held))
        one.optimizer = to
        for name, values in held.items():
            if name in ("base_lrs", "min_lrs", "max_lrs", "_last_lr"):
                setattr(one, name, _fitted([value * ratio for value in values], to))
        if "lr_lambdas" in held:
            one.lr_lambdas = _fitted(held["lr_lambdas"], to)
        if isinstance(held.get("eta_min"), float | int):
            one.eta_min = held["eta_min"] * ratio
        if "use_beta1" in held:
            one.use_beta1 = "betas" in to.defaults
    if scheduler is not None and not hasattr(to.step, "_wrapped_by_lr_sched"):
        _tracked(to)
    return before


def _fitted(values: list[Any], to: torch.optim.Optimizer) -> list[Any]:
    """One value a group: groups that were split carry the index of the one that they come from."""
    origins = [group.get("origin", index) for index, group in enumerate(to.param_groups)]
    return [values[min(origin, len(values) - 1)] for origin in origins]


def _tracked(optimizer: torch.optim.Optimizer) -> None:
    """Schedulers want to know that their optimizer has stepped before they do."""
    step = optimizer.step

    @functools.wraps(step)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        optimizer._opt_called = True  # type: ignore[attr-defined]
        return step(*args, **kwargs)

    wrapper._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    optimizer._opt_called = True  # type: ignore[attr-defined]
    optimizer.step = wrapper  # type: ignore[method-assign]


def _take_over(old: torch.optim.Optimizer, new: torch.optim.Optimizer, before: dict[str, Any]) -> None:
    """Let `old` be a handle of `new`: same groups, same state, its calls passed on, its hooks kept."""
    before.clear()
    before.update({name: vars(old)[name] for name in (*_HANDED_OVER, "param_groups", "state", "defaults")
                   if name in vars(old)})  # fmt: skip
    for name in _HOOKS:
        setattr(new, name, getattr(old, name))
    for name in _HANDED_OVER:
        setattr(old, name, _passed_on(old, new, name))
    vars(old)["__reduce_ex__"] = lambda _protocol: (_itself, (new,))  # a copy of the handle is one of the new optimizer
    old.param_groups, old.state, old.defaults = new.param_groups, new.state, new.defaults
    for control in step_controls(new):
        control.move(new)


def _passed_on(old: torch.optim.Optimizer, new: torch.optim.Optimizer, name: str) -> Callable[..., Any]:
    """A method of `old`, as schedulers want `step` to be, that is the new one's."""

    def method(_old: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        return getattr(new, name)(*args, **kwargs)

    method.__name__ = name
    return MethodType(method, old)


def _itself(new: torch.optim.Optimizer) -> torch.optim.Optimizer:
    return new


def _give_back(old: torch.optim.Optimizer, before: dict[str, Any]) -> None:
    for name in _HANDED_OVER:
        vars(old).pop(name, None)
    vars(old).update(before)
    for control in step_controls(old):
        control.move(old)

"""The state of a training run, kept aside so that it can be put back exactly to the bit."""

from __future__ import annotations

import random
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from eigenscope.actions.keeping import Keeper, Restore
from eigenscope.diagnostics.step_factor import step_controls


class Snapshot:
    """Parameters, buffers, gradients, modes, optimizer, scheduler and random streams as they were.

    ::

        before = es.actions.Snapshot.of(model, optimizer)
        ...
        before.restore()

    Restored in place: tensors, groups and states stay the objects that they were, so that whatever refers to them
    goes on; a `ControlStep` in force goes back to what it had measured. Each tensor is copied once: with gradients that
    is twice the parameters' memory for plain SGD, three times with momentum and four times for Adam.

    Not in it: hooks, a `GradScaler`, a second optimizer, parameters that only the loss holds and no optimizer, what an
    optimizer keeps beside groups, state and defaults, and the place in the loader.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None, scheduler: Any = None) -> None:
        self._optimizer, keeper = optimizer, Keeper()
        self._parts = [
            _model(model, keeper),
            _nothing if optimizer is None else keeper.attributes(optimizer, ("param_groups", "state", "defaults")),
            _nothing if scheduler is None else keeper.scheduler(scheduler),
            _controls(optimizer),
            _random_streams(),
        ]
        self._groups = _options(optimizer)
        self._changed: list[dict[str, Any]] | None = None
        self._marked: list[dict[str, Any]] = []

    @classmethod
    def of(cls, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, scheduler: Any = None) -> Self:
        """Take one now."""
        return cls(model, optimizer, scheduler)

    def restore(self) -> None:
        """Put everything back."""
        for part in self._parts:
            part()

    def mark(self) -> None:
        """To be called after a change: what now differs in the optimizer's groups is what the change set."""
        self._changed = _options(self._optimizer)
        self._marked = list(self._optimizer.param_groups) if self._optimizer is not None else []

    def restore_settings(self) -> dict[str, object]:
        """Put back only the groups' options that changed up to `mark`; training since is kept. Returns them.

        A learning rate that a scheduler has moved on since keeps its place in the schedule: it is scaled back.
        """
        if self._optimizer is None or self._changed is None:
            return {}
        found: dict[str, object] = {}
        for index, group in enumerate(self._optimizer.param_groups[: len(self._groups)]):
            if index >= len(self._marked) or group is not self._marked[index]:
                continue  # the action's own undo has put another back
            before, after = self._groups[index], self._changed[index]
            for key in before.keys() | after.keys():
                if _same(before.get(key), after.get(key)):
                    continue
                _put_back(group, key, before, after)
                found[f"{key}[{index}]"] = group.get(key)
        return {key: float(v) if isinstance(v, Tensor) else v for key, v in found.items()}


def _nothing() -> None:
    pass


def _options(optimizer: torch.optim.Optimizer | None) -> list[dict[str, Any]]:
    groups = optimizer.param_groups if optimizer is not None else []
    return [
        {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in group.items() if k != "params"}
        for group in groups
    ]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    return bool(one == other)


def _put_back(group: dict[str, Any], key: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    if key not in before:
        group.pop(key, None)
        return
    value = before[key]
    if key == "lr" and key in after and not _same(group[key], after[key]) and float(after[key]):
        value = group[key] * (float(before[key]) / float(after[key]))
    if isinstance(group.get(key), Tensor):
        group[key].copy_(value)
    else:
        group[key] = value


# -- the parts ------------------------------------------------------------------------------------------------------


def _model(model: nn.Module, keeper: Keeper) -> Restore:
    modules = list(model.modules())
    tables = [keeper.keep(table) for module in modules for table in (module._parameters, module._buffers)]
    modes = [module.training for module in modules]
    gradients = [(p, keeper.keep(p.grad)) for p in model.parameters()]

    def restore() -> None:
        for table in tables:
            table()
        for module, training in zip(modules, modes, strict=True):
            module.training = training
        for p, gradient in gradients:
            p.grad = gradient()

    return restore


def _controls(optimizer: torch.optim.Optimizer | None) -> Restore:
    """What multiplies the steps, where that is still in force."""
    if optimizer is None:
        return _nothing
    kept = [(control, control.kept()) for control in step_controls(optimizer)]

    def restore() -> None:
        now = step_controls(optimizer)
        for control, back in kept:
            if control in now:
                back(False)

    return restore


def _random_streams() -> Restore:
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - the user's
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return restore

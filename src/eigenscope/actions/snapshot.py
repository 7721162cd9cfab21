"""The state of a training run, kept aside so that it can be put back exactly to the bit."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

_Restore = Callable[[], Any]


class Snapshot:
    """Parameters, buffers, gradients, modes, optimizer, scheduler and random streams as they were.

    ::

        before = es.actions.Snapshot.of(model, optimizer)
        ...
        before.restore()

    Restored in place: tensors, groups and states stay the objects that they were, so that whatever refers to them
    goes on. It costs the memory of one more copy of the model and of the optimizer's state.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None, scheduler: Any = None) -> None:
        self._optimizer, self._scheduler = optimizer, scheduler
        self._model = _model(model)
        self._method = _nothing if optimizer is None else _attributes(optimizer, ("param_groups", "state", "defaults"))
        self._schedule = _kept_scheduler(scheduler)
        self._streams = _random_streams()
        self._groups = _options(optimizer)
        self._changed: list[dict[str, Any]] | None = None
        self._marked: list[dict[str, Any]] = []

    @classmethod
    def of(cls, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, scheduler: Any = None) -> Self:
        """Take one now."""
        return cls(model, optimizer, scheduler)

    def restore(self) -> None:
        """Put everything back."""
        self._model()
        self._method()
        self._schedule()
        self._streams()

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


# -- how each thing is kept -----------------------------------------------------------------------------------------


def _kept(value: Any, seen: dict[int, _Restore] | None = None) -> _Restore:
    """A function that puts `value` back in place, whatever it holds, and returns the same object."""
    seen = {} if seen is None else seen
    if id(value) in seen:  # shared or cyclic: kept once
        return lambda: value
    if isinstance(value, Tensor):
        return _kept_tensor(value)
    if isinstance(value, MutableMapping):
        seen[id(value)] = _nothing
        items = {key: _kept(item, seen) for key, item in value.items()}
        return lambda: _refill(value, {key: restore() for key, restore in items.items()})
    if isinstance(value, list | deque):
        seen[id(value)] = _nothing
        parts = [_kept(item, seen) for item in value]
        return lambda: _refill_list(value, [restore() for restore in parts])
    if isinstance(value, tuple):
        inner = [_kept(item, seen) for item in value]
        return lambda: ([restore() for restore in inner], value)[1]
    if isinstance(value, LRScheduler | ReduceLROnPlateau):
        return _kept_scheduler(value, seen)
    if isinstance(value, np.ndarray):
        copied = value.copy()
        return lambda: _refill_array(value, copied)
    return lambda: value  # numbers, strings, functions: never changed in place


def _kept_tensor(tensor: Tensor) -> _Restore:
    clone, required = tensor.detach().clone(), tensor.requires_grad

    def restore() -> Tensor:
        with torch.no_grad():
            if tensor.shape == clone.shape and tensor.dtype == clone.dtype and tensor.device == clone.device:
                tensor.detach().copy_(clone)
            else:  # it was given other storage since
                tensor.data = clone.clone()
        if tensor.is_leaf:
            tensor.requires_grad_(required)
        return tensor

    return restore


def _refill(mapping: MutableMapping[Any, Any], items: dict[Any, Any]) -> MutableMapping[Any, Any]:
    mapping.clear()
    mapping.update(items)
    return mapping


def _refill_array(array: Any, items: Any) -> Any:
    np.copyto(array, items)
    return array


def _refill_list(values: list[Any] | deque[Any], items: list[Any]) -> list[Any] | deque[Any]:
    values.clear()
    values.extend(items)
    return values


def _attributes(owner: object, names: tuple[str, ...]) -> _Restore:
    """The named attributes: the same objects with the same content."""
    kept = {name: _kept(getattr(owner, name)) for name in names}

    def restore() -> None:
        for name, back in kept.items():
            setattr(owner, name, back())

    return restore


def _kept_scheduler(scheduler: Any, seen: dict[int, _Restore] | None = None) -> _Restore:
    """Everything that a scheduler holds but the optimizer itself, also in the schedulers that it is made of."""
    if scheduler is None:
        return _nothing
    seen = {} if seen is None else seen
    seen[id(scheduler)] = _nothing
    held = vars(scheduler)
    kept = {name: _kept(value, seen) for name, value in held.items()}

    def restore() -> Any:
        back = {name: one() for name, one in kept.items()}
        held.clear()
        held.update(back)
        return scheduler

    return restore


def _model(model: nn.Module) -> _Restore:
    modules = list(model.modules())
    tables = [_kept(table) for module in modules for table in (module._parameters, module._buffers)]
    modes = [module.training for module in modules]
    gradients = [(p, p.grad, None if p.grad is None else _kept_tensor(p.grad)) for p in model.parameters()]

    def restore() -> None:
        for table in tables:
            table()
        for module, training in zip(modules, modes, strict=True):
            module.training = training
        for p, gradient, values in gradients:
            p.grad = gradient
            if values is not None:
                values()

    return restore


def _random_streams() -> _Restore:
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

"""How each thing that a training run consists of is kept aside, and put back in place."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, MutableMapping
from enum import Enum
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

Restore = Callable[[], Any]
_LEFT = (torch.optim.Optimizer, Enum, ModuleType, type, FunctionType, MethodType, partial)


class Keeper:
    """Keeps things aside, each object once, however often it is met: a parameter is the module's and the optimizer's.

    `objects`: those of unknown kinds are kept by their attributes, as preconditioners in an optimizer's state. In
    schedulers they are left alone: what those refer to may be the whole program.
    """

    def __init__(self, objects: bool = True, seen: set[int] | None = None) -> None:
        self._objects = objects
        self._seen: set[int] = set() if seen is None else seen

    def keep(self, value: Any) -> Restore:
        """A function that puts `value` back in place, whatever it holds, and returns the same object."""
        if id(value) in self._seen:  # shared or cyclic
            return lambda: value
        how = self._how(value)
        if how is None:  # numbers, strings, functions: never changed in place
            return lambda: value
        self._seen.add(id(value))
        return how(value)

    def attributes(self, owner: object, names: tuple[str, ...]) -> Restore:
        """The named attributes: the same objects with the same content."""
        kept = {name: self.keep(getattr(owner, name)) for name in names}

        def restore() -> None:
            for name, back in kept.items():
                setattr(owner, name, back())

        return restore

    def _how(self, value: Any) -> Callable[[Any], Restore] | None:
        for kinds, how in (
            (Tensor, _tensor), (MutableMapping, self._mapping), (list | deque, self._list), (set, _set),
            (tuple, self._tuple), (LRScheduler | ReduceLROnPlateau, self.scheduler), (np.ndarray, _array),
        ):  # fmt: skip
            if isinstance(value, kinds):
                return how
        own = self._objects and hasattr(value, "__dict__") and not isinstance(value, _LEFT)
        return self._object if own else None

    def _mapping(self, mapping: MutableMapping[Any, Any]) -> Restore:
        items = {key: self.keep(item) for key, item in mapping.items()}

        def restore() -> MutableMapping[Any, Any]:
            back = {key: one() for key, one in items.items()}
            mapping.clear()
            mapping.update(back)
            return mapping

        return restore

    def _list(self, values: list[Any] | deque[Any]) -> Restore:
        parts = [self.keep(item) for item in values]

        def restore() -> list[Any] | deque[Any]:
            back = [one() for one in parts]
            values.clear()
            values.extend(back)
            return values

        return restore

    def _tuple(self, values: tuple[Any, ...]) -> Restore:
        parts = [self.keep(item) for item in values]
        return lambda: ([one() for one in parts], values)[1]

    def _object(self, value: Any) -> Restore:
        back = self.keep(vars(value))
        return lambda: (back(), value)[1]

    def scheduler(self, scheduler: Any) -> Restore:
        """Everything that it holds but the optimizer itself, also in the schedulers that it is made of."""
        back = Keeper(False, self._seen).keep(vars(scheduler))
        return lambda: (back(), scheduler)[1]


def _tensor(tensor: Tensor) -> Restore:
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


def _set(values: set[Any]) -> Restore:
    copied = set(values)

    def restore() -> set[Any]:
        values.clear()
        values.update(copied)
        return values

    return restore


def _array(array: Any) -> Restore:
    copied = array.copy()

    def restore() -> Any:
        np.copyto(array, copied)
        return array

    return restore

"""Hooks on an optimizer that come off again, and that never stop a training loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from eigenscope.actions.closures import Call, Followed, closure_of, with_closure
from eigenscope.errors import EigenscopeError, InputError, first_line

Hook = Callable[[torch.optim.Optimizer, tuple[Any, ...], dict[str, Any]], Any]
GradientHook = Callable[[torch.optim.Optimizer], None]

log = logging.getLogger("eigenscope")


class Hooks:
    """What runs before and after each step of an optimizer, until `remove`.

    A hook that raises never stops the step: all of them fall silent, the log has why, and `on_error` is told in one
    line. They are taken off by `remove` or the next `add`: torch forbids it while it goes through them.
    """

    def __init__(self, on_error: Callable[[str], object] | None = None) -> None:
        self._on_error = on_error
        self._handles: list[RemovableHandle] = []
        self._silent = False

    @property
    def on(self) -> bool:
        return bool(self._handles) and not self._silent

    def add(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        before: Hook | None = None,
        after: Hook | None = None,
        gradient: GradientHook | None = None,
    ) -> None:
        """Register them; `gradient` runs before the step too, but once its closure, if it has one, was evaluated."""
        if self._silent:
            self.remove()
        for hook in (before, None if gradient is None else self._once_computed(gradient)):
            if hook is not None:
                self._handles.append(optimizer.register_step_pre_hook(_Guarded(hook, self)))
        if after is not None:
            self._handles.append(optimizer.register_step_post_hook(_Guarded(after, self)))

    def silence(self) -> None:
        """End their work, also from within one of them."""
        self._silent = True

    def remove(self) -> None:
        """Take all of them away; not from within one of them."""
        while self._handles:
            self._handles.pop().remove()
        self._silent = False

    def fail(self, error: Exception) -> None:
        """End their work, and tell why."""
        self.silence()
        with suppress(Exception):  # a handler of the user's may raise
            log.warning("a hook on the optimizer is switched off: %s", in_a_line(error))
        if self._on_error is not None:
            self._on_error(in_a_line(error))

    def _once_computed(self, hook: GradientHook) -> Hook:
        def before(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
            closure = closure_of(args, kwargs)
            if closure is None:
                hook(optimizer)
                return None

            def work(times: int) -> None:
                if times > 1:
                    raise InputError(f"{type(optimizer).__name__} evaluates its closure several times in one step")
                hook(optimizer)

            return with_closure(args, kwargs, Followed(closure, _Guarded(work, self)))

        return before


class _Guarded:
    """A hook that raises nothing."""

    def __init__(self, hook: Callable[..., Any], hooks: Hooks) -> None:
        self._hook, self._hooks = hook, hooks

    def __call__(self, *args: Any) -> Any:
        if not self._hooks.on:
            return None
        try:
            return self._hook(*args)
        except Exception as error:
            self._hooks.fail(error)
            return None


def in_a_line(error: Exception) -> str:
    """What went wrong: of what is not ours, with its kind."""
    return first_line(error) if isinstance(error, EigenscopeError) else repr(error)[:200]

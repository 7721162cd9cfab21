"""The closure that an optimizer's step is called with, and work on the gradients that it computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

Closure = Callable[[], Any]
Call = tuple[tuple[Any, ...], dict[str, Any]]  # positional and keyword arguments, as torch's hooks get and return them


def closure_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Closure | None:
    """The closure of a call of `optimizer.step`; the optimizer itself comes first in `args`."""
    given = kwargs.get("closure", args[1] if len(args) > 1 else None)
    return given if callable(given) else None


def with_closure(args: tuple[Any, ...], kwargs: dict[str, Any], closure: Closure) -> Call:
    """The same call with another closure."""
    if "closure" in kwargs:
        return args, {**kwargs, "closure": closure}
    return (args[0], closure, *args[2:]), kwargs


class Followed:
    """A closure that works on its gradients once it was evaluated.

    `work` is told how often it was evaluated in this step, and must not raise: what raises here is the closure's own.
    """

    def __init__(self, closure: Closure, work: Callable[[int], object]) -> None:
        self.closure, self._work, self._times = closure, work, 0

    def __call__(self) -> Any:
        loss = self.closure()
        self._times += 1
        self._work(self._times)
        return loss


@dataclass(frozen=True)
class Framed:
    """A closure before which something is set, and after which, where it raises, that is taken back."""

    closure: Closure
    before: Callable[[], object]
    failed: Callable[[], object]

    def __call__(self) -> Any:
        self.before()
        try:
            return self.closure()
        except BaseException:
            self.failed()
            raise


def bare(closure: Closure) -> Closure:
    """The loop's own closure, without the work that follows it."""
    while isinstance(closure, Followed):
        closure = closure.closure
    return replace(closure, closure=bare(closure.closure)) if isinstance(closure, Framed) else closure

"""How far a monitor may go: watch, advise, ask, or act by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch

from eigenscope.actions import Action, chosen
from eigenscope.errors import InputError
from eigenscope.monitor.loops import DISTRIBUTED, is_distributed
from eigenscope.words import did_you_mean

POLICIES = ("observe", "advise", "ask", "auto")


@dataclass(frozen=True)
class Policy:
    """What the user allows."""

    act: str  # one of POLICIES
    actions: tuple[Action, ...] = ()
    limit: int = 5  # applications in a run that nobody asked for
    cool_down: int = 5  # checks after an action was applied, before it is again

    @classmethod
    def of(
        cls,
        act: Any,
        actions: Iterable[str | Action | type[Action]] | None,
        limit: Any,
        cool_down: Any,
        optimizer: torch.optim.Optimizer | None,
    ) -> Policy:
        """From the monitor's arguments; raises `InputError` in one line."""
        if act not in POLICIES:
            raise InputError(f"act={act!r} is no policy{did_you_mean(str(act), POLICIES)}")
        for name, value in (("action_limit", limit), ("cool_down", cool_down)):
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
                raise InputError(f"{name}={value!r}: a whole number is needed, at least 0")
        if act not in ("ask", "auto"):
            if actions is not None:
                raise InputError(f"actions are given, but act={act!r} applies none: use act='ask' or 'auto'")
            return cls(act)
        if is_distributed():
            raise InputError(DISTRIBUTED)
        allowed = tuple(chosen(actions))
        if optimizer is None:
            raise InputError(f"act={act!r} needs optimizer=: actions work on it, and an undo puts its state back")
        return cls(act, allowed, int(limit), int(cool_down))

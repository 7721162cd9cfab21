"""Actions by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from eigenscope.actions.base import Action
from eigenscope.errors import InputError
from eigenscope.words import did_you_mean

ACTIONS: dict[str, type[Action]] = {}  # in order of preference: the first that answers an alert is taken
_A = TypeVar("_A", bound=type[Action])


def register(action: _A) -> _A:
    """Make a class of actions known by its name; a later one of the same name takes its place."""
    for name in ("name", "words", "criterion"):
        if not isinstance(getattr(action, name, None), str):
            raise InputError(f"{action.__name__} needs {name} = a word or a sentence")
    ACTIONS[action.name] = action
    return action


def chosen(actions: Iterable[str | Action | type[Action]] | None = None) -> list[Action]:
    """Actions from names, classes and objects; None: every one that is registered, with its defaults."""
    if actions is None:
        return [kind() for kind in ACTIONS.values()]
    if isinstance(actions, str):
        actions = [actions]
    found = [_one(action) for action in actions]
    names = [action.name for action in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"the action {name!r} is given twice: give each once")
    return found


def answering(rule: str, actions: Iterable[Action]) -> list[Action]:
    """Those of `actions` that answer a rule's alert, in their order."""
    return [action for action in actions if rule in action.rules]


def _one(action: str | Action | type[Action]) -> Action:
    if isinstance(action, Action):
        return action
    if isinstance(action, type) and issubclass(action, Action):
        return action()
    if isinstance(action, str):
        if action not in ACTIONS:
            raise InputError(f"there is no action {action!r}{did_you_mean(action, ACTIONS)}")
        return ACTIONS[action]()
    raise InputError(f"an action is a name or an Action, not a {type(action).__name__}")

"""Weights in nested containers: every tensor found, at any depth, with names as people know them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from typing import Any

OPTIMIZER = "state of the optimizer"
Path = tuple[str, ...]


def leaves(tree: Any, is_leaf: Callable[[Any], bool]) -> Iterator[tuple[Path, Any]]:
    """Each leaf with the keys that lead to it, in stored order; a container that occurs twice counts once."""
    stack: list[tuple[Path, Any]] = [((), tree)]
    seen: set[int] = set()
    while stack:
        path, node = stack.pop()
        if is_leaf(node):
            yield path, node
        elif isinstance(node, Mapping | list | tuple) and id(node) not in seen:
            seen.add(id(node))
            items = node.items() if isinstance(node, Mapping) else enumerate(node)
            stack.extend(reversed([((*path, str(key)), value) for key, value in items]))


def named(found: list[tuple[Path, Any]]) -> list[tuple[str, Any, str | None]]:
    """`(name, leaf, why it is no weight)`: the containers that all weights share ("state_dict") are not in the name."""
    aside = [OPTIMIZER if any("optim" in key.lower() for key in path[:-1]) else None for path, _ in found]
    weights = [path[:-1] for (path, _), reason in zip(found, aside, strict=True) if reason is None]
    shared = _common(weights)
    names: dict[str, tuple[Any, str | None]] = {}
    for (path, leaf), reason in zip(found, aside, strict=True):
        name = ".".join(path if reason else path[shared:]) or "tensor"
        names[unused(name, names)] = (leaf, reason)
    return [(name, leaf, reason) for name, (leaf, reason) in names.items()]


def _common(paths: list[Path]) -> int:
    """How many keys all paths start with."""
    levels = zip(*paths, strict=False)  # as long as the shortest
    return sum(1 for _ in takewhile(lambda keys: len(set(keys)) == 1, levels))


def unused(name: str, names: Mapping[str, object]) -> str:
    """`name`, or `name #2` and so on where it is taken."""
    number, candidate = 1, name
    while candidate in names:
        number += 1
        candidate = f"{name} #{number}"
    return candidate

"""Weights in nested containers: every tensor found, at any depth, with names as people know them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from typing import Any

from eigenscope.errors import CheckpointError

OPTIMIZER = "state of the optimizer"
DEEPEST = 100  # containers within containers
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
            if len(path) >= DEEPEST:
                raise CheckpointError(f"it nests over {DEEPEST} containers: save the state_dict() alone")
            items = node.items() if isinstance(node, Mapping) else enumerate(node)
            stack.extend(reversed([((*path, str(key)), value) for key, value in items]))


def named(found: list[tuple[Path, Any]]) -> list[tuple[str, Any, str | None]]:
    """`(name, leaf, why it is no weight)`: the containers that all weights share ("state_dict") are not in the name."""
    aside = [OPTIMIZER if any("optim" in key.lower() for key in path[:-1]) else None for path, _ in found]
    weights = [path[:-1] for (path, _), reason in zip(found, aside, strict=True) if reason is None]
    shared = _common(weights)
    unused = Unused()
    return [
        (unused(".".join(path if reason else path[shared:]) or "tensor"), leaf, reason)
        for (path, leaf), reason in zip(found, aside, strict=True)
    ]


def _common(paths: list[Path]) -> int:
    """How many keys all paths start with."""
    levels = zip(*paths, strict=False)  # as long as the shortest
    return sum(1 for _ in takewhile(lambda keys: len(set(keys)) == 1, levels))


class Unused:
    """Makes names unique: `name`, or `name #2` and so on where it is taken."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._met: Counter[str] = Counter()

    def __call__(self, name: str) -> str:
        candidate = name
        while candidate in self._taken:
            self._met[name] += 1  # goes on from where it was, else many of one name take for ever
            candidate = f"{name} #{self._met[name] + 1}"
        self._taken.add(candidate)
        return candidate

"""The strongest directions of one matrix: which inputs it listens to, and which outputs they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eigenscope.checkpoints import Checkpoint, Entry, open_checkpoint
from eigenscope.errors import InputError, printable
from eigenscope.scanning.layouts import Layout, views
from eigenscope.scanning.ledger import reason
from eigenscope.words import did_you_mean, few

_NAMED = 6  # entries of a direction that are shown


@dataclass(frozen=True)
class Direction:
    """σ·u·vᵀ: the inputs with the largest weight in v, the outputs with the largest in u, each (name, weight)."""

    sigma: float
    share: float  # of Σσ²
    inputs: tuple[tuple[str, float], ...]
    outputs: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, object]:
        """The direction as JSON has it."""
        sides = {"inputs": self.inputs, "outputs": self.outputs}
        named = {
            side: [{"name": name, "weight": weight} for name, weight in entries] for side, entries in sides.items()
        }
        return {"sigma": self.sigma, "share": self.share, **named}


def directions(source: Any, title: str, count: int = 5) -> list[Direction]:
    """The `count` strongest directions of the matrix named `title` (its part in brackets, where it has one).

    Of the name so much is enough as no other matrix fits.
    """
    return named_directions(source, title, count)[1]


def named_directions(source: Any, title: str, count: int = 5) -> tuple[str, list[Direction]]:
    """The same, with the matrix's title in full."""
    with open_checkpoint(source) as checkpoint:
        layout = Layout.of_checkpoint(checkpoint)
        entry, part = _found(checkpoint, title, layout)
        name = entry.name
        wanted = [view for view in views(name, entry.shape, layout, per_head=True) if view.part == part]
        if not wanted:
            parts = ", ".join(view.part for view in views(name, entry.shape, layout, per_head=True) if view.part)
            raise InputError(f"{name!r} has no part {part!r}; it has {parts or 'none'}")
        tensor = checkpoint.load(name)
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{name!r} holds NaN or infinity: it has no singular vectors")
        matrix = wanted[0].cut(tensor).double().cpu().numpy()
        labels = [None if part else checkpoint.labels(name, axis) for axis in (0, 1)]
    full = printable(f"{name} [{part}]" if part else name)
    return full, list(_strongest(matrix, count, labels))


def _found(checkpoint: Checkpoint, title: str, layout: Layout) -> tuple[Entry, str]:
    name, _, rest = title.partition(" [")
    known = {entry.name: entry for entry in checkpoint.entries}
    if name not in known:
        matrices = [key for key, entry in known.items() if reason(entry, {}, layout) is None]
        return known[completed(name, matrices)], rest.rstrip("]")
    why = reason(known[name], {}, layout)
    if why:
        raise InputError(f"{name!r} has no directions: {why}")
    return known[name], rest.rstrip("]")


def completed(short: str, names: Sequence[str]) -> str:
    """The one name that is meant by a short one: without ".weight" or what stands before, or its start alone.

    Raises `InputError` where none or several are.
    """
    head, _, tail = short.partition("…")
    ways: list[Callable[[str], bool]] = [
        lambda name: name == f"{short}.weight",
        lambda name: f".{name}".endswith((f".{short}", f".{short}.weight")),
        lambda name: name.startswith(short),
        lambda name: "…" in short and name.startswith(head) and name.removesuffix(".weight").endswith(tail),
    ]
    for way in ways:
        found = [name for name in names if way(name)]
        if len(found) > 1:
            raise InputError(printable(f"{short!r} fits {len(found)} matrices: {few(found)}; say which"))
        if found:
            return found[0]
    raise InputError(printable(f"there is no matrix {short!r}{did_you_mean(short, names, most=8)}"))


def _strongest(matrix: NDArray[np.float64], count: int, labels: Sequence[Sequence[str] | None]) -> Any:
    u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
    total = float(np.sum(sigma**2)) or 1.0
    for index in range(min(count, len(sigma))):
        sign = np.sign(vt[index, np.argmax(np.abs(vt[index]))]) or 1.0  # the strongest input counts as positive
        yield Direction(
            float(sigma[index]),
            float(sigma[index] ** 2) / total,
            _named(sign * vt[index], labels[1]),
            _named(sign * u[:, index], labels[0]),
        )


def _named(vector: NDArray[np.float64], labels: Sequence[str] | None) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-np.abs(vector))[:_NAMED]
    return tuple((labels[i] if labels is not None and i < len(labels) else f"#{i}", float(vector[i])) for i in order)

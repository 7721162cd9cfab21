"""The strongest directions of one matrix: which inputs it listens to, and which outputs they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eigenscope.checkpoints import Checkpoint, open_checkpoint
from eigenscope.diagnostics.words import did_you_mean
from eigenscope.errors import InputError
from eigenscope.scanning.analysis import why_not
from eigenscope.scanning.layouts import Layout, views

_NAMED = 6  # entries of a direction that are shown


@dataclass(frozen=True)
class Direction:
    """σ·u·vᵀ: the inputs with the largest weight in v, the outputs with the largest in u, each (name, weight)."""

    sigma: float
    share: float  # of Σσ²
    inputs: tuple[tuple[str, float], ...]
    outputs: tuple[tuple[str, float], ...]


def directions(source: Any, title: str, count: int = 5) -> list[Direction]:
    """The `count` strongest directions of the matrix named `title` (its part in brackets, where it has one)."""
    with open_checkpoint(source) as checkpoint:
        name, part = _found(checkpoint, title)
        entry = next(entry for entry in checkpoint.entries if entry.name == name)
        layout = Layout.of(checkpoint.config, {entry.name: entry.shape for entry in checkpoint.entries})
        wanted = [view for view in views(name, entry.shape, layout, per_head=True) if view.part == part]
        if not wanted:
            parts = ", ".join(view.part for view in views(name, entry.shape, layout, per_head=True) if view.part)
            raise InputError(f"{name!r} has no part {part!r}; it has {parts or 'none'}")
        tensor = checkpoint.load(name)
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{name!r} holds NaN or infinity: it has no singular vectors")
        matrix = wanted[0].cut(tensor).double().cpu().numpy()
        labels = [None if part else checkpoint.labels(name, axis) for axis in (0, 1)]
    return list(_strongest(matrix, count, labels))


def _found(checkpoint: Checkpoint, title: str) -> tuple[str, str]:
    name, _, rest = title.partition(" [")
    known = {entry.name: entry for entry in checkpoint.entries}
    if name not in known:
        raise InputError(f"there is no tensor {name!r}{did_you_mean(name, known)[:300]}")
    reason = why_not(known[name].shape, known[name].kind)
    if reason:
        raise InputError(f"{name!r} has no directions: {reason}")
    return name, rest.rstrip("]")


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

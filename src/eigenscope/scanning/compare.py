"""What fine-tuning did to each matrix: the spectrum of the difference, and how far the leading directions turned."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eigenscope.checkpoints import Checkpoint, Entry, open_checkpoint
from eigenscope.errors import CheckpointError, InputError
from eigenscope.estimators.gram import singular_spectrum
from eigenscope.scanning.analysis import why_not
from eigenscope.scanning.layouts import Layout, View, views
from eigenscope.scanning.result import Skipped
from eigenscope.weights.reading import WeightReading, read_weights

LEADING = 10  # directions whose subspaces are compared
FOREIGN = 0.6  # a leading direction whose cosine with every one of BASE's stays below this is an intruder
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Change:
    """One matrix of BASE and what TUNED made of it."""

    name: str
    part: str
    difference: WeightReading  # of ΔW
    relative_size: float  # ‖ΔW‖_F/‖W‖_F
    overlap: float  # mean squared cosine between the leading left and right subspaces: 1 where they are the same
    intruders: int  # of TUNED's leading directions, those that BASE lacks

    def to_dict(self) -> dict[str, object]:
        """The row as JSON has it."""
        shape = [self.difference.rows, self.difference.columns]
        mine = {name: getattr(self, name) for name in ("relative_size", "overlap", "intruders")}
        return {"name": self.name, "part": self.part, "shape": shape, **mine, "difference": self.difference.to_dict()}


@dataclass(frozen=True)
class Comparison:
    """Every matrix that both have, and what could not be compared."""

    base: str
    tuned: str
    changes: tuple[Change, ...]
    unchanged: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """The comparison as JSON."""
        return {
            "base": self.base,
            "tuned": self.tuned,
            "changes": [change.to_dict() for change in self.changes],
            "unchanged": list(self.unchanged),
            "skipped": [item.to_dict() for item in self.skipped],
            "seconds": self.seconds,
        }


def compare(base: Any, tuned: Any, *, progress: Progress | None = None) -> Comparison:
    """Compare two checkpoints of one architecture, or a base with a PEFT adapter, tensor by tensor.

    Intruders are new dominant directions: left singular vectors among TUNED's first ten whose cosine with every one of
    BASE's is below 0.6 (Shuttleworth et al. 2024).
    """
    start = time.perf_counter()
    with open_checkpoint(base) as first, open_checkpoint(tuned) as second:
        pairs, skipped = _paired(first, second)
        layout = Layout.of(first.config, {entry.name: entry.shape for entry in first.entries})
        adapter = second.format == "peft"
        changes: list[Change] = []
        unchanged = []
        for done, (entry, other) in enumerate(pairs):
            try:
                weight, change = _loaded(first, second, entry, other, adapter)
            except CheckpointError as error:
                skipped.append(Skipped(entry.name, entry.shape, entry.dtype, str(error)))
                continue
            if not bool(change.any()):
                unchanged.append(entry.name)
            else:
                roundoff = 2.0**-24 if adapter else max(entry.roundoff, other.roundoff)
                changes += _changes(entry, weight, change, layout, roundoff)
            if progress:
                progress(done + 1, len(pairs))
        if not pairs:
            raise InputError(f"{first.name} and {second.name} have no matrix in common: are they of one architecture?")
        return Comparison(
            first.name, second.name, tuple(changes), tuple(unchanged), tuple(skipped), time.perf_counter() - start
        )


def _paired(first: Checkpoint, second: Checkpoint) -> tuple[list[tuple[Entry, Entry]], list[Skipped]]:
    """Tensors of one name and shape in both; of an adapter those that it changes."""
    others = {_plain(entry.name): entry for entry in second.entries}
    adapter = second.format == "peft"
    pairs, skipped, met = [], [], set()
    for entry in first.entries:
        other = others.get(_plain(entry.name)) or (_by_ending(entry.name, others) if adapter else None)
        reason = why_not(entry.shape, entry.kind)
        if other is None:
            reason = reason or ("the adapter leaves it as it is" if adapter else "TUNED has no such tensor")
        else:
            met.add(other.name)
            if reason is None and sorted(entry.shape) != sorted(other.shape):
                reason = f"of another shape in TUNED: {tuple(other.shape)}"
        if reason is None and other is not None:
            pairs.append((entry, other))
        else:
            skipped.append(Skipped(entry.name, entry.shape, entry.dtype, reason or ""))
    missing = [entry for entry in second.entries if entry.name not in met and why_not(entry.shape, entry.kind) is None]
    skipped += [Skipped(entry.name, entry.shape, entry.dtype, "BASE has no such tensor") for entry in missing]
    return pairs, skipped


def _plain(name: str) -> str:
    for prefix in ("module.", "_orig_mod.", "base_model.model."):
        name = name.removeprefix(prefix)
    return name


def _by_ending(name: str, others: Mapping[str, Entry]) -> Entry | None:
    """An adapter may know a module by a longer or a shorter path than the base."""
    plain = _plain(name)
    for key, entry in others.items():
        if plain.endswith(f".{key}") or key.endswith(f".{plain}"):
            return entry
    return None


def _loaded(first: Checkpoint, second: Checkpoint, entry: Entry, other: Entry, adapter: bool) -> tuple[Tensor, Tensor]:
    weight, change = first.load(entry.name).double(), second.load(other.name).double()
    if change.shape != weight.shape:
        change = change.T
    if not adapter:
        change = change - weight
    if not bool(torch.isfinite(weight).all() and torch.isfinite(change).all()):
        raise CheckpointError(f"{entry.name!r} holds NaN or infinity")
    return weight, change


def _changes(entry: Entry, weight: Tensor, change: Tensor, layout: Layout, roundoff: float) -> Iterator[Change]:
    for view in views(entry.name, entry.shape, layout):
        before, moved = view.cut(weight), view.cut(change)
        if bool(moved.any()):
            yield _change(entry.name, view, before, moved, roundoff)


def _change(name: str, view: View, before: Tensor, moved: Tensor, roundoff: float) -> Change:
    size = float(before.norm())
    # what rounding of W and of W + ΔW leaves in their difference is relative to W
    relative = roundoff * size / float(moved.norm())
    old, new = _vectors(before), _vectors(before + moved)
    return Change(
        name,
        view.part,
        read_weights(singular_spectrum(moved), *view.shape, relative),
        float(moved.norm()) / size if size > 0 else math.inf,
        float(np.mean([_overlap(a[:, :LEADING], b[:, :LEADING]) for a, b in zip(old, new, strict=True)])),
        int(np.sum(np.abs(old[0].T @ new[0][:, :LEADING]).max(0) < FOREIGN)),
    )


def _vectors(matrix: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All left singular vectors (of the shorter side), and the leading right ones, as columns."""
    array = matrix.cpu().numpy()
    wide = array if array.shape[0] <= array.shape[1] else array.T
    values, left = np.linalg.eigh(wide @ wide.T)
    left = left[:, ::-1]
    scale = np.sqrt(np.maximum(values[::-1][:LEADING], 1e-300))
    return left, wide.T @ left[:, :LEADING] / scale


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """‖AᵀB‖_F²/k of two orthonormal sets of k vectors."""
    return float(np.sum((a.T @ b) ** 2) / a.shape[1])

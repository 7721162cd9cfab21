"""What fine-tuning did to each matrix: the spectrum of the difference, and how far the leading directions turned."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eigenscope.checkpoints import Checkpoint, Entry, open_checkpoint
from eigenscope.checkpoints.formats.peft import PREFIX, Peft
from eigenscope.errors import CheckpointError, InputError, printable
from eigenscope.estimators.gram import singular_spectrum
from eigenscope.scanning.analysis import one_line
from eigenscope.scanning.comparison import Change, Comparison
from eigenscope.scanning.layouts import Layout, View, views, why_not
from eigenscope.scanning.ledger import check_patterns, equal_heads, left_out, patterns, reason
from eigenscope.scanning.result import Skipped
from eigenscope.scanning.turning import turn
from eigenscope.scanning.updates import is_turned
from eigenscope.weights.reading import read_weights

Progress = Callable[[int, int], None]
_REPLACED = re.compile(r"\.modules_to_save\.(default\.)?")  # a whole module that an adapter brings


@dataclass(frozen=True)
class Pair:
    """A tensor of BASE, and the one of TUNED that belongs to it."""

    base: Entry
    tuned: Entry
    update: bool  # TUNED's is ΔW, of an adapter; else it is the whole weight


def compare(
    base: Any, tuned: Any, *, match: str | Sequence[str] | None = None, progress: Progress | None = None
) -> Comparison:
    """Compare two checkpoints of one architecture, or a base with a PEFT adapter, tensor by tensor.

    `match` names the tensors of BASE to look at, globs allowed.

    `overlap` and `intruders` look at the first ten directions, or as many as both matrices have above their rounding.
    Intruders are new dominant directions: outputs (left singular vectors) among those of TUNED whose cosine with every
    one of BASE's is below 0.6 (Shuttleworth et al. 2024).
    """
    start = time.perf_counter()
    wanted = patterns(match, "match")
    with open_checkpoint(base) as first, open_checkpoint(tuned) as second:
        if isinstance(first, Peft) and not isinstance(second, Peft):
            raise InputError(f"BASE, {first.name}, is a PEFT adapter: name the model first, then its adapter")
        layout = Layout.of_checkpoint(first)
        check_patterns(wanted, [entry.name for entry in first.entries])
        pairs, skipped = _paired(first, second, layout, wanted)
        changes: list[Change] = []
        unchanged = []
        for done, pair in enumerate(pairs):
            entry = pair.base
            try:
                weight, change = _loaded(first, second, pair, layout)
                if bool(change.any()):
                    changes += list(_changes(pair, weight, change, layout))
                else:
                    unchanged.append(entry.name)
            except Exception as error:  # of one tensor: the others are compared all the same
                skipped.append(Skipped(entry.name, entry.shape, entry.dtype, str(one_line(error))))
            if progress:
                progress(done + 1, len(pairs))
        if not pairs and not {_plain(e.name) for e in first.entries} & {_plain(e.name) for e in second.entries}:
            raise InputError(f"{first.name} and {second.name} have no matrix in common: are they of one architecture?")
        return Comparison(
            first.name, second.name, tuple(changes), tuple(unchanged), tuple(skipped), time.perf_counter() - start
        )


def _paired(
    first: Checkpoint, second: Checkpoint, layout: Layout, match: Sequence[str]
) -> tuple[list[Pair], list[Skipped]]:
    """Tensors of one name and shape in both; of an adapter those that it changes or brings."""
    updates = second.updates.keys() if isinstance(second, Peft) else None
    others = {_plain(entry.name): entry for entry in second.entries}
    tied = {**first.tied, **equal_heads(first)}
    pairs, skipped, met = [], [], set()
    for entry in first.entries:
        other = others.get(_plain(entry.name)) or (_by_ending(entry.name, others) if updates is not None else None)
        why = left_out(entry.name, match) or reason(entry, tied, layout)
        if other is None:
            why = why or ("TUNED has no such tensor" if updates is None else "the adapter leaves it as it is")
        else:
            met.add(other.name)
            update = updates is not None and other.name in updates
            why = why or _unequal(entry, other, update)
            if why is None:
                pairs.append(Pair(entry, other, update))
        if why is not None:
            skipped.append(Skipped(entry.name, entry.shape, entry.dtype, why))
    own = Layout.of_checkpoint(second)
    for entry in second.entries:
        if entry.name not in met and why_not(entry.name, entry.shape, entry.kind, own) is None:
            aside = printable(entry.aside) if entry.aside and updates is None else "BASE has no such tensor"
            skipped.append(Skipped(entry.name, entry.shape, entry.dtype, aside))
    return pairs, skipped


def _unequal(entry: Entry, other: Entry, update: bool) -> str | None:
    """Why two tensors of one name are not subtracted; None where they are."""
    if not other.readable or other.kind in ("integer", "complex"):
        return printable(other.aside or f"of type {other.dtype} in TUNED")
    turned = update and len(entry.shape) == 2 and other.shape == entry.shape[::-1]
    return None if turned or other.shape == entry.shape else f"of another shape in TUNED: {tuple(other.shape)}"


def _plain(name: str) -> str:
    for prefix in ("module.", "_orig_mod.", PREFIX):
        name = name.removeprefix(prefix)
    return _REPLACED.sub(".", name)


def _by_ending(name: str, others: Mapping[str, Entry]) -> Entry | None:
    """An adapter may know a module by a longer or a shorter path than the base."""
    plain = _plain(name)
    for key, entry in others.items():
        if plain.endswith(f".{key}") or key.endswith(f".{plain}"):
            return entry
    return None


def _loaded(first: Checkpoint, second: Checkpoint, pair: Pair, layout: Layout) -> tuple[Tensor, Tensor]:
    weight, change = first.load(pair.base.name).double(), second.load(pair.tuned.name).double()
    if not pair.update:
        change = change - weight
    elif isinstance(second, Peft) and is_turned(second.updates[pair.tuned.name], pair.base, layout):
        change = change.T
    if not bool(torch.isfinite(weight).all() and torch.isfinite(change).all()):
        raise CheckpointError(f"{pair.base.name!r} holds NaN or infinity")
    return weight, change


def _changes(pair: Pair, weight: Tensor, change: Tensor, layout: Layout) -> Iterator[Change]:
    stored = pair.base.roundoff
    # an update is known to the last digit of W: it is added in full precision
    rounding = 2.0**-24 if pair.update else max(stored, pair.tuned.roundoff)
    for view in views(pair.base.name, pair.base.shape, layout):
        before, moved = view.cut(weight), view.cut(change)
        if bool(moved.any()):
            yield _change(pair.base.name, view, before, moved, rounding, stored)


def _change(name: str, view: View, before: Tensor, moved: Tensor, rounding: float, stored: float) -> Change:
    size = float(before.norm())
    # what rounding of W and of W + ΔW leaves in their difference is relative to W
    relative = rounding * size / float(moved.norm())
    turned = turn(before, before + moved, stored)
    return Change(
        name,
        view.part,
        read_weights(singular_spectrum(moved), *view.shape, relative),
        float(moved.norm()) / size if size > 0 else math.inf,
        turned.overlap if turned else None,
        turned.intruders if turned else None,
    )

"""Which layers the calibration reaches, and by which of them the output can be told to change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eigenscope.compression.candidates import Candidate
from eigenscope.compression.observing import Forward, observe
from eigenscope.compression.report import Skipped
from eigenscope.compression.statistics import Statistics
from eigenscope.errors import InputError
from eigenscope.operators.isolation import random_streams
from eigenscope.words import counted, few

UNREACHED = "never reached on the calibration data: its code was not run, or something reads its weight directly"
IDLE = "without effect on the output on the calibration data"


@dataclass(frozen=True)
class Reach:
    """Layers to compress and layers to leave."""

    candidates: list[Candidate]
    skipped: list[Skipped]
    comparable: bool  # whether the change of the output is known of each
    notes: list[str]


def reach(
    model: nn.Module,
    candidates: Sequence[Candidate],
    found: Mapping[str, Statistics],
    batches: Sequence[Any],
    forward: Forward,
) -> Reach:
    """Sort layers by what came through them and what came back."""
    missed = [c for c in candidates if c.name not in found]
    if len(missed) == len(candidates):
        raise InputError(
            f"the calibration reaches none of the layers ({few([c.name or c.kind for c in candidates])}): it has to "
            "run the model that is compressed; check its batches and what is called with them"
        )
    idle, dark = _idle(model, [found[c.name] for c in candidates if c.name in found], batches, forward)
    kept = [c for c in candidates if c.name in found and c.name not in idle]
    if not kept:
        raise InputError(
            f"the gradients at {few(sorted(idle))} are 0 on all calibration batches: what is kept close (forward= "
            "says it, else the model's output) must change with the layers, as logits do, not probabilities of 0 and 1"
        )
    out = [(c, UNREACHED) for c in missed] + [(c, IDLE) for c in candidates if c.name in idle]
    skipped = [Skipped(c.name, type(c.module).__name__, c.parameters, reason) for c, reason in out]
    return Reach(kept, skipped, not dark, list(_notes(len(candidates), missed, idle, dark)))


def _idle(
    model: nn.Module, seen: Sequence[Statistics], batches: Sequence[Any], forward: Forward
) -> tuple[set[str], list[str]]:
    """Layers that the output does not depend on, and those of which gradients tell nothing."""
    idle = {s.candidate.name for s in seen if s.differentiated and not s.matters}
    dark = [s for s in seen if not s.differentiated]
    if len(dark) == len(seen):
        return set(), [s.candidate.name for s in dark]
    while dark and not _changes(model, dark[0], batches, forward):
        idle.add(dark.pop(0).candidate.name)
    return idle, [s.candidate.name for s in dark]


def _changes(model: nn.Module, layer: Statistics, batches: Sequence[Any], forward: Forward) -> bool:
    """Whether the model's output is another one where this layer gives NaN."""
    index = next(i for i, calls in enumerate(layer.calls) if calls)

    def outputs() -> list[Tensor]:
        with torch.no_grad(), random_streams():
            return [output.detach().clone() for output in observe(model, batches[index], index, forward).outputs]

    before = outputs()
    hook = layer.candidate.module.register_forward_hook(lambda module, inputs, output: output * float("nan"))
    try:
        after = outputs()
    except InputError:  # the model's code stumbles over it
        return True
    finally:
        hook.remove()
    return len(before) != len(after) or not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def _notes(count: int, missed: Sequence[Candidate], idle: set[str], dark: Sequence[str]) -> Iterator[str]:
    for names, reason in (([c.name for c in missed], UNREACHED.partition(":")[0]), (sorted(idle), IDLE)):
        if names:
            yield f"{reason}, and so left alone: {few(names)} ({len(names)} of {counted(count, 'layer')})"
    if dark:
        yield (
            f"no gradient comes back to {few(list(dark))}: what {counted(len(dark), 'layer')} of {count} do to the "
            "model's output is not known, and ranks are spread by the error of each layer's own output instead"
        )

"""`eigenscope.inspect_lora`: the spectrum that an adapter really uses, and the rank that would do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from eigenscope.adapters.architecture import plain
from eigenscope.adapters.factoring import Wish
from eigenscope.adapters.opened import Opened, changes_the_base, open_adapter
from eigenscope.adapters.report import InspectedLayer, Inspection, WholeTensor
from eigenscope.adapters.spectrum import factor_spectrum, rounding_of_factors
from eigenscope.scanning.compare import compare
from eigenscope.scanning.comparison import Change
from eigenscope.weights.ranks import effective_rank, rank_at, stable_rank
from eigenscope.words import counted

Progress = Callable[[int, int], None]


def inspect_lora(
    adapter: str | os.PathLike[str], base: Any = None, *, energy: float = 0.95, progress: Progress | None = None
) -> Inspection:
    """The singular values of each update of a PEFT adapter, through QR decompositions of its factors.

    Parameters
    ----------
    adapter
        The folder, or a Hugging Face id.
    base
        Where it is given, what `compare` says of W and W + ΔW is there too: the relative size, and intruders, new
        leading directions that W lacks (Shuttleworth et al. 2024).
    energy
        The share of Σσ² that the rank that would do has to hold.
    progress
        Called with (layers done, in all).

    Raises `CheckpointError` or `InputError`, in one line, for what is no LoRA adapter or holds NaN.
    """
    start = time.perf_counter()
    Wish(None, energy)
    opened = open_adapter(adapter)
    try:
        changes = _changes(base, adapter)
        layers = []
        for done, module in enumerate(opened.updates):
            layers.append(_inspected(opened, module, energy, changes.get(module)))
            if progress:
                progress(done + 1, len(opened.updates))
        bases = {f"{module}.weight" for module in opened.updates}  # PEFT adds the weight itself below factors of a head
        brought = [(name, entry.shape) for name, entry in opened.whole() if name not in bases]
        whole = [WholeTensor(name, shape, "modules_to_save", "whole") for name, shape in brought]
        return Inspection(
            adapter=opened.peft.name,
            base=None if base is None else str(getattr(base, "name_or_path", None) or base)[:80],
            energy=energy,
            layers=tuple(layers),
            whole=tuple(whole),
            rank=max(layer.rank for layer in layers),
            rank_enough=max(layer.rank_enough for layer in layers),
            parameters=sum(layer.parameters for layer in layers),
            parameters_enough=sum(layer.parameters * layer.rank_enough // layer.rank for layer in layers),
            notes=tuple(_notes(opened, layers)),
            seconds=time.perf_counter() - start,
        )
    finally:
        opened.close()


def _changes(base: Any, adapter: Any) -> Mapping[str, Change]:
    """By module, in the adapter's own spelling where that is the end of the base's name."""
    if base is None:
        return {}
    found = {}
    for change in compare(base, adapter).changes:
        if not change.part:
            found[plain(change.name).removesuffix(".weight")] = change
    return _BySuffix(found)


class _BySuffix(dict[str, Change]):
    """An adapter may know a module by a longer or a shorter path than the base."""

    def get(self, module: str, default: Any = None) -> Any:
        if module in self:
            return self[module]
        names = (name for name in self if name.endswith(f".{module}") or module.endswith(f".{name}"))
        name = next(names, None)
        return default if name is None else self[name]


def _inspected(opened: Opened, module: str, energy: float, change: Change | None) -> InspectedLayer:
    update = opened.updates[module]
    a, b = (factor.flatten(1) for factor in opened.factors(module))
    sigma = factor_spectrum(a, b, update.scaling).values
    floor = rounding_of_factors(a, b, update.scaling, max(update.a.roundoff, update.b.roundoff))
    return InspectedLayer(
        name=module,
        shape=(b.shape[0], a.shape[1]),
        rank=a.shape[0],
        scaling=update.scaling,
        singular_values=tuple(sigma.tolist()),
        rank_used=int((sigma > floor).sum()),
        effective_rank=effective_rank(sigma),
        stable_rank=stable_rank(sigma),
        rank_enough=max(rank_at(sigma, energy), 1),
        parameters=a.numel() + b.numel(),
        relative_size=change.relative_size if change else None,
        overlap=change.overlap if change else None,
        intruders=change.intruders if change else None,
    )


def _notes(opened: Opened, layers: list[InspectedLayer]) -> list[str]:
    notes = list(opened.peft.notes)
    idle = [layer for layer in layers if layer.rank_used == 0]
    if idle:
        notes.append(f"{counted(len(idle), 'layer')} of {len(layers)} add nothing: their factors multiply to 0")
    if start := changes_the_base(opened.peft.config):
        notes.append(
            f"initialized by {start}, which changes the base too: ΔW is relative to that base, not the original"
        )
    return notes

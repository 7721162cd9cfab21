"""`eigenscope.resize_lora`: an adapter at another rank, without its base and without forming ΔW."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from eigenscope.adapters.adapter import Adapter
from eigenscope.adapters.configuration import patterns
from eigenscope.adapters.factoring import Rank, Wish
from eigenscope.adapters.opened import Opened, check_plain, open_adapter
from eigenscope.adapters.report import Resize, ResizedLayer
from eigenscope.adapters.spectrum import factor_spectrum, rounding_of_factors
from eigenscope.errors import InputError
from eigenscope.weights.ranks import rank_at


def resize_lora(adapter: str | os.PathLike[str], rank: Rank = "auto", *, energy: float = 0.95) -> Adapter:
    """Truncate every update of a PEFT adapter to `rank`, or to the least rank that holds `energy` of its Σσ² ("auto").

    Eckart & Young 1936: no adapter of that rank is nearer. The scaling goes into the factors (α = r); all else that the
    adapter holds stays as it is. `.report` has what is left over of each layer; `.save(folder)` writes it.

    Raises `InputError` where the rank is larger than the adapter's, and one line for what is no LoRA adapter.
    """
    start = time.perf_counter()
    wish = Wish(rank, energy)
    opened = open_adapter(adapter)
    try:
        check_plain(opened)
        most = max(update.a.shape[0] for update in opened.updates.values())
        if isinstance(rank, int) and rank > most:
            raise InputError(f"rank={rank} is not possible: {opened.peft.name} has rank {most}; give at most that")
        resized = {module: _resized(opened, module, wish) for module in opened.updates}
        rows = tuple(row for row, _ in resized.values())
        tensors = _tensors(opened, {module: factors for module, (_, factors) in resized.items()})
        before = sum(math.prod(u.a.shape) + math.prod(u.b.shape) for u in opened.updates.values())
        after = sum(a.numel() + b.numel() for _, (a, b) in resized.values())
        notes = tuple(opened.peft.notes)
        report = Resize(opened.peft.name, rows, before, after, notes, time.perf_counter() - start)
        config = _configuration(opened.peft.config, {row.name: row.rank for row in rows})
        return Adapter(config, tensors, report, f"{opened.peft.name}, resized by eigenscope.", sources=(adapter,))
    finally:
        opened.close()


def _resized(opened: Opened, module: str, wish: Wish) -> tuple[ResizedLayer, tuple[Tensor, Tensor]]:
    update = opened.updates[module]
    a, b = opened.factors(module)
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    found = factor_spectrum(flat_a, flat_b, update.scaling)
    sigma = found.values
    floor = rounding_of_factors(flat_a, flat_b, update.scaling, max(update.a.roundoff, update.b.roundoff))
    wanted = wish.rank if isinstance(wish.rank, int) else rank_at(sigma, wish.energy)
    rank = max(min(wanted, int((sigma > floor).sum())), 1)
    root = found.singular_values[:rank].sqrt()
    new_b = (found.u[:, :rank] * root).to(b.dtype)
    new_a = (root[:, None] * found.vt[:rank]).to(a.dtype)
    total = float((sigma**2).sum())
    left = _left_over((flat_a, flat_b, update.scaling), (new_a, new_b))
    share = left / math.sqrt(total) if total else 0.0
    row = ResizedLayer(module, a.shape[0], rank, 1 - share**2, share)
    return row, (new_a.reshape(rank, *a.shape[1:]), new_b.reshape(b.shape[0], rank, *b.shape[2:]))


def _left_over(before: tuple[Tensor, Tensor, float], after: tuple[Tensor, Tensor]) -> float:
    """‖s·B·A − B′·A′‖_F = ‖[s·B, −B′]·[A; A′]‖_F, through the factors."""
    a, b, scaling = before
    tall = torch.cat([scaling * b.double(), -after[1].double()], 1)
    wide = torch.cat([a.double(), after[0].double()], 0)
    return float(torch.linalg.vector_norm(factor_spectrum(wide, tall).singular_values))


def _tensors(opened: Opened, factors: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """By the names in the file; a bias of B was scaled, and is no longer."""
    found = {}
    for module, (a, b) in factors.items():
        update = opened.updates[module]
        found[update.a.name], found[update.b.name] = a.contiguous(), b.contiguous()
    biases = {module: opened.lora_bias(module) for module in factors}
    scaled = {
        update.b.name.replace(".weight", ".bias"): update.scaling
        for module, update in opened.updates.items()
        if biases[module] is not None
    }
    for entry in opened.others():
        value = opened.peft.load(entry.name)
        found[entry.name] = value * scaled[entry.name] if entry.name in scaled else value
    return found


def _configuration(config: Mapping[str, object], ranks: Mapping[str, int]) -> dict[str, object]:
    common = max(set(ranks.values()), key=list(ranks.values()).count)
    others = patterns(ranks, common)
    changed = {"r": common, "lora_alpha": common, "rank_pattern": others, "alpha_pattern": others}
    return {**config, **changed, "use_rslora": False}

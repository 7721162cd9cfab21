"""`eigenscope.extract_lora`: what fine-tuning added to each weight, as an adapter."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from eigenscope.adapters.adapter import Adapter
from eigenscope.adapters.architecture import ADAPTABLE, Architecture
from eigenscope.adapters.assembly import Parts, assembled
from eigenscope.adapters.factoring import Factored, Rank, Wish, factored
from eigenscope.adapters.pairing import Pair, paired
from eigenscope.adapters.report import ExtractedLayer
from eigenscope.adapters.rounding import is_rounding, roundings
from eigenscope.checkpoints import Checkpoint, Entry, open_checkpoint
from eigenscope.errors import CheckpointError, InputError
from eigenscope.words import did_you_mean

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Progress = Callable[[int, int], None]  # entries of tensors done, in all


def extract_lora(
    base: Any,
    tuned: Any,
    *,
    rank: Rank = "auto",
    energy: float = 0.95,
    dtype: str = "float32",
    progress: Progress | None = None,
) -> Adapter:
    """Extract what fine-tuning changed as a LoRA adapter that PEFT loads (Hu et al. 2021), one tensor at a time.

    ΔW = TUNED − BASE of each dense layer, Conv1D and convolution is truncated (Eckart & Young 1936); embeddings, heads
    and norms that changed are brought whole in `modules_to_save`; changed biases by `lora_bias`, or whole by `bias`.

    Parameters
    ----------
    base, tuned
        Whatever `scan` reads: a file, a folder, a Hugging Face id, a model or its state dict.
    rank
        "auto": where ΔW is of low rank but for the rounding of its storage, all of that rank; else by `energy`. A
        number: that rank, where ΔW has so many directions above the rounding. None: by `energy` alone.
    energy
        The share of ‖ΔW‖_F² (of what is not rounding) that each layer keeps, as far as the rank is decided by it.
    dtype
        Of the stored factors: "float32", "bfloat16" or "float16".
    progress
        Called with (entries of tensors done, in all).

    Returns
    -------
    Adapter
        `.save(folder)` writes it; `.report` has for each layer its rank, the energy that it holds, and what is left
        over, measured on the factors as they are stored.

    Raises
    ------
    CheckpointError
        A checkpoint can't be read, or holds NaN or infinity.
    InputError
        The two are not of one architecture, nothing changed, or the rank is larger than any layer allows.
    """
    start = time.perf_counter()
    wish = Wish(rank, energy)
    if dtype not in DTYPES:
        raise InputError(f"dtype={dtype!r} is unknown{did_you_mean(dtype, DTYPES)}")
    with open_checkpoint(base) as first, open_checkpoint(tuned) as second:
        architecture = Architecture.of((tuned, base), (second, first))
        pairs, notes = paired(first, second, architecture)
        _check_rank(wish, pairs, architecture)
        work = _Work(first, second, architecture, wish, DTYPES[dtype])
        done, total = 0, sum(math.prod(pair.tuned.shape) for pair in pairs)
        for pair in pairs:
            work.look(pair)
            work.settle(pair.name.removesuffix(".weight"))
            done += math.prod(pair.tuned.shape)
            if progress:
                progress(done, total)
        made = assembled(work.parts, pairs, (first, second), _known_as(base, first), architecture, notes, start)
        return replace(made, sources=tuple(s for s in (base, tuned) if isinstance(s, str | os.PathLike)))


def _known_as(base: Any, checkpoint: Checkpoint) -> str | None:
    """What PEFT's AutoPeftModel would load the base by: a model's folder or id."""
    if isinstance(base, str | os.PathLike):
        return os.fspath(base) if checkpoint.format == "huggingface" else None
    return str(getattr(base, "name_or_path", "")) or None


def _check_rank(wish: Wish, pairs: list[Pair], architecture: Architecture) -> None:
    sides = [
        min(pair.tuned.shape[0], math.prod(pair.tuned.shape[1:]))
        for pair in pairs
        if architecture.kind(pair.name, pair.tuned.shape) in ADAPTABLE and len(pair.tuned.shape) > 1
    ]
    if isinstance(wish.rank, int) and sides and wish.rank > max(sides):
        raise InputError(f"rank={wish.rank} is not possible: the largest layer has a rank of {max(sides)} at most")


@dataclass
class _Work:
    """Looks at one tensor after the other, and keeps only what the adapter will hold."""

    base: Checkpoint
    tuned: Checkpoint
    architecture: Architecture
    wish: Wish
    dtype: torch.dtype
    parts: Parts = field(default_factory=Parts)

    def look(self, pair: Pair) -> None:
        """Sort one tensor of TUNED: unchanged, factors, a bias, or whole."""
        name, kind = pair.name, self.architecture.kind(pair.name, pair.tuned.shape)
        if kind == "buffer" and pair.base is None:
            return
        after = _finite(self.tuned, pair.tuned)
        before = _finite(self.base, pair.base) if pair.base is not None else None
        if before is not None and before.shape == after.shape and _same(before, after):
            self.parts.unchanged.append(name)
        elif before is None or before.shape != after.shape:
            self.parts.whole[name] = "BASE has none" if before is None else f"BASE's is of shape {tuple(before.shape)}"
        elif pair.base is None or is_rounding(before, after, (pair.base, pair.tuned)):
            self.parts.rounded.append(name)
        elif self._adaptable(name, kind, after):
            self._factor(name, kind, before, after, (pair.base, pair.tuned))
        elif name.endswith(".bias") and kind in ADAPTABLE and not self.architecture.is_head(name):
            self.parts.biases[name.removesuffix(".bias")] = (after.double() - before.double(), after)
        else:
            self.parts.whole[name] = _why(name, kind, self.architecture)

    def settle(self, module: str) -> None:
        """Copy what is kept, now that the large tensors are gone: amid them it would hold their memory together."""
        if module in self.parts.factors:
            a, b = self.parts.factors[module]
            self.parts.factors[module] = (a.clone(), b.clone())

    def _adaptable(self, name: str, kind: str, weight: Tensor) -> bool:
        fits = kind in ADAPTABLE and name.endswith(".weight") and weight.ndim > 1 and weight.is_floating_point()
        return fits and not self.architecture.is_head(name) and len(self.architecture.sharing(name)) == 1

    def _factor(self, name: str, kind: str, before: Tensor, after: Tensor, entries: tuple[Entry, Entry]) -> None:
        old, new = _matrix(before, kind), _matrix(after, kind)
        change = new.double().sub_(old)
        found = factored(change, roundings(old, new, change, entries), self.wish, self.dtype)
        rows, columns = change.shape
        if found.rank_of_change == 0:
            self.parts.rounded.append(name)
            return
        if found.rank * (rows + columns) >= rows * columns:
            held = f"{found.rank} of {min(rows, columns)}"
            self.parts.whole[name] = f"flat: factors of rank {held} would be no smaller than the matrix itself"
            return
        module = name.removesuffix(".weight")
        sizes = (_norm(old), _norm(new))
        self.parts.layers[module] = _row(module, kind, found, (rows, columns), sizes)
        self.parts.factors[module] = _shaped(found, after, kind)


def _finite(checkpoint: Checkpoint, entry: Entry) -> Tensor:
    tensor = checkpoint.load(entry.name)
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"{checkpoint.name}: {entry.name} holds NaN or infinity: no adapter can be made of it")
    return tensor


def _same(before: Tensor, after: Tensor) -> bool:
    if before.dtype == after.dtype:
        return torch.equal(before, after)
    return torch.equal(before.double(), after.double())


def _norm(weight: Tensor) -> float:
    """‖W‖_F, summed in fp64."""
    return float(torch.linalg.vector_norm(weight, dtype=torch.float64))


def _why(name: str, kind: str, architecture: Architecture) -> str:
    if kind == "embedding":
        return "an embedding"
    if architecture.is_head(name):
        return "a head"
    if len(architecture.sharing(name)) > 1:
        return f"tied to {architecture.sharing(name)[1]}"
    doubtful = "an embedding, perhaps: its rows are more than its columns, and no other layer takes so many in"
    known = {"parameter": "a parameter that is no layer's weight", "buffer": "a buffer", "doubtful": doubtful}
    return known.get(kind, "a norm or alike")


def _matrix(weight: Tensor, kind: str) -> Tensor:
    """Out × in, or out × (in · kernel)."""
    return weight.T if kind == "conv1d" else weight.flatten(1)


def _shaped(found: Factored, weight: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """A and B as PEFT lays them out: those of a convolution are convolutions."""
    if kind != "conv":
        return found.a.contiguous(), found.b.contiguous()
    ones = (1,) * (weight.ndim - 2)
    return found.a.reshape(found.rank, *weight.shape[1:]), found.b.reshape(*found.b.shape, *ones).contiguous()


def _row(module: str, kind: str, found: Factored, shape: tuple[int, int], sizes: tuple[float, float]) -> ExtractedLayer:
    rows, columns = shape
    share = found.residual / found.norm
    return ExtractedLayer(
        name=module,
        kind=kind,
        shape=shape,
        rank=found.rank,
        rank_full=min(shape),
        rank_of_change=found.rank_of_change,
        chosen_by=found.chosen_by,
        energy=max(1 - share**2, 0.0),
        residual=share,
        residual_of_weight=found.residual / sizes[1] if sizes[1] else math.inf,
        residual_spectral=found.residual_spectral,
        relative_size=found.norm / sizes[0] if sizes[0] else math.inf,
        norm=found.norm,
        rounding_edge=found.edge,
        parameters=found.rank * (rows + columns),
        parameters_full=rows * columns,
    )

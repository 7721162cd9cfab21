"""`eigenscope.merge_lora`: a base with an adapter added for good, streamed from file to file.

The arithmetic is PEFT's, step by step, so that the result is the same in every precision: factors in fp32 where they
are stored in half, ΔW = (B·A)·scaling, and W + ΔW rounded once to the type of W. DoRA (Liu et al. 2024) then scales
each row of a dense layer to its magnitude.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eigenscope.adapters.architecture import plain
from eigenscope.adapters.opened import Opened, check_plain, open_adapter
from eigenscope.adapters.report import Merge
from eigenscope.adapters.storing import Slot, check_output, new_folder, write_json_file, write_safetensors
from eigenscope.checkpoints import Checkpoint, Entry, open_checkpoint
from eigenscope.checkpoints.formats.peft import Update
from eigenscope.diagnostics.words import few
from eigenscope.errors import CheckpointError, InputError
from eigenscope.scanning.layouts import Layout

Progress = Callable[[int, int], None]
_HALF = (torch.float16, torch.bfloat16)
_ALONG = (".json", ".txt", ".model", ".jinja")  # of a model's folder: configuration and tokens
_LARGEST = 64 * 2**20  # bytes of such a file


def merge_lora(
    base: Any,
    adapter: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Merge:
    """Write `base` with the adapter merged to the folder `out`: `model.safetensors`, in the types of the base.

    Parameters
    ----------
    base
        Whatever `scan` reads. Of a model folder the configuration and the tokens go along.
    adapter
        A LoRA adapter's folder, or a Hugging Face id.
    out
        The folder to make; it appears as a whole or not at all.
    force
        Replace a folder with weights that is there.
    progress
        Called with (tensors done, in all).

    Raises one line for an adapter that does not fit the base, and for what can't be merged: embeddings and convolutions
    under DoRA, several adapters in one file, variants whose ΔW is not scaling · B·A.
    """
    start = time.perf_counter()
    check_output(out, force)
    opened = open_adapter(adapter)
    try:
        check_plain(opened)
        with open_checkpoint(base) as checkpoint:
            buffers = frozenset(base.state_dict(keep_vars=True)) if isinstance(base, nn.Module) else frozenset()
            plan = _planned(checkpoint, opened, buffers)
            slots = plan.slots()
            with new_folder(out, force) as partial:
                aliases = {name: kept for name, kept in checkpoint.tied.items() if isinstance(kept, str)}
                tensors = _told(plan.tensors(), len(slots), progress)
                write_safetensors(partial / "model.safetensors", slots, tensors, aliases)
                _go_along(base, partial, plan)
            return Merge(
                base=checkpoint.name,
                adapter=opened.peft.name,
                out=os.fspath(out),
                merged=tuple(plan.updates),
                replaced=tuple(plan.whole),
                added=tuple(plan.added),
                bytes=sum(slot.bytes for slot in slots),
                notes=tuple(plan.notes),
                seconds=time.perf_counter() - start,
            )
    finally:
        opened.close()


@dataclass
class _Plan:
    """What becomes of each tensor of the base."""

    base: Checkpoint
    opened: Opened
    layout: Layout
    buffers: frozenset[str] = frozenset()  # of a model in memory, those that its state dict holds
    updates: dict[str, str] = field(default_factory=dict)  # weight of the base → module of the adapter
    biases: dict[str, str] = field(default_factory=dict)  # bias of the base → module of the adapter
    whole: dict[str, Entry] = field(default_factory=dict)  # tensor of the base → what takes its place
    added: dict[str, Entry] = field(default_factory=dict)  # tensors that the base lacks
    notes: list[str] = field(default_factory=list)

    def entries(self) -> Iterator[Entry]:
        """Those of the base that are written: tied ones once."""
        for entry in self.base.entries:
            if entry.name not in self.base.tied and (entry.aside is None or entry.name in self.buffers):
                yield entry

    def slots(self) -> list[Slot]:
        """Names, shapes and types of the file."""
        found = []
        for entry in self.entries():
            brought = self.whole.get(entry.name)
            shape = (brought or entry).shape
            found.append(Slot(entry.name, shape, _dtype(entry)))
        return found + [Slot(name, entry.shape, _dtype(entry)) for name, entry in self.added.items()]

    def tensors(self) -> Iterator[Tensor]:
        """The values, one at a time, in the order of the slots."""
        for entry in self.entries():
            yield self._merged(entry)
        for entry in self.added.values():
            yield self.opened.peft.load(entry.name)

    def _merged(self, entry: Entry) -> Tensor:
        brought = self.whole.get(entry.name)
        if brought is not None:
            return self.opened.peft.load(brought.name).to(_dtype(entry))
        value = self.base.load(entry.name)
        if entry.name in self.updates:
            return self._weight(entry, value)
        if entry.name in self.biases:
            module = self.biases[entry.name]
            bias = self.opened.lora_bias(module)
            assert bias is not None
            return (value + _wide(bias) * self.opened.updates[module].scaling).to(value.dtype)
        return value

    def _weight(self, entry: Entry, weight: Tensor) -> Tensor:
        module = self.updates[entry.name]
        update = self.opened.updates[module]
        a, b = (_wide(factor) for factor in self.opened.factors(module))
        turned = _turned(entry, update, self.layout)
        change = delta(a, b, update.scaling, embedding=update.embedding, turned=turned)
        merged = weight + change
        magnitude = self.opened.magnitude(module) if self.opened.dora else None
        if magnitude is not None:
            merged = _dora(weight, change, _wide(magnitude), turned)
        if not bool(torch.isfinite(merged).all()):
            raise CheckpointError(f"{self.base.name}: {entry.name} with the adapter holds NaN or infinity: not written")
        return merged.to(weight.dtype)


def delta(a: Tensor, b: Tensor, scaling: float, *, embedding: bool = False, turned: bool = False) -> Tensor:
    """scaling · B·A in the layout of the weight, in PEFT's order of operations."""
    if a.ndim == 2:
        product = b @ a
        return (product.T if embedding or turned else product) * scaling
    if a.ndim == 4 and a.shape[2:] == (1, 1):
        return (b.squeeze(3).squeeze(2) @ a.squeeze(3).squeeze(2)).unsqueeze(2).unsqueeze(3) * scaling
    convolution: Callable[[Tensor, Tensor], Tensor] = (F.conv1d, F.conv2d, F.conv3d)[a.ndim - 3]
    product = convolution(a.transpose(0, 1), b).transpose(0, 1)
    return product * scaling


def _dora(weight: Tensor, change: Tensor, magnitude: Tensor, turned: bool) -> Tensor:
    """Each output's row of W + ΔW at the length that the adapter learned for it."""
    rows = weight.T + change.T if turned else weight + change
    lengths: Tensor = torch.linalg.norm(rows, dim=1)
    factor = (magnitude / lengths).view(-1, 1)
    return (factor.T if turned else factor) * (weight + change)


def _wide(factor: Tensor) -> Tensor:
    """PEFT takes adapters in half precision to fp32 when it loads them."""
    return factor.float() if factor.dtype in _HALF else factor


def _dtype(entry: Entry) -> torch.dtype:
    if not entry.readable:
        raise CheckpointError(f"{entry.name} can't be read ({entry.aside}), so it can't be written either")
    found: torch.dtype = torch.float32 if entry.kind == "quantized" else getattr(torch, entry.dtype)
    return torch.float32 if found.is_floating_point and found.itemsize == 1 else found  # as it is read


def _turned(entry: Entry, update: Update, layout: Layout) -> bool:
    """Whether the weight is stored in × out: as its shape says, and its name where it is square."""
    if update.embedding or len(update.a.shape) != 2:
        return False
    straight, turned = (update.b.shape[0], update.a.shape[1]), (update.a.shape[1], update.b.shape[0])
    if straight != turned:
        return entry.shape == turned
    return update.transposed and (layout.turned(entry.name) or not layout.conv1d)


def _planned(base: Checkpoint, opened: Opened, buffers: frozenset[str]) -> _Plan:
    """Match what the adapter has with the tensors of the base; raises `InputError` where something fits nowhere."""
    if base.format == "peft":
        raise InputError(f"BASE, {base.name}, is an adapter itself: give the model that the adapter is for")
    shapes = {plain(entry.name): entry.shape for entry in base.entries}
    plan = _Plan(base, opened, Layout.of(base.config, shapes, base.format), buffers)
    entries = {entry.name: entry for entry in base.entries}
    match = _Matching(entries, base)
    for module, update in opened.updates.items():
        name = match.found(f"{module}.weight")
        if name is None:
            raise InputError(f"{base.name} has no {module}.weight, which {opened.peft.name} changes: is it its base?")
        _check_shape(entries[name], update, opened)
        plan.updates[name] = module
        if opened.lora_bias(module) is not None:
            bias = match.found(f"{module}.bias")
            if bias is None:
                raise InputError(f"{opened.peft.name} changes the bias of {module}, which has none in {base.name}")
            plan.biases[bias] = module
    _plan_whole(plan, match)
    return plan


def _plan_whole(plan: _Plan, match: _Matching) -> None:
    left: dict[str, Entry] = {}
    for name, entry in plan.opened.whole():
        found = match.found(name)
        (left if found is None else plan.whole)[found or name] = entry
    plan.added = {name: entry for name, entry in left.items() if not _told_twice(plan, entry)}
    if plan.added:
        plan.notes.append(f"{plan.base.name} has no {few(list(plan.added))}: added as the adapter has them")


def _told_twice(plan: _Plan, entry: Entry) -> bool:
    """Whether it is the copy of a tied weight: an adapter brings an embedding and its head, a model stores one."""
    alike = [other for other in plan.whole.values() if other.shape == entry.shape]
    return any(torch.equal(plan.opened.peft.load(other.name), plan.opened.peft.load(entry.name)) for other in alike)


def _check_shape(entry: Entry, update: Update, opened: Opened) -> None:
    if opened.dora and (update.embedding or len(update.a.shape) != 2):
        raise InputError(f"{opened.peft.name} uses DoRA beside {entry.name}, no dense layer: merge it with PEFT")
    out, inn = update.b.shape[0], update.a.shape[1:]
    if sorted(entry.shape) != sorted((out, *inn)):
        has = f"{(out, *inn)} in {opened.peft.name}"
        raise InputError(f"{entry.name} is {entry.shape} in the base, and its update is {has}: is it its base?")


class _Matching:
    """Names of the adapter among those of the base, with or without the body's prefix."""

    def __init__(self, entries: Mapping[str, Entry], base: Checkpoint) -> None:
        self._plain = {plain(name): name for name in entries}
        self._tied = base.tied

    def found(self, name: str) -> str | None:
        """The base's own name; of a tied tensor the one that it is stored as."""
        hit = self._plain.get(name)
        if hit is None:
            near = [key for key in self._plain if name.endswith(f".{key}") or key.endswith(f".{name}")]
            hit = self._plain[near[0]] if len(near) == 1 else None
        return self._tied.get(hit, hit) if hit is not None else None


def _told(tensors: Iterator[Tensor], total: int, progress: Progress | None) -> Iterator[Tensor]:
    for done, tensor in enumerate(tensors):
        yield tensor
        if progress:
            progress(done + 1, total)


def _go_along(base: Any, folder: Path, plan: _Plan) -> None:
    """Configuration and tokens of a model's folder; the vocabulary's size as the merged embedding has it."""
    source = Path(base).expanduser() if isinstance(base, str | os.PathLike) else None
    if source is not None and source.is_dir():
        for path in sorted(source.iterdir()):
            small = path.is_file() and path.stat().st_size <= _LARGEST
            if small and path.suffix in _ALONG and not path.name.endswith(".index.json"):
                shutil.copyfile(path, folder / path.name)
    config = dict(plan.base.config)
    brought = [plan.whole[e.name].shape[0] for e in plan.entries() if e.name in plan.whole and len(e.shape) == 2]
    size = config.get("vocab_size")
    grown = isinstance(size, int) and max(brought, default=0) > size
    if grown:
        config["vocab_size"] = max(brought)
        plan.notes.append(f"the vocabulary grew to {max(brought):,}, and so did vocab_size in config.json")
    if config and plan.base.format in ("huggingface", "module") and (grown or not (folder / "config.json").exists()):
        write_json_file(folder / "config.json", config)

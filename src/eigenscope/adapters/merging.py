"""`eigenscope.merge_lora`: a base with an adapter added for good, streamed from file to file.

The arithmetic is PEFT's, step by step, so that the result is the same in every precision: factors in fp32 where they
are stored in half, ΔW = (B·A)·scaling, and W + ΔW rounded once to the type of W. DoRA (Liu et al. 2024) then scales
each row of a dense layer to its magnitude.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eigenscope.adapters.architecture import Architecture
from eigenscope.adapters.opened import check_plain, open_adapter
from eigenscope.adapters.plan import Plan, Row
from eigenscope.adapters.report import Merge
from eigenscope.adapters.storing import Slot, write_safetensors
from eigenscope.checkpoints import Entry, open_checkpoint
from eigenscope.errors import CheckpointError
from eigenscope.folders import Contents, check_folder, new_folder, write_json_file
from eigenscope.scanning.layouts import Layout
from eigenscope.scanning.updates import is_turned

Progress = Callable[[int, int], None]
_HALF = (torch.float16, torch.bfloat16)
WEIGHTS, CONFIG = "model.safetensors", "config.json"
MERGED = Contents("a model", WEIGHTS, (WEIGHTS, CONFIG, "generation_config.json"))
_ALONG = re.compile(  # of a model's folder: configuration and tokens
    r"((?!adapter_)\w*config\w*|tokenizer|special_tokens_map|added_tokens|vocab|merges|chat_template|modules)"
    r"\.(json|txt|jinja)|.*\.(model|spm|bpe)"
)
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
        Replace a merged model that is there; other files in the folder stay. `base` and `adapter` are never written to.
    progress
        Called with (tensors done, in all).

    An embedding and its head that were tied are both written where the adapter treats them apart: the merged model then
    computes what the adapted one did, which PEFT's merge does not.

    Raises one line for an adapter that does not fit the base, and for what can't be merged: embeddings and convolutions
    under DoRA, several adapters in one file, variants whose ΔW is not scaling · B·A, some of several tied tensors.
    """
    start = time.perf_counter()
    check_folder(out, MERGED, force=force, sources=(base, adapter))
    opened = open_adapter(adapter)
    try:
        check_plain(opened)
        with open_checkpoint(base) as checkpoint:
            buffers = frozenset(base.state_dict(keep_vars=True)) if isinstance(base, nn.Module) else frozenset()
            architecture = Architecture.of((base,), (checkpoint,))
            merging = _Merging(Plan.of(checkpoint, opened, architecture, buffers), Layout.of_checkpoint(checkpoint))
            plan, slots = merging.plan, merging.slots()
            with new_folder(out, MERGED, force=force, sources=(base, adapter)) as partial:
                aliases = {name: kept for name, kept in checkpoint.tied.items() if name not in plan.rows}
                write_safetensors(partial / WEIGHTS, slots, _told(merging.tensors(), len(slots), progress), aliases)
                _go_along(base, partial, plan)
            return Merge(
                base=checkpoint.name,
                adapter=opened.peft.name,
                out=os.fspath(out),
                merged=tuple(row.name for row in plan.rows.values() if row.module and not row.is_bias),
                replaced=tuple(row.name for row in plan.rows.values() if row.base and row.brought and not row.module),
                added=tuple(row.name for row in plan.rows.values() if row.base is None),
                bytes=sum(slot.bytes for slot in slots),
                notes=tuple(plan.notes),
                seconds=time.perf_counter() - start,
            )
    finally:
        opened.close()


@dataclass(frozen=True)
class _Merging:
    """The values of the rows of a plan."""

    plan: Plan
    layout: Layout

    def slots(self) -> list[Slot]:
        """Names, shapes and types of the file: the base's types."""
        return [Slot(row.name, row.entry.shape, _dtype(row.base or row.entry)) for row in self.plan.rows.values()]

    def tensors(self) -> Iterator[Tensor]:
        """The values, one at a time, in the order of the slots."""
        for row in self.plan.rows.values():
            yield self._merged(row)

    def _merged(self, row: Row) -> Tensor:
        opened = self.plan.opened
        if row.brought is not None:
            value = opened.peft.load(row.brought.name).to(_dtype(row.base or row.brought))
        else:
            value = self.plan.base.load(row.entry.name)
        if row.module is None:
            return value
        if row.is_bias:
            bias = opened.lora_bias(row.module)
            assert bias is not None
            return (value + _wide(bias) * opened.updates[row.module].scaling).to(value.dtype)
        return self._weight(row, row.module, value)

    def _weight(self, row: Row, module: str, weight: Tensor) -> Tensor:
        plan = self.plan
        update = plan.opened.updates[module]
        a, b = (_wide(factor) for factor in plan.opened.factors(module))
        turned = is_turned(update, row.entry, self.layout, plan.kind(row))
        change = delta(a, b, update.scaling, embedding=update.embedding, turned=turned)
        merged = weight + change
        magnitude = plan.opened.magnitude(module) if plan.opened.dora else None
        if magnitude is not None:
            merged = _dora(weight, change, _wide(magnitude), turned)
        if not bool(torch.isfinite(merged).all()):
            raise CheckpointError(f"{plan.base.name}: {row.name} with the adapter holds NaN or infinity: not written")
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


def _told(tensors: Iterator[Tensor], total: int, progress: Progress | None) -> Iterator[Tensor]:
    for done, tensor in enumerate(tensors):
        yield tensor
        if progress:
            progress(done + 1, total)


def _go_along(base: Any, folder: Path, plan: Plan) -> None:
    """Configuration and tokens of a model's folder; the vocabulary's size as the merged embedding has it."""
    source = Path(base).expanduser() if isinstance(base, str | os.PathLike) else None
    if source is not None and source.is_dir():
        for path in sorted(source.iterdir()):
            small = path.is_file() and path.stat().st_size <= _LARGEST
            if small and _ALONG.fullmatch(path.name):
                shutil.copyfile(path, folder / path.name)
    config, changed = dict(plan.base.config), plan.untied
    if plan.untied:
        config["tie_word_embeddings"] = False
    for row in plan.rows.values():
        before, after = (entry.shape[:1] if entry else () for entry in (row.base, row.brought))
        if before != after and before == (config.get("vocab_size"),) and after:
            config["vocab_size"], changed = after[0], True
            plan.notes.append(f"the vocabulary is now of {after[0]:,}, and so is vocab_size in config.json")
    known = plan.base.format in ("huggingface", "module")
    if config and known and (changed or not (folder / CONFIG).exists()):
        write_json_file(folder / CONFIG, config)

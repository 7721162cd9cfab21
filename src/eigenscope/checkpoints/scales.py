"""Quantized weights whose scales stand beside them: applied where that is certain, listed where it is not.

8-bit floats come with `weight_scale_inv` (DeepSeek-V3) or `weight_scale` (compressed-tensors, ModelOpt): one factor for
the whole, for each row, or for each block; the weight is the stored value times its factor. Packed integers (GPTQ, AWQ,
HQQ, AQLM) stay packed: their scales are no matrices of the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from eigenscope.checkpoints.entry import Entry

_SCALE = re.compile(r"(?P<weight>\w*?)_?(scales?|scale_inv|scale_2|zeros?|zero_point|qzeros|codebooks|g_idx)")
_PACKED = ("qweight", "weight_packed", "W_q", "codes")
_BLOCK = 128  # rows and columns of a block, where the configuration does not say: DeepSeek-V3's


def with_scales(entries: Sequence[Entry]) -> tuple[tuple[Entry, ...], Mapping[str, str]]:
    """The entries, scales put aside; and by the name of a weight in 8-bit floats that of the scale to apply."""
    known = {entry.name: entry for entry in entries}
    aside: dict[str, str] = {}
    scale_of: dict[str, str] = {}
    for entry in entries:
        weight = _weight_of(entry.name, known)
        if weight is None or not entry.readable:
            continue
        if _is_byte_float(weight) and entry.name.endswith(("weight_scale", "_scale_inv")) and entry.kind == "float":
            if block_of(weight.shape, entry.shape) is not None:
                scale_of[weight.name] = entry.name
                aside[entry.name] = f"the scale of {weight.name}: applied there"
                continue
            aside[weight.name] = f"8-bit values with a scale of shape {entry.shape}, which is not known how to apply"
        aside.setdefault(
            entry.name, f"scales or zeros of {weight.name}, whose values are quantized: no matrix by itself"
        )
    changed = tuple(replace(entry, aside=aside[entry.name]) if entry.name in aside else entry for entry in entries)
    return changed, scale_of


def _weight_of(name: str, known: Mapping[str, Entry]) -> Entry | None:
    """The quantized weight that this belongs to; None where it is no scale."""
    module, dot, last = name.rpartition(".")
    match = _SCALE.fullmatch(last)
    if match is None:
        return None
    own = [match["weight"]] if match["weight"] else []
    for candidate in chain(own, _PACKED, ["weight"]):
        weight = known.get(f"{module}{dot}{candidate}")
        if weight is not None and (weight.kind in ("integer", "other") or _is_byte_float(weight)):
            return weight
    return None


def _is_byte_float(entry: Entry) -> bool:
    return entry.dtype.startswith("float8")


def block_of(shape: Sequence[int], scale: Sequence[int]) -> tuple[int, int] | None:
    """Rows and columns that share a factor; None where that can't be told."""
    size = torch.Size(scale).numel()
    if len(shape) != 2 or size == 0 or 0 in shape:
        return (1, 1) if size == 1 else None
    rows, columns = shape
    if size == 1:
        return rows, columns
    if tuple(scale) in ((rows,), (rows, 1)):
        return 1, columns
    if len(scale) != 2:
        return None
    if (-(-rows // _BLOCK), -(-columns // _BLOCK)) == tuple(scale):
        return _BLOCK, _BLOCK
    if rows % scale[0] == 0 and columns % scale[1] == 0:
        return rows // scale[0], columns // scale[1]
    return None


def scaled(values: Tensor, scale: Tensor) -> Tensor:
    """Each value times the factor of its block, in float32."""
    values, scale = values.float(), scale.float()
    if scale.numel() == 1:
        return values * scale.flatten()[0]
    block: Any = block_of(values.shape, scale.shape)
    factors = scale.reshape(scale.shape[0], -1)
    for start in range(0, values.shape[0], block[0]):  # row of blocks by row of blocks: no second copy of the whole
        wide = factors[start // block[0]].repeat_interleave(block[1])[: values.shape[1]]
        values[start : start + block[0]] *= wide
    return values

"""Which matrices a stored tensor holds: transposed layouts, fused projections, heads, kernels, stacks of experts.

A view is a name for a part of a tensor and the way to cut it out as a matrix (out × in). Singular values don't care
about a transposition, but the parts of a fused projection do: which axis is the output is decided here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Cut = Callable[[Tensor], Tensor]
_CONV1D = re.compile(r"(^|\.)(c_attn|c_proj|c_fc|q_attn)\.weight$")  # GPT-2's, stored in × out
_FUSED = re.compile(r"(^|\.)(c_attn|qkv_proj|qkv|Wqkv|attn_qkv|query_key_value|in_proj)(\.weight|_weight)$")
_PER_HEAD = re.compile(r"(^|\.)(q_proj|k_proj|v_proj|query|key|value|attn_[qkv])\.weight$")
_EXPERTS = re.compile(r"expert|moe", re.IGNORECASE)
_INTERLEAVED = {"gpt_neox", "bloom", "gptj_neox", "codegen"}  # head by head: q, k, v of the first, then of the second
_LARGEST_KERNEL = 16  # of three axes, a last one longer than this is not a kernel's, unless the name says convolution


@dataclass(frozen=True)
class View:
    """A matrix within a tensor: `part` is "" for the whole."""

    part: str
    shape: tuple[int, int]
    cut: Cut
    kernel: tuple[int, ...] = ()  # the size of a convolution's kernel


@dataclass(frozen=True)
class Layout:
    """How a checkpoint lays out its attention, from the configuration and the shapes; 0 where they do not say."""

    queries: int = 0
    keys: int = 0
    width: int = 0
    interleaved: bool = False
    grouped: bool = False  # Falcon: the queries of a group, then its key and its value
    conv1d: bool = False  # GPT-2: weights stored in × out
    keras: bool = False  # kernels stored size × in × out

    @classmethod
    def of(cls, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], form: str = "") -> Layout:
        """From `config.json` or GGUF metadata, and the shapes (minGPT gives Linear layers GPT-2's names)."""
        inner = config.get("text_config") if isinstance(config.get("text_config"), Mapping) else {}
        known = {**config, **(inner or {})}
        queries = _first(known, "num_attention_heads", "n_head", "num_heads", "n_heads", "attention.head_count")
        keys = _first(known, "num_key_value_heads", "num_kv_heads", "attention.head_count_kv") or queries
        if known.get("multi_query") is True:
            keys = 1
        hidden = _first(known, "hidden_size", "n_embd", "d_model", "dim", "embedding_length")
        width = _first(known, "head_dim") or (hidden // queries if queries and hidden % queries == 0 else 0)
        kind = str(known.get("model_type", ""))
        grouped = kind == "falcon" and (
            known.get("new_decoder_architecture") is True or known.get("multi_query") is True
        )
        interleaved = kind in _INTERLEAVED or (kind == "falcon" and not grouped)
        wide = (s for name, s in shapes.items() if name.endswith("c_attn.weight") and len(s) == 2)
        conv1d = any(shape[1] == 3 * shape[0] for shape in wide)
        return cls(queries, keys, width, interleaved, grouped, conv1d, form == "keras")


def _first(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        for key, value in config.items():
            if (key == name or key.endswith(f".{name}")) and isinstance(value, int) and not isinstance(value, bool):
                return value
    return 0


def views(name: str, shape: Sequence[int], layout: Layout, *, per_head: bool = False) -> Iterator[View]:
    """The matrices of a tensor of two axes or more, the whole first."""
    if len(shape) == 2:
        yield from _matrix(name, (shape[0], shape[1]), layout, per_head)
    elif layout.keras:
        turned = (shape[-1], math.prod(shape[:-1]))
        yield View("", turned, lambda tensor: tensor.movedim(-1, 0).flatten(1), tuple(shape[:-2]))
    elif _is_stack(name, shape):
        word = "expert " if _EXPERTS.search(name) else ""
        for index in range(math.prod(shape[:-2])):
            yield View(f"{word}{index}", (shape[-2], shape[-1]), _nth(index))
    else:
        rows, kernel = shape[0], tuple(shape[2:])
        yield View("", (rows, math.prod(shape[1:])), lambda tensor: tensor.flatten(1), kernel)


def _is_stack(name: str, shape: Sequence[int]) -> bool:
    if len(shape) != 3 or shape[1] == 1 or "conv" in name.lower():
        return False
    return bool(_EXPERTS.search(name)) or shape[-1] > _LARGEST_KERNEL


def _nth(index: int) -> Cut:
    return lambda tensor: tensor.flatten(0, -3)[index]


def _matrix(name: str, shape: tuple[int, int], layout: Layout, per_head: bool) -> Iterator[View]:
    turned = layout.keras or (layout.conv1d and bool(_CONV1D.search(name)))
    out, inn = (shape[1], shape[0]) if turned else shape

    def whole(tensor: Tensor) -> Tensor:
        return tensor.T if turned else tensor

    yield View("", (out, inn), whole)
    if _FUSED.search(name):
        parts = _fused(name, out, inn, layout)
        for part, rows in parts.items():
            yield View(part, (len(rows), inn), _rows(whole, rows))
            if per_head and layout.width and len(rows) % layout.width == 0:
                yield from _heads(part, inn, _rows(whole, rows), len(rows), layout.width)
    elif per_head and _PER_HEAD.search(name) and layout.width and out % layout.width == 0:
        yield from _heads("", inn, whole, out, layout.width)


def _heads(part: str, columns: int, cut: Cut, rows: int, width: int) -> Iterator[View]:
    for head in range(rows // width):
        chosen = range(head * width, (head + 1) * width)
        yield View(f"{part} head {head}".strip(), (width, columns), _rows(cut, chosen))


def _rows(cut: Cut, rows: range | Tensor) -> Cut:
    if isinstance(rows, range):
        return lambda tensor: cut(tensor)[rows.start : rows.stop]
    return lambda tensor: cut(tensor)[rows]


def _fused(name: str, out: int, inn: int, layout: Layout) -> dict[str, Any]:
    """The rows of query, key and value; {} where the layout can't be told."""
    interleaves = "query_key_value" in name
    if interleaves and not (layout.queries and layout.width):
        return {}  # by thirds or head by head: only the configuration says
    if layout.grouped and interleaves:
        return _by_group(out, layout)
    if layout.interleaved and interleaves:
        return _by_head(out, layout)
    if layout.queries and layout.width and (layout.queries + 2 * layout.keys) * layout.width == out:
        query, key = layout.queries * layout.width, layout.keys * layout.width
        return {"query": range(query), "key": range(query, query + key), "value": range(query + key, out)}
    if out == 3 * inn or (out % 3 == 0 and not layout.queries):
        third = out // 3
        return {part: range(i * third, (i + 1) * third) for i, part in enumerate(("query", "key", "value"))}
    return {}


def _by_head(out: int, layout: Layout) -> dict[str, Tensor]:
    """Head by head: its query, its key, its value."""
    if layout.queries * 3 * layout.width != out:
        return {}
    rows = torch.arange(out).view(layout.queries, 3, layout.width)
    return {part: rows[:, i].flatten() for i, part in enumerate(("query", "key", "value"))}


def _by_group(out: int, layout: Layout) -> dict[str, Tensor]:
    """Group by group: its queries, its key, its value (Falcon)."""
    each = layout.queries // max(layout.keys, 1)
    if layout.keys * (each + 2) * layout.width != out:
        return {}
    rows = torch.arange(out).view(layout.keys, each + 2, layout.width)
    return {"query": rows[:, :-2].flatten(), "key": rows[:, -2].flatten(), "value": rows[:, -1].flatten()}

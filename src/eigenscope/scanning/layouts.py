"""Which matrices a stored tensor holds: transposed layouts, fused projections, heads, kernels, stacks of experts.

A view is a name for a part of a tensor and the way to cut it out as a matrix (out × in). Singular values don't care
about a transposition, but the parts of a fused projection do: which axis is the output is decided here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from eigenscope.checkpoints import Checkpoint
from eigenscope.scanning.fused import FUSED, Rows, order_of, shares_one_key, split
from eigenscope.scanning.kernels import is_stack, keras_kernel, squeezed, stacked_word, torch_kernel

Cut = Callable[[Tensor], Tensor]
_CONV1D = re.compile(r"(^|\.)(c_attn|c_proj|c_fc|q_attn)\.weight$")  # GPT-2's, stored in × out
_PER_HEAD = re.compile(
    r"(^|\.)((q_proj|k_proj|v_proj|query|key|value|attn_[qkv])|(SelfAttention|EncDecAttention)\.[qkv])\.weight$"
)
_BIAS = re.compile(r"(^|[/.])bias(:0)?$|(query|key|value|output)(_dense)?/(vars/1|bias:0)$")
_BUFFER = re.compile(
    r"(^|\.)(weight_[uv]|_[uv]|freqs?_(cos|sin|cis)|(cos|sin)_cached|inv_freq|(attn|causal)_mask)$|_norm$"
)


@dataclass(frozen=True)
class View:
    """A matrix within a tensor: `part` is "" for the whole."""

    part: str
    shape: tuple[int, int]
    cut: Cut
    kernel: tuple[int, ...] = ()  # the size of a convolution's kernel
    filters: Cut | None = None  # its weight as out × in of a group × kernel
    groups: int = 0  # of the convolution; 0 where the layout doesn't say


@dataclass(frozen=True)
class Layout:
    """How a checkpoint lays out its attention, from the configuration and the shapes; 0 where they do not say."""

    queries: int = 0
    keys: int = 0
    width: int = 0
    order: str = ""  # of fused projections: see `fused.order_of`
    conv1d: bool = False  # GPT-2: weights stored in × out
    keras: bool = False  # kernels stored size × in × out
    experts: int = 0

    @classmethod
    def of(cls, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], form: str) -> Layout:
        """From `config.json` or GGUF metadata, the shapes (minGPT gives Linear layers GPT-2's names), the format."""
        inner = config.get("text_config") if isinstance(config.get("text_config"), Mapping) else {}
        known = {**config, **(inner or {})}
        queries = _first(known, "num_attention_heads", "n_head", "num_heads", "n_heads", "attention.head_count")
        keys = _first(known, "num_key_value_heads", "num_kv_heads", "attention.head_count_kv") or queries
        if shares_one_key(known):
            keys = 1
        hidden = _first(known, "hidden_size", "n_embd", "d_model", "dim", "embedding_length")
        width = _first(known, "head_dim", "d_kv", "attention.key_length")
        width = width or (hidden // queries if queries and hidden % queries == 0 else 0)
        experts = _first(
            known, "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "expert_count"
        )
        wide = (s for name, s in shapes.items() if name.endswith("c_attn.weight") and len(s) == 2)
        conv1d = any(shape[1] == 3 * shape[0] for shape in wide)
        return cls(queries, keys, width, order_of(known), conv1d, form == "keras", experts)

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint) -> Layout:
        """From all that the checkpoint says."""
        shapes = {entry.name: entry.shape for entry in checkpoint.entries}
        return cls.of(checkpoint.config, shapes, checkpoint.format)

    def turned(self, name: str) -> bool:
        """Whether a weight of two axes is stored in × out."""
        return self.keras or (self.conv1d and bool(_CONV1D.search(name)))


def _first(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        for key, value in config.items():
            if (key == name or key.endswith(f".{name}")) and isinstance(value, int) and not isinstance(value, bool):
                return value
    return 0


def why_not(name: str, shape: Sequence[int], kind: str, layout: Layout) -> str | None:
    """Why a tensor has no spectrum, or None if it has one."""
    if kind == "integer":
        return "integers: indices, masks or packed data"
    if kind == "complex":
        return "complex numbers: only real matrices are analysed"
    if len(shape) < 2:
        return "a vector: no matrix" if shape else "a single number: no matrix"
    if _BIAS.search(name):
        return "a bias: no matrix" if layout.keras else "a bias or a mask: no matrix of weights"
    if _BUFFER.search(name):
        return "a buffer: state of a layer, or a table that is not trained"
    if min(shape) == 0:
        return "empty"
    if min(next(views(name, shape, layout)).shape) < 2:
        return "too small: a single row or column"
    return None


def views(name: str, shape: Sequence[int], layout: Layout, *, per_head: bool = False) -> Iterator[View]:
    """The matrices of a tensor of two axes or more, the whole first."""
    inner = squeezed(name, shape)
    if len(inner) < len(shape):
        for view in views(name, inner, layout, per_head=per_head):
            yield View(view.part, view.shape, _inside(view.cut, inner))
    elif len(shape) == 2:
        yield from _matrix(name, (shape[0], shape[1]), layout, per_head)
    elif not layout.keras and is_stack(name, shape, layout.experts):
        word = stacked_word(name, shape, layout.experts)
        for index in range(shape[0]):
            yield View(f"{word}{index}", (shape[1], shape[2]), _nth(index))
    else:
        found = keras_kernel(name, shape) if layout.keras else torch_kernel(shape)
        yield View("", found.shape, found.matrix, found.size, found.filters, found.groups)
        if per_head and found.heads:
            yield from _heads("", found.shape[1], found.matrix, found.shape[0], found.shape[0] // found.heads)


def _inside(cut: Cut, inner: tuple[int, ...]) -> Cut:
    return lambda tensor: cut(tensor.reshape(inner))


def _nth(index: int) -> Cut:
    return lambda tensor: tensor[index]


def _matrix(name: str, shape: tuple[int, int], layout: Layout, per_head: bool) -> Iterator[View]:
    turned = layout.turned(name)
    out, inn = (shape[1], shape[0]) if turned else shape

    def whole(tensor: Tensor) -> Tensor:
        return tensor.T if turned else tensor

    yield View("", (out, inn), whole)
    if FUSED.search(name):
        sizes = {"queries": layout.queries, "keys": layout.keys, "width": layout.width}
        parts = split(name, out, inn, order="" if turned else layout.order, **sizes)
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


def _rows(cut: Cut, rows: Rows) -> Cut:
    if isinstance(rows, range):
        return lambda tensor: cut(tensor)[rows.start : rows.stop]
    return lambda tensor: cut(tensor)[rows.to(tensor.device)]

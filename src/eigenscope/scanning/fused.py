"""Query, key and value in one projection: which rows are whose.

The order can't be told from the shape: a wrong one gives wrong spectra without a sign. So it is taken from a table of
model types, each held against the model's own code by a test; a name that different models use in different orders, in
a checkpoint that doesn't say its type, is left whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

Rows = range | torch.Tensor
PARTS = ("query", "key", "value")
FUSED = re.compile(r"(^|\.)(c_attn|qkv_proj|qkv|Wqkv|attn_qkv|query_key_value|in_proj)(\.weight|_weight)$")
_OPEN = re.compile(r"(^|\.)(qkv_proj|query_key_value|in_proj)\.weight$")  # in one order here, in another there

BLOCKS, HEADS, GROUPS, CODEGEN = "blocks", "heads", "groups", "codegen"
_ORDERS = {  # model_type → order; "falcon" and "gpt_bigcode" say it in their configuration
    **dict.fromkeys(("gpt_neox", "gpt_neox_japanese", "bloom", "persimmon", "minimax", "deberta"), HEADS),
    **{"phi3": BLOCKS, "codegen": CODEGEN},
}
_SPLIT_OVER = 4  # CodeGen's weights lie as they did on four TPUs


def order_of(config: Mapping[str, Any]) -> str:
    """The order of a fused projection's rows; "" where the configuration doesn't say.

    "blocks": all queries, all keys, all values. "heads": query, key, value of the first head, then of the second.
    "groups": the queries of a group, its key, its value, then the next group's. "codegen": four times queries, values,
    keys.
    """
    kind = str(config.get("model_type", ""))
    shared = config.get("multi_query", True) is not False  # both types share keys where it isn't said
    if kind == "falcon":
        return GROUPS if config.get("new_decoder_architecture") is True or shared else HEADS
    if kind == "gpt_bigcode":
        return BLOCKS if shared else HEADS
    return _ORDERS.get(kind, "")


def shares_one_key(config: Mapping[str, Any]) -> bool:
    """Whether all heads share one key and one value; Falcon's new architecture ignores `multi_query`."""
    kind = str(config.get("model_type", ""))
    if kind == "falcon" and config.get("new_decoder_architecture") is True:
        return False
    return config.get("multi_query", kind in ("falcon", "gpt_bigcode")) is True


def split(name: str, out: int, inn: int, *, order: str, queries: int, keys: int, width: int) -> dict[str, Rows]:
    """The rows of query, key and value; {} where the order can't be told, or the sizes are others."""
    known = bool(queries and width)
    if order in (HEADS, GROUPS, CODEGEN) and not name.endswith("_weight"):
        if not known:
            return {}
        if order == CODEGEN:
            return _by_device(out)
        return _by_group(out, queries, queries if order == HEADS else keys, width)
    if _OPEN.search(name) and order != BLOCKS and not (known and keys != queries and "qkv" in name):
        return {}  # Mamba's and others' `in_proj` are no attention at all
    if known and (queries + 2 * keys) * width == out:
        sizes = [queries * width, keys * width, keys * width]
    elif out == 3 * inn or (out % 3 == 0 and not queries and "qkv" in name.lower()):
        sizes = [out // 3] * 3
    else:
        return {}
    ends = [sum(sizes[: index + 1]) for index in range(3)]
    return {part: range(end - size, end) for part, size, end in zip(PARTS, sizes, ends, strict=True)}


def _by_group(out: int, queries: int, keys: int, width: int) -> dict[str, Rows]:
    """Group by group, its queries, its key, its value; each head is a group of its own where keys are not shared."""
    each = queries // max(keys, 1)
    if keys * (each + 2) * width != out:
        return {}
    rows = torch.arange(out).view(keys, each + 2, width)
    return {"query": rows[:, :-2].flatten(), "key": rows[:, -2].flatten(), "value": rows[:, -1].flatten()}


def _by_device(out: int) -> dict[str, Rows]:
    if out % (3 * _SPLIT_OVER):
        return {}
    rows = torch.arange(out).view(_SPLIT_OVER, 3, -1)
    return {"query": rows[:, 0].flatten(), "key": rows[:, 2].flatten(), "value": rows[:, 1].flatten()}

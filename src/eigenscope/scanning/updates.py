"""How the ΔW of an adapter, which is out × in, lies in the weight that it is for."""

from __future__ import annotations

from eigenscope.checkpoints import Entry
from eigenscope.checkpoints.formats.peft import Update
from eigenscope.errors import CheckpointError
from eigenscope.scanning.layouts import Layout


def is_turned(update: Update, weight: Entry, layout: Layout, kind: str | None = None) -> bool:
    """Whether the weight is stored in × out: its shape tells, or for a square one the layer's kind or else its name.

    Raises `CheckpointError` where nothing but the configuration says that it may be, for that says it of all layers.
    """
    if update.embedding or len(update.a.shape) != 2:
        return False
    out, inn = update.b.shape[0], update.a.shape[1]
    if out != inn:
        return weight.shape == (inn, out)
    if kind is not None:
        return kind == "conv1d"
    if update.fan_in_fan_out and not layout.conv1d:
        how = "which layer it belongs to is needed: give the base as a model, or as a folder with its config.json"
        raise CheckpointError(f"{weight.name} is square, and the adapter may be for its transpose; {how}")
    return layout.turned(weight.name)

"""Whether an optimizer trains all of a model."""

from __future__ import annotations

import torch
from torch import nn

from eigenscope.words import counted


def not_held(model: nn.Module, optimizer: torch.optim.Optimizer) -> str | None:
    """One line on trainable parameters that the optimizer does not hold, and that no action may move; None without."""
    held = {p for group in optimizer.param_groups for p in group["params"]}
    left = [name for name, p in model.named_parameters() if p.requires_grad and p not in held]
    if not left:
        return None
    return (
        f"the optimizer does not train {counted(len(left), 'parameter')} of the model, such as {left[0]!r}, which this "
        "would move: freeze them with requires_grad_(False)"
    )

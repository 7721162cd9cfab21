"""The gradients of the step that an optimizer is about to take, as they are.

Under a `GradScaler` a fused optimizer gets them scaled, divides them by its `grad_scale` itself, and takes no step
where its `found_inf` is not 0. Both attributes are there only while it steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The `.grad` of its parameters, to be changed in place; without sparse ones, which few operations know."""
    every = (p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
    return [gradient.detach() for gradient in every if gradient.layout == torch.strided]


def unscaled(optimizer: torch.optim.Optimizer, value: Tensor) -> Tensor:
    """Gradients, or a norm of them, as they would be without a `GradScaler`."""
    scale = getattr(optimizer, "grad_scale", None)
    return value if scale is None else value / torch.as_tensor(scale).to(value)


def norm_of(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all together, in at least fp32, on the first one's device: nothing waits for it."""
    parts = [torch.linalg.vector_norm(t, dtype=torch.promote_types(t.dtype, torch.float32)) for t in tensors]
    norm: Tensor = torch.linalg.vector_norm(torch.stack([part.to(parts[0].device) for part in parts]))
    return norm


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor | None:
    """The norm of its gradients, unscaled; None without any, NaN where the step will be left out."""
    found = gradients(optimizer)
    if not found:
        return None
    norm = unscaled(optimizer, norm_of(found))
    skipped = getattr(optimizer, "found_inf", None)
    return norm if skipped is None else torch.where(torch.as_tensor(skipped).to(norm) == 0, norm, torch.nan)


def is_skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the step will be left out; waits for the device."""
    return bool(getattr(optimizer, "found_inf", None))

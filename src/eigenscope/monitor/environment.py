"""What a run was, and where: for the run file."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch
from torch import nn

from eigenscope.words import counted


def environment(device: torch.device) -> dict[str, object]:
    """Versions and machine."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else (platform.processor() or platform.machine())
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "eigenscope": version("eigenscope"),
        "platform": platform.platform(),
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
    }


def describe_model(model: nn.Module) -> str:
    """Class and size."""
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f"{type(model).__name__} ({counted(count, 'trainable parameter')})"


def describe_optimizer(optimizer: torch.optim.Optimizer | None) -> str | None:
    """Class and the settings of its first group that are not zero."""
    if optimizer is None:
        return None
    group = optimizer.param_groups[0]
    shown = {k: group[k] for k in ("lr", "momentum", "nesterov", "betas", "eps", "weight_decay") if group.get(k)}
    return f"{type(optimizer).__name__}({', '.join(f'{k}={v}' for k, v in shown.items())})"

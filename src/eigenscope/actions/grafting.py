"""The length of one optimizer's step, for another one to take over."""

from __future__ import annotations

import math

import torch

from eigenscope.diagnostics.step_factor import step_factor


def grafted_rate(optimizer: torch.optim.Optimizer, otherwise: float) -> float:
    """The base rate of the first group at which steps of size 1 by parameter and rate are as long as SGD's last one.

    Both the direction of AdamW and that of Muon (as `match_rms_adamw` scales it) are about 1 by parameter, so that this
    is the root mean square of the last step where there is one group; where a `ControlStep` has scaled it, of the step
    so scaled. `otherwise` where no gradient is known. Agarwal, Anil, Hazan, Koren & Zhang 2020.
    """
    length = scale = 0.0
    for group in optimizer.param_groups:
        for p in group["params"]:
            step = optimizer.state.get(p, {}).get("momentum_buffer")
            step = p.grad if step is None else step
            if step is not None:
                length += float(group["lr"] * torch.linalg.vector_norm(step.detach().float())) ** 2
                scale += group["lr"] ** 2 * p.numel()
    base = optimizer.param_groups[0]
    size = step_factor(optimizer) * math.sqrt(length / scale) if scale else 0.0
    rate = float(base.get("initial_lr", base["lr"])) * size
    return rate if math.isfinite(rate) and rate > 0 else otherwise

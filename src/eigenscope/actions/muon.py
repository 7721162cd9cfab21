"""Muon for the hidden matrices and AdamW for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from eigenscope.errors import InputError


class MuonWithAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` on groups with ``muon=True``, `torch.optim.AdamW` on the others (Jordan et al. 2024).

    Muon orthogonalizes the update of a matrix, and is defined for matrices alone. Both take the same learning rate:
    Muon's step is scaled to the size of AdamW's (Liu et al. 2025).
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise InputError(f"torch {torch.__version__} has no Muon: pip install 'torch>=2.9', or switch to AdamW")
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "muon": False})
        for muon in (True, False):
            self._part(muon)  # fills its options into our groups

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for muon in (True, False):
            if part := self._part(muon):
                part.step()
        return loss

    def _part(self, muon: bool) -> torch.optim.Optimizer | None:
        """Muon or AdamW over our own groups and state, which may have been loaded since."""
        groups = [group for group in self.param_groups if group["muon"] is muon]
        if not groups:
            return None
        parts = vars(self).setdefault("_parts", {})
        if muon not in parts:
            parts[muon] = _muon(groups) if muon else torch.optim.AdamW(groups)
        part: torch.optim.Optimizer = parts[muon]
        part.param_groups, part.state = groups, self.state
        return part


def _muon(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.Muon(groups, adjust_lr_fn="match_rms_adamw")


def muon_groups(groups: list[dict[str, Any]], model: nn.Module | None) -> list[dict[str, Any]]:
    """Each group split in two: its hidden matrices for Muon, and embeddings, the last layer and vectors for AdamW."""
    outer = _outer(model)
    found = []
    for origin, group in enumerate(groups):
        for muon in (True, False):
            members = [p for p in group["params"] if (p.ndim == 2 and id(p) not in outer) is muon]
            if members:
                found.append({**group, "params": members, "muon": muon, "origin": origin})
    return found


def _outer(model: nn.Module | None) -> set[int]:
    """Embeddings, and the last matrix of the model, which may be an embedding that the head shares."""
    if model is None:
        return set()
    matrices = [p for _, p in model.named_parameters(remove_duplicate=False) if p.ndim == 2]
    embeddings = [p for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()]
    return {id(p) for p in [*embeddings, *matrices[-1:]]}

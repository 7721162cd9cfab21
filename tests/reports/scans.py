"""Scans to show: every kind of row, and names that would like to be markup."""

import math

import torch

from eigenscope.scanning.result import Scan
from eigenscope.scanning.scan import scan

EVIL = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>[red]&\"'"


def matrix(rows, columns, seed=0, power=0.0):
    made = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    return made * torch.linspace(0.01, 1, columns) ** power


def odd_scan() -> Scan:
    """Six layers of two kinds, and beside them: noise, rank 3, zeros, NaN, a vector, integers, an evil name."""
    state = {"model.embed_tokens.weight": matrix(80, 24, 1)}
    for layer in range(6):
        state[f"model.layers.{layer}.attn.q_proj.weight"] = matrix(24, 24, layer, 1.0)
        state[f"model.layers.{layer}.mlp.up_proj.weight"] = matrix(48, 24, layer, 0.3)
    state["low.weight"] = matrix(30, 3, 2) @ matrix(3, 40, 3)
    state["zero.weight"] = torch.zeros(12, 16)
    state["broken.weight"] = torch.full((4, 5), math.nan)
    state["norm.bias"], state["steps"] = torch.ones(24), torch.arange(6).reshape(2, 3)
    state[EVIL] = matrix(25, 26, 4)
    return scan(state)


def deep_scan(layers: int) -> Scan:
    """A deep model of six kinds of small matrices."""
    state = {
        f"model.layers.{layer}.{kind}.weight": matrix(24, 24, layer, 0.5)
        for layer in range(layers)
        for kind in (
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "mlp.up",
            "mlp.down",
        )
    }
    return scan(state)

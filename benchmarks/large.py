"""A model of GPT-2 small's size on an accelerator: how fast are products, what does a whole reading take?"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

import torch
from meter import seconds
from torch import Tensor, nn
from workloads import GPT, Batch, characters, mean_loss, window

import eigenscope as es
from eigenscope.operators import HessianOperator, Probe


@dataclass(frozen=True)
class Size:
    """GPT-2 small's sizes, and a probe of 8 × 1,024 tokens."""

    vocabulary: int = 50_257
    width: int = 768
    depth: int = 12
    heads: int = 12
    context: int = 1_024
    sequences: int = 8
    training_steps: int = 20


def measure_large(device: str, size: Size | None = None) -> dict[str, Any]:
    """Products a second, peak memory in bytes and the seconds of a whole reading, in bf16 autocast."""
    size = size or Size()
    model, batch = _trained(size, device)
    parameters = list(model.parameters())
    gradient = _median(lambda: torch.autograd.grad(_loss(model, batch), parameters), device)
    operator = HessianOperator(Probe(model, _loss, [batch]))
    vector = torch.randn(operator.shape[0], device=device)
    product = _median(lambda: operator @ vector, device)
    operator.close()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    readings: list[Any] = []
    cost = seconds(lambda: readings.append(es.curvature(model, _loss, [batch])), device)
    reading = readings[0]
    return {
        "about": "GPT of GPT-2 small's size, bf16 autocast",
        "size": asdict(size),
        "num_parameters": operator.shape[0],
        "gradient_seconds": gradient,
        "products_a_second": 1 / product,
        "product_in_gradients": product / gradient,
        "method": reading.method,
        "num_matvecs": reading.num_matvecs,
        "converged": reading.converged,
        "seconds": cost,
        "peak_memory": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "notes": list(reading.notes),
    }


def _trained(size: Size, device: str) -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    tokens, _ = characters()
    rng = torch.Generator().manual_seed(0)
    model = GPT(
        size.vocabulary, width=size.width, depth=size.depth, heads=size.heads, context=size.context
    ).to(device)  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)

    def draw() -> Batch:
        inputs, targets = window(tokens, size.sequences, size.context, rng)
        return inputs.to(device), targets.to(device)

    for _ in range(size.training_steps):
        optimizer.zero_grad()
        _loss(model, draw()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad()
    return model.eval(), draw()


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    with torch.autocast(batch[0].device.type, torch.bfloat16):
        return mean_loss(model, batch)


def _median(task: Any, device: str, *, times: int = 5) -> float:
    task()
    return statistics.median(seconds(task, device) for _ in range(times))

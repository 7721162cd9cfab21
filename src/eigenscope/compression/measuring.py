"""What a model weighs and costs, before and after: parameters, bytes, operations, time, and what its outputs lost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from eigenscope.compression.observing import Forward, observe, run, variation
from eigenscope.compression.report import Latency
from eigenscope.errors import InputError, first_line
from eigenscope.operators.isolation import random_streams

_PAIRS = (3, 15)  # runs of each model, at the least and at the most
_SECONDS = 4.0  # for all of them


def parameter_count(model: nn.Module) -> int:
    """Entries of all parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())


def memory_bytes(model: nn.Module) -> int:
    """Of parameters and buffers, tied ones once."""
    return sum(t.numel() * t.element_size() for t in {*model.parameters(), *model.buffers()})


def flops(model: nn.Module, batch: Any, forward: Forward) -> tuple[int | None, str | None]:
    """Of one forward pass, as `torch.utils.flop_counter` counts them, or why there is no count."""
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), random_streams(), counter:
            forward(model, batch)
    except Exception as error:
        return None, f"the operations can't be counted ({type(error).__name__}: {first_line(error)})"
    total = int(counter.get_total_flops())
    return (total, None) if total else (None, "the model runs no operation that torch's counter knows")


def latencies(models: Sequence[nn.Module], batch: Any, forward: Forward) -> list[Latency]:
    """Of one forward pass of each, run in turns so that what else the machine does hits all alike."""
    with torch.no_grad(), random_streams():
        for model in models:
            run(model, batch, 0, forward)
        times: list[list[float]] = [[] for _ in models]
        began = time.perf_counter()
        while len(times[0]) < _PAIRS[0] or (len(times[0]) < _PAIRS[1] and time.perf_counter() - began < _SECONDS):
            for model, found in zip(models, times, strict=True):
                found.append(_timed(model, batch, forward))
    return [_latency(found) for found in times]


def _timed(model: nn.Module, batch: Any, forward: Forward) -> float:
    _settle(model)
    began = time.perf_counter()
    forward(model, batch)
    _settle(model)
    return 1e3 * (time.perf_counter() - began)


def _settle(model: nn.Module) -> None:
    """Wait for an accelerator to finish."""
    kind = next((p.device.type for p in model.parameters()), "cpu")
    if kind != "cpu":
        getattr(torch, kind).synchronize()


def _latency(milliseconds: Sequence[float]) -> Latency:
    low, median, high = (float(q) for q in np.quantile(milliseconds, [0.25, 0.5, 0.75]))
    return Latency(median, low, high, len(milliseconds))


def output_error(before: nn.Module, after: nn.Module, batches: Sequence[Any], forward: Forward) -> float | None:
    """√(Σ‖f − f′‖² / Σ‖f − f̄‖²) over all outputs of all batches, f̄ a batch's mean; None where no tensor comes out."""
    lost = whole = 0.0
    seen = False
    with torch.no_grad(), random_streams():
        for index, batch in enumerate(batches):
            pair = (observe(model, batch, index, forward).outputs for model in (before, after))
            for old, new in zip(*pair, strict=True):
                seen = seen or old.numel() > 0
                lost += float((old.double() - new.double()).square().sum())
                whole += variation(old) ** 2
    return (math.sqrt(lost / whole) if whole > 0 else 0.0) if seen else None


def metric(evaluate: Callable[[nn.Module], float] | None, model: nn.Module) -> float | None:
    """The user's own."""
    if evaluate is None:
        return None
    with torch.no_grad():
        value = evaluate(model)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"evaluate returned a {type(value).__name__}: it must return a number") from error


def finite_metric(
    evaluate: Callable[[nn.Module], float] | None, model: nn.Module, where: str = ""
) -> tuple[float | None, list[str]]:
    """Of a compressed model, on which it may well fail to be a finite number: then None, and a note."""
    value = metric(evaluate, model)
    if value is None or math.isfinite(value):
        return value, []
    return None, [f"evaluate returned {value} for the compressed model{where}: it has no value there"]

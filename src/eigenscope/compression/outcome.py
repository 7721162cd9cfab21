"""The report of a compression: every layer measured, the two models compared, and where low rank does not pay."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from eigenscope.compression import measuring
from eigenscope.compression.allocation import Ranks
from eigenscope.compression.layers import LowRank, factors_of, matrix_of
from eigenscope.compression.observing import samples_in
from eigenscope.compression.preparing import Prepared, Target
from eigenscope.compression.report import CompressionReport, LayerReport
from eigenscope.compression.statistics import Progress
from eigenscope.compression.whitening import Truncation
from eigenscope.words import counted, few

_FLAT = 0.1  # relative error at the largest rank that saves anything, from which on a spectrum is called flat


@dataclass(frozen=True)
class Outcome:
    """Two models, and how one came from the other."""

    prepared: Prepared
    target: Target
    ranks: Ranks
    made: nn.Module
    refitted: Mapping[str, float | None]  # relative output errors
    refit: bool
    began: float  # by time.perf_counter, after the preparations


def reported(outcome: Outcome, progress: Progress | None) -> CompressionReport:
    """Both models, in evaluation mode, measured side by side."""
    prepared = outcome.prepared
    before, after = prepared.model, outcome.made
    if progress:
        progress("report", 0, 1)
    layers = tuple(_layer(outcome, layer) for layer in prepared.layers)
    compared = _compared(outcome)
    metric, not_finite = measuring.finite_metric(prepared.evaluate, after)
    counts = measuring.parameter_count(before), measuring.parameter_count(after)
    full, left = sum(layer.parameters for layer in layers), sum(layer.parameters_after for layer in layers)
    report = CompressionReport(
        method=prepared.method,
        refit=outcome.refit,
        target={outcome.target.name: outcome.target.value},
        kept=left / full,
        kept_of_model=counts[1] / counts[0],
        parameters=counts[0],
        parameters_after=counts[1],
        memory_bytes=measuring.memory_bytes(before),
        memory_bytes_after=measuring.memory_bytes(after),
        **compared,
        metric=prepared.metric,
        metric_after=metric,
        samples=sum(samples_in(batch) for batch in prepared.batches) if prepared.batches else None,
        layers=layers,
        skipped=prepared.skipped,
        notes=(*prepared.notes, *_notes(outcome, layers, compared), *not_finite),
        seconds=prepared.seconds + time.perf_counter() - outcome.began,
    )
    if progress:
        progress("report", 1, 1)
    return report


def _compared(outcome: Outcome) -> dict[str, Any]:
    """What only running the models can tell; nothing of it without calibration."""
    prepared = outcome.prepared
    if not prepared.batches:
        reason = "no calibration batch to run"
        names = ("flops", "flops_after", "latency", "latency_after", "output_error")
        return dict.fromkeys(names) | {"flops_reason": reason}
    before, after, forward = prepared.model, outcome.made, prepared.forward
    counts = [measuring.flops(model, prepared.batches[0], forward) for model in (before, after)]
    times = measuring.latencies([before, after], prepared.batches[0], forward)
    return {
        "flops": counts[0][0],
        "flops_after": counts[1][0],
        "flops_reason": counts[0][1] or counts[1][1],
        "latency": times[0],
        "latency_after": times[1],
        "output_error": measuring.output_error(before, after, prepared.batches, forward),
    }


def _layer(outcome: Outcome, layer: Truncation) -> LayerReport:
    candidate = layer.candidate
    rank, statistics = outcome.ranks[candidate.name], layer.statistics
    made = outcome.made.get_submodule(candidate.name)
    after = sum(p.numel() for p in made.parameters())
    shared: dict[str, Any] = {
        "name": candidate.name,
        "kind": candidate.kind,
        "shape": tuple(candidate.module.get_parameter("weight").shape),
        "rank": rank,
        "rank_full": candidate.rank_full,
        "parameters": candidate.parameters,
        "parameters_after": after,
        "kept": after / candidate.parameters,
    }
    if rank is None:
        zero = 0.0 if statistics else None
        reason = _reason(outcome, layer)
        return LayerReport(**shared, weight_error=0.0, weight_error_bound=0.0, output_error=zero,
                           output_error_bound=zero, reason=reason)  # fmt: skip
    assert isinstance(made, LowRank)
    error, bound = weight_errors(layer, made, rank)
    return LayerReport(
        **shared,
        weight_error=error,
        weight_error_bound=bound,
        output_error=outcome.refitted.get(candidate.name, layer.output_error(rank)),
        output_error_bound=layer.output_error_bound(rank),
        reason=None,
    )


def weight_errors(layer: Truncation, made: LowRank, rank: int) -> tuple[float, float]:
    """‖W − W′‖_F / ‖W‖_F of the stored factors, and the least that it can be: √(Σ σᵢ², i > rank) / ‖W‖_F."""
    weight = matrix_of(layer.candidate.module)
    left, right = factors_of(made)
    whole = float(weight.norm())
    if whole == 0:
        return 0.0, 0.0
    return float((weight - left @ right).norm()) / whole, layer.weight_error_bound(rank)


def _reason(outcome: Outcome, layer: Truncation) -> str:
    """Why a layer stayed."""
    useful = layer.rank_useful
    if useful < 1:
        return "two layers would not be smaller, even at rank 1"
    if outcome.target.name == "rank":
        return f"two layers are only smaller up to rank {useful}"
    loss = _loss(layer, useful)
    told = f"at rank {useful}, the largest that saves anything, it would lose {loss:.1%} of its {_what(layer)}"
    if outcome.target.name == "energy":
        return f"two layers would not be smaller: {told}"
    return f"the parameters are better saved elsewhere: {told}"


def _loss(layer: Truncation, rank: int) -> float:
    """The least relative error at a rank: of the layer's outputs where they were seen, else of its weight."""
    bound = layer.output_error_bound(rank)
    return layer.weight_error_bound(rank) if bound is None else bound


def _what(layer: Truncation) -> str:
    return "output" if layer.statistics else "weight"


def _notes(outcome: Outcome, layers: tuple[LayerReport, ...], compared: Mapping[str, Any]) -> Iterator[str]:
    """Where low rank does not pay."""
    if not any(layer.rank is not None for layer in layers):
        yield "nothing was compressed: no layer gets smaller at what was asked for"
    flat = [
        layer.candidate.name
        for layer in outcome.prepared.layers
        if layer.rank_useful and _loss(layer, layer.rank_useful) > _FLAT
    ]
    left = {layer.name for layer in layers if layer.rank is None}
    loses = f"the largest rank that saves anything already loses more than {_FLAT:.0%} of what they put out"
    if names := [name for name in flat if name in left]:
        yield f"low rank does not pay in {_of(names, layers)}: their spectra are flat, {loses}; they stay as they are"
    if names := [name for name in flat if name not in left]:
        yield (
            f"low rank is dear in {_of(names, layers)}: their spectra are flat, {loses}; the budget took them all the "
            "same, and what that does to the model is in the model's output error"
        )
    before, after = compared["latency"], compared["latency_after"]
    if before and after and after.low > before.high:
        yield (
            f"it got slower: {after.median:.3g} ms instead of {before.median:.3g} ms a batch; two small products can "
            "take longer than one large"
        )
    elif before and after and after.high >= before.low:
        yield (
            f"whether it is faster can't be told: {after.median:.3g} ms instead of {before.median:.3g} ms a batch lies "
            "within the noise of the clock"
        )
    samples = [s.moments.samples for s in outcome.prepared.statistics.values()]
    wide = max((min(c.rows, c.columns) for c in outcome.prepared.candidates), default=0)
    if samples and min(samples) < wide:
        yield (
            f"the calibration is small: it is worth {counted(round(min(samples)), 'row')} in one layer, and layers "
            f"have up to {wide} dimensions; more of it makes ranks and factors more reliable"
        )


def _of(names: list[str], layers: tuple[LayerReport, ...]) -> str:
    return f"{len(names)} of {counted(len(layers), 'layer')} ({few(names)})"

"""What each of a grid of budgets would cost, without writing anything."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from eigenscope.compression import measuring
from eigenscope.compression.allocation import least_keep, unreachable
from eigenscope.compression.candidates import Patterns
from eigenscope.compression.layers import LowRank, factors_of, matrix_of
from eigenscope.compression.observing import Forward
from eigenscope.compression.preparing import (
    Method,
    Prepared,
    build,
    evaluating,
    prepare,
    target,
)
from eigenscope.compression.report import TradeOff, TradeOffPoint
from eigenscope.compression.statistics import Progress
from eigenscope.errors import InputError
from eigenscope.operators.isolation import differentiable

KEEPS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def compression_curve(
    model: nn.Module,
    calibration: Any = None,
    keeps: Sequence[float] = KEEPS,
    *,
    method: Method | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    forward: Forward | None = None,
    only: Patterns = None,
    skip: Patterns = None,
    min_rank: int = 1,
    progress: Progress | None = None,
) -> TradeOff:
    """What each of several budgets would save and cost: the curve to choose from before compressing.

    Statistics once, then for each budget the ranks, the model that they make, its error, and the user's metric where
    there is one. The arguments are those of `compress`; `keeps` are shares of the parameters of the compressible
    layers. A budget that can't be reached is left out, with a note. Raises `InputError` as `compress` does.
    """
    _check(list(keeps), min_rank)
    prepared = prepare(
        model, calibration, method, evaluate=evaluate, forward=forward, only=only, skip=skip, progress=progress
    )
    return priced(prepared, list(keeps), min_rank, progress)


def _check(grid: list[float], min_rank: int) -> None:
    if not grid:
        raise InputError("keeps is empty: give shares to price, such as [0.9, 0.8]")
    for keep in grid:
        target(keep, None, None, min_rank)


@differentiable([])
def priced(
    prepared: Prepared, grid: Sequence[float] = KEEPS, min_rank: int = 1, progress: Progress | None = None
) -> TradeOff:
    """The curve of a model that has been prepared."""
    began = time.perf_counter()
    least = least_keep(prepared.layers, min_rank)
    reachable = [keep for keep in grid if keep >= least]
    if not reachable:
        raise unreachable(max(grid), least, min_rank)
    points, notes = [], list(prepared.notes)
    for index, keep in enumerate(reachable):
        point, more = _point(prepared, keep, min_rank)
        points.append(point)
        notes += more
        if progress:
            progress("budgets", index + 1, len(reachable))
    batches = prepared.batches
    return TradeOff(
        method=prepared.method,
        parameters=measuring.parameter_count(prepared.model),
        compressible=sum(candidate.parameters for candidate in prepared.candidates),
        metric=prepared.metric,
        latency_ms=measuring.latencies([prepared.model], batches[0], prepared.forward)[0].median if batches else None,
        points=tuple(points),
        skipped=prepared.skipped,
        notes=(*notes, *(str(unreachable(keep, least, min_rank)) for keep in grid if keep < least)),
        seconds=prepared.seconds + time.perf_counter() - began,
    )


def _point(prepared: Prepared, keep: float, min_rank: int) -> tuple[TradeOffPoint, list[str]]:
    ranks = target(keep, None, None, min_rank).ranks(prepared.layers)
    made = build(prepared, ranks)
    evaluating(made)
    full, total = sum(c.parameters for c in prepared.candidates), measuring.parameter_count(prepared.model)
    after = measuring.parameter_count(made)
    batches, forward = prepared.batches, prepared.forward
    metric, notes = measuring.finite_metric(prepared.evaluate, made, f" at keep={keep:g}")
    point = TradeOffPoint(
        keep=keep,
        kept=(full - total + after) / full,
        kept_of_model=after / total,
        parameters_after=after,
        compressed_layers=sum(rank is not None for rank in ranks.values()),
        output_error=measuring.output_error(prepared.model, made, batches, forward) if batches else None,
        weight_error=_weight_error(prepared, made),
        metric=metric,
        latency_ms=measuring.latencies([made], batches[0], forward)[0].median if batches else None,
    )
    return point, notes


def _weight_error(prepared: Prepared, made: nn.Module) -> float:
    lost = whole = 0.0
    for candidate in prepared.candidates:
        weight, layer = matrix_of(candidate.module), made.get_submodule(candidate.name)
        whole += float(weight.square().sum())
        if isinstance(layer, LowRank):
            left, right = factors_of(layer)
            lost += float((weight - left @ right).square().sum())
    return math.sqrt(lost / whole) if whole > 0 else 0.0

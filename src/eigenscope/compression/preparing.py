"""What compressing and pricing share: a copy of the model to measure on, its layers at every rank, and building."""

from __future__ import annotations

import copy
import math
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from eigenscope.compression import allocation, measuring
from eigenscope.compression.candidates import Candidate, Patterns, find_layers
from eigenscope.compression.layers import LowRank, turn_into, with_factors
from eigenscope.compression.observing import Forward, call
from eigenscope.compression.reaching import Reach, reach
from eigenscope.compression.report import Skipped
from eigenscope.compression.statistics import Progress, Statistics, collect
from eigenscope.compression.whitening import Truncation, plain, whitened
from eigenscope.errors import InputError, first_line
from eigenscope.operators.isolation import differentiable, underlying
from eigenscope.operators.probe import as_batches

Method = Literal["activation", "plain"]


@dataclass(frozen=True)
class Prepared:
    """A model in evaluation mode, never changed, and its compressible layers at every rank."""

    given: nn.Module  # the user's, under any wrapper
    model: nn.Module  # the copy that runs
    batches: Sequence[Any]
    forward: Forward
    evaluate: Callable[[nn.Module], float] | None
    metric: float | None  # the user's own, of the model as it is
    method: Method
    layers: list[Truncation]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]  # of what the calibration could not tell
    seconds: float  # that all this took

    @property
    def candidates(self) -> list[Candidate]:
        """The layers, in the model's order."""
        return [layer.candidate for layer in self.layers]

    @property
    def statistics(self) -> dict[str, Statistics]:
        """By the layer's name, where there was calibration."""
        return {layer.candidate.name: layer.statistics for layer in self.layers if layer.statistics is not None}


@differentiable([])
def prepare(
    model: nn.Module,
    calibration: Any,
    method: Method | None = None,
    *,
    evaluate: Callable[[nn.Module], float] | None = None,
    forward: Forward | None = None,
    only: Patterns = None,
    skip: Patterns = None,
    progress: Progress | None = None,
) -> Prepared:
    """Copy the model, find its layers, and measure what passes through them."""
    began = time.perf_counter()
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is a {type(model).__name__}: a torch.nn.Module is needed")
    chosen = _method(method, calibration is not None)
    if isinstance(calibration, Sequence) and not calibration:
        raise InputError("the calibration is empty: pass at least one batch")
    batches = as_batches(calibration) if calibration is not None else []
    given = underlying(model)
    copied = _measurable(given)
    candidates, skipped = find_layers(copied, only, skip)
    metric = _metric(evaluate, copied)
    found = collect(copied, candidates, batches, forward or call, progress) if batches else {}
    known = reach(copied, candidates, found, batches, forward or call) if batches else Reach(candidates, [], True, [])
    layers = []
    for index, candidate in enumerate(known.candidates):
        seen = found.get(candidate.name)
        layers.append(whitened(seen) if seen and chosen == "activation" else plain(candidate, seen))
        if progress:
            progress("layers", index + 1, len(known.candidates))
    return Prepared(
        given,
        copied,
        batches,
        forward or call,
        evaluate,
        metric,
        chosen,
        layers if known.comparable else [_own(layer) for layer in layers],
        (*skipped, *known.skipped),
        tuple(known.notes),
        time.perf_counter() - began,
    )


def _own(layer: Truncation) -> Truncation:
    """With effects as shares of the layer's own output, the one unit in which all can be compared."""
    whole = float(layer.effects[0])
    return replace(layer, effects=layer.effects / whole) if whole > 0 else layer


def _metric(evaluate: Callable[[nn.Module], float] | None, model: nn.Module) -> float | None:
    """Before the work: what can't be measured on the model as it is can't be compared."""
    value = measuring.metric(evaluate, model)
    if value is not None and not math.isfinite(value):
        raise InputError(f"evaluate returned {value} for the model as it is: it must return a finite number")
    return value


def _method(method: Method | None, calibrated: bool) -> Method:
    if method not in (None, "activation", "plain"):
        raise InputError(f"method={method!r} is not known: give 'activation' or 'plain'")
    if method == "activation" and not calibrated:
        raise InputError("method='activation' needs calibration=, batches that the model is run on")
    return method or ("activation" if calibrated else "plain")


def _measurable(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose parameters need no gradient."""
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise InputError(f"parameter {name!r} is on the meta device and has no values: load the model first")
    made = copied(model).requires_grad_(False)
    for module in made.modules():
        module.training = False
    return made


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, or why there is none."""
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise InputError(
            f"{type(model).__name__} can't be copied ({type(error).__name__}: {first_line(error)}): "
            "compress it before it has run with gradients, or build it anew from its state dict"
        ) from error


def build(prepared: Prepared, ranks: Mapping[str, int | None]) -> nn.Module:
    """A copy of the user's model with layers replaced."""
    made = copied(prepared.given)
    for layer in prepared.layers:
        name, rank = layer.candidate.name, ranks[layer.candidate.name]
        if rank is None:
            continue
        factors, old = layer.factors(rank), made.get_submodule(name)
        turn_into(old, with_factors(old, factors.left, factors.right, factors.bias))
    return made


def evaluating(model: nn.Module) -> dict[nn.Module, bool]:
    """Put a model into evaluation mode without calling its `eval`; the modes it had, for `restore`."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = False
    return modes


def restore(modes: Mapping[nn.Module, bool]) -> None:
    """Undo `evaluating`."""
    for module, training in modes.items():
        module.training = training


def low_rank_layers(model: nn.Module) -> dict[str, LowRank]:
    """By name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LowRank)}


@dataclass(frozen=True)
class Target:
    """How much to compress: one of three ways."""

    name: str  # "keep", "energy" or "rank"
    value: float
    min_rank: int

    def ranks(self, layers: Sequence[Truncation]) -> allocation.Ranks:
        """One for each layer, or None for those that stay."""
        if self.name == "keep":
            return allocation.by_budget(layers, self.value, self.min_rank)
        if self.name == "energy":
            return allocation.by_energy(layers, self.value, self.min_rank)
        return allocation.by_rank(layers, int(self.value))


def target(keep: float | None, energy: float | None, rank: int | None, min_rank: int) -> Target:
    """Exactly one of the three, checked."""
    given = {"keep": keep, "energy": energy, "rank": rank}
    asked = {name: value for name, value in given.items() if value is not None}
    if len(asked) != 1:
        what = " and ".join(f"{name}={value}" for name, value in asked.items()) or "none of them"
        raise InputError(f"give exactly one of keep=, energy= and rank=: {what} was given")
    if _whole("min_rank", min_rank) < 1:
        raise InputError(f"min_rank={min_rank}: it must be at least 1")
    name, value = next(iter(asked.items()))
    if name == "rank":
        if _whole("rank", value) < 1:
            raise InputError(f"rank={value}: it must be at least 1")
    elif name == "keep" or value != 1:
        check_share(name, value)
    return Target(name, float(value), min_rank)


def check_share(name: str, value: Any) -> None:
    """Between 0 and 1, neither included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 < value < 1:
        raise InputError(f"{name}={value}: it must lie between 0 and 1, such as 0.8")


def _whole(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"{name}={value!r}: it must be a whole number") from None

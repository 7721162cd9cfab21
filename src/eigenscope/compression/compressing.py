"""Compression of a whole model: measure the inputs, choose the ranks, replace the layers, measure what was lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from eigenscope.compression.candidates import Patterns
from eigenscope.compression.observing import Forward
from eigenscope.compression.outcome import Outcome, reported
from eigenscope.compression.preparing import (
    Method,
    Prepared,
    Target,
    build,
    evaluating,
    low_rank_layers,
    prepare,
    restore,
    target,
)
from eigenscope.compression.refit import refit as fit_again
from eigenscope.compression.report import CompressionReport
from eigenscope.compression.saving import save_compressed
from eigenscope.compression.statistics import Progress
from eigenscope.errors import InputError
from eigenscope.operators.isolation import differentiable
from eigenscope.words import counted

__all__ = ["Compressed", "Forward", "Method", "Progress", "compress"]


@dataclass(frozen=True)
class Compressed:
    """A compressed model, an ordinary module with the modes of the original, and what the compression did."""

    model: nn.Module
    report: CompressionReport

    def __repr__(self) -> str:
        r = self.report
        layers = f"{sum(layer.rank is not None for layer in r.layers)} of {counted(len(r.layers), 'layer')}"
        return f"<Compressed: {r.parameters:,} → {r.parameters_after:,} parameters, {layers}; .model, .report>"

    def save_pretrained(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write `eigenscope.safetensors`, `eigenscope.json` and a Hugging Face model's configurations, all or nothing.

        An existing folder is refused unless `force` is given, which replaces it. `es.load_compressed` reads it back;
        transformers by itself does not. A tokenizer is saved by its own `save_pretrained`.
        """
        save_compressed(self.model, folder, force=force)


def compress(
    model: nn.Module,
    calibration: Any = None,
    *,
    keep: float | None = None,
    energy: float | None = None,
    rank: int | None = None,
    method: Method | None = None,
    refit: bool = False,
    evaluate: Callable[[nn.Module], float] | None = None,
    forward: Forward | None = None,
    only: Patterns = None,
    skip: Patterns = None,
    min_rank: int = 1,
    progress: Progress | None = None,
) -> Compressed:
    """Replace dense and convolution layers of a copy of `model` by two thin ones each.

    Args:
        model: any module; it stays as it is.
        calibration: one batch or a fixed sequence of them, for `method="activation"`: of the kind of data that the
            model is for, and more samples than its layers are wide where there are.
        keep: the share of the parameters of the compressible layers to keep, ranks spread by their effect on the
            output.
        energy: or the share of its spectrum that each layer keeps, of the whitened one where there is calibration; 1
            is all of it, to rounding.
        rank: or the same rank for all layers.
        method: "activation" (the default with calibration) minimizes the error of the model's output on the data,
            "plain" that of the weights.
        refit: fit each layer's second factor again, one layer after the other, on inputs that are already compressed.
        evaluate: your own metric of a model, a finite number, measured before and after.
        forward: how a batch goes through the model; by default `model(**batch)` for a mapping, `model(*batch)` for a
            tuple, else `model(batch)`. What it returns is what is kept close to the original: return what you use (the
            pooled embedding, the probabilities), through autograd, and padding counts nothing.
        only, skip: shell patterns of layer names.
        min_rank: no layer gets less.
        progress: called with what is going on, steps done and steps in all.

    Where a layer has no bias, one is added only if it takes away more than 1 % of the layer's squared error. A layer
    that would not get smaller stays, and so do layers that are never reached or change no output, that are tied or
    grouped, whose `forward` was replaced, or that are of low rank already, each with its reason.

    Raises `InputError`: not exactly one target, a budget that can't be reached, a rank that no layer can have, NaN in
    the model, on the data or in the gradients, a calibration that reaches no layer.
    """
    goal = target(keep, energy, rank, min_rank)
    if refit and calibration is None:
        raise InputError("refit=True needs calibration=, batches that the model is run on")
    prepared = prepare(
        model, calibration, method, evaluate=evaluate, forward=forward, only=only, skip=skip, progress=progress
    )
    return compressed(prepared, goal, refit=refit, progress=progress)


@differentiable([])
def compressed(
    prepared: Prepared, goal: Target, *, refit: bool = False, progress: Progress | None = None
) -> Compressed:
    """Choose ranks, build, fit again if asked to, and measure."""
    began = time.perf_counter()
    ranks = goal.ranks(prepared.layers)
    made = build(prepared, ranks)
    modes = evaluating(made)
    errors: dict[str, float | None] = {}
    if refit and low_rank_layers(made):
        errors = fit_again(prepared.model, made, prepared.statistics, prepared.batches, prepared.forward, progress)
    report = reported(Outcome(prepared, goal, ranks, made, errors, refit, began), progress)
    restore(modes)
    return Compressed(made, report)

"""`eigenscope.signal_flow`: the flow of a gradient through a network's depth, in one call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from eigenscope.diagnostics.flow import FlowReading
from eigenscope.flow.measure import Progress, measure
from eigenscope.flow.remedies import remedies, tried
from eigenscope.flow.settings import FlowSettings
from eigenscope.operators import Probe
from eigenscope.operators.probe import BatchWeight, LossFunction


def signal_flow(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Any,
    *,
    try_remedies: bool = False,
    batch_weight: BatchWeight | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> FlowReading:
    """Measure how a signal and its gradient pass through a network, block by block, and name the layer at fault.

    The blocks are found by running the model once: transformer blocks, residual blocks, or, in a plain network, its
    layers. For each: ‖J‖₂ and ‖J‖_F/√n of its Jacobian J = ∂output/∂input over the batch, by products with J and Jᵀ
    alone, and the norms of activation and gradient at both ends. A block that can't be measured says why.

    Parameters
    ----------
    model, loss_fn, batches
        As in `curvature`: `loss_fn(model, batch)` returns a batch's mean loss. The model is left as it was to the bit.
    try_remedies
        Apply each remedy to a copy of the model and measure again.
    progress
        Called with (blocks done, blocks in all).
    **settings
        Fields of `FlowSettings`: ``blocks=["encoder.*"]``, ``tolerance=1e-2``, ``sigma_min=False``,
        ``spectrum=False``, ``branches=True``, ``train_mode=False``, ``seed=0``, ...

    Returns
    -------
    FlowReading
        `blocks` in the order in which data passes, `growth` (the geometric mean of the gradient's growth per block),
        `depth_factor` (growth to the power of the number of blocks), `verdict`, `layer_at_fault`, `remedies`.

    Raises
    ------
    InputError
        What was passed in can't be measured; one line says why, and names the layer that gives NaN.
    """
    chosen = FlowSettings.of(settings)
    probe = Probe(model, loss_fn, batches, batch_weight=batch_weight, train_mode=chosen.train_mode)
    reading = flow(probe, chosen, progress=progress)
    if not try_remedies:
        return reading
    if not reading.remedies:
        return replace(reading, notes=(*reading.notes, f"no remedy to try: the verdict is {reading.verdict}"))
    return tried(reading, probe, chosen)


def flow(probe: Probe, settings: FlowSettings, *, step: int = 0, progress: Progress | None = None) -> FlowReading:
    """One measurement with the remedies that fit it."""
    reading = measure(probe, settings, step=step, progress=progress)
    return replace(reading, remedies=remedies(reading, probe.model))

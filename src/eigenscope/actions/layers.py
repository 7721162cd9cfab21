"""The layers that an action on signal flow changes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from eigenscope.actions.evidence import Evidence
from eigenscope.actions.situation import Situation
from eigenscope.diagnostics.flow import FlowReading
from eigenscope.errors import InputError
from eigenscope.flow.layers import single_layers
from eigenscope.flow.settings import FlowSettings
from eigenscope.flow.signal import flow
from eigenscope.operators import Probe
from eigenscope.operators.probe import Batches
from eigenscope.words import did_you_mean

_LESS = 0.5  # of the factor before: a tenth up or down it moves in training by itself
QUICK = FlowSettings(branches=False, tolerance=0.1, max_matvecs=8)


def first_batch(now: Situation) -> Probe:
    """The probe's first batch: enough for the flow of a signal."""
    whole = now.probe()
    return Probe(now.model, now.loss_fn, Batches(whole.batches[:1]), batch_weight=lambda _: 1.0)


def named(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """Modules with a weight matrix, by name."""
    known = dict(model.named_modules())
    for name in names:
        if name not in known:
            raise InputError(f"the model has no layer {name!r}{did_you_mean(name, known, most=8)}")
        weight = known[name]._parameters.get("weight")
        if weight is None or weight.ndim < 2:
            raise InputError(f"the layer {name!r} has no weight matrix")
    return {name: known[name] for name in names}


def at_fault(now: Situation, reading: FlowReading | None = None) -> dict[str, nn.Module]:
    """The single layers that signal flow names, by block."""
    reading = reading or now.flow
    if reading is None:
        return {}
    return {name: layer for name, layer in single_layers(now.model, reading) if name in reading.layers_at_fault}


def measured(now: Situation) -> FlowReading:
    """The signal flow as last measured, or measured now."""
    return now.flow if now.flow is not None else flow(first_batch(now), QUICK, step=now.step)


def why_not(now: Situation, layers: Sequence[str] | None, verdicts: tuple[str, ...]) -> str | None:
    """Why there is no layer to be changed; None if there is one, or if it has yet to be measured."""
    if layers is not None or now.flow is None:
        return None
    if now.flow.verdict not in verdicts:
        return f"the signal flow is {now.flow.verdict}: {now.flow.verdict_reason}"
    if not at_fault(now):
        return f"no single layer with a weight matrix is at fault, but {', '.join(now.flow.layers_at_fault) or 'none'}"
    return None


def flow_helped(before: Evidence, after: Evidence) -> bool | None:
    """Whether the gradient's norm now gets at most half as far from where it began; None where it gets little less."""
    if before.flow is None or after.flow is None or after.flow is before.flow or after.flow.verdict == "unresolved":
        return None
    share = after.flow.severity / before.flow.severity
    return True if share <= _LESS else None if share < 1 else False

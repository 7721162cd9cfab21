"""What may help a gradient that explodes or vanishes: in order of evidence, and tried on a copy on request.

The order is that of the evidence for deep plain networks: initialization at an isometry (Saxe et al. 2014; Pennington
et al. 2017), residual branches scaled down (He et al. 2016; Zhang et al. 2019), normalization (Ioffe & Szegedy 2015;
Ba et al. 2016), spectral normalization (Miyato et al. 2018), and clipping (Pascanu et al. 2013), which treats the
symptom.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eigenscope.diagnostics.flow import BlockFlow, FlowOutcome, FlowReading, Remedy
from eigenscope.errors import InputError, first_line
from eigenscope.flow.layers import keep_fresh_signal, matrices, measured, module_named, single_layers
from eigenscope.flow.measure import measure
from eigenscope.flow.settings import FlowSettings
from eigenscope.flow.trace import tensors_in
from eigenscope.operators import Probe
from eigenscope.operators.isolation import differentiable, random_streams
from eigenscope.operators.probe import Batches
from eigenscope.words import few


@dataclass(frozen=True)
class _Trial:
    """A copy of the model to be changed; the reading is the original's."""

    model: nn.Module
    reading: FlowReading
    probe: Probe  # of the copy
    settings: FlowSettings


@dataclass(frozen=True)
class _Idea:
    """A remedy: whether it fits, its words, and the change that tries it on a copy (None: none is needed)."""

    name: str
    fits: Callable[[FlowReading, nn.Module], bool]
    what: Callable[[FlowReading, nn.Module], str]
    why: str
    change: Callable[[_Trial], None] | None


def remedies(reading: FlowReading, model: nn.Module) -> tuple[Remedy, ...]:
    """What fits a reading of a model, in order of evidence; nothing for a healthy one."""
    if reading.verdict not in ("exploding", "vanishing"):
        return ()
    return tuple(Remedy(idea.name, idea.what(reading, model), idea.why) for idea in IDEAS if idea.fits(reading, model))


def tried(reading: FlowReading, probe: Probe, settings: FlowSettings) -> FlowReading:
    """The reading with every remedy applied to a copy of the model, measured again, and the best put first."""
    found = [replace(remedy, tried=_outcome(remedy.name, reading, probe, settings)) for remedy in reading.remedies]
    return replace(reading, remedies=tuple(sorted(found, key=_distance)))


def _distance(remedy: Remedy) -> float:
    """How far from keeping the gradient's norm; what only treats the symptom comes last, then what failed."""
    outcome = remedy.tried
    if outcome is None or outcome.reason is not None:
        return math.inf
    if remedy.name == "clip_gradients":
        return 1e300
    return abs(math.log(outcome.depth_factor)) if outcome.depth_factor else 1e200


def _outcome(name: str, reading: FlowReading, probe: Probe, settings: FlowSettings) -> FlowOutcome:
    change = next(idea.change for idea in IDEAS if idea.name == name)
    worst = reading.worst.sigma_max.value if reading.worst else None
    if change is None:  # the Jacobians stay as they are, only the update is bounded
        clipped = min(reading.gradient_norm, clipping_value(reading))
        return FlowOutcome(reading.verdict, reading.growth, reading.depth_factor, worst, clipped)
    devices = [probe.parameters.device]
    try:
        with differentiable(devices), random_streams(devices):
            after = _changed(change, reading, probe, replace(settings, branches=False, sigma_min=False, spectrum=False))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the user's model runs in a way that it was not made for
        return _untried(first_line(error))
    if after.worst is None:
        return _untried("loss_fn does not use the model that it is handed, but the original")
    return FlowOutcome(
        after.verdict, after.growth, after.depth_factor, after.worst.sigma_max.value, after.gradient_norm
    )


def _changed(
    change: Callable[[_Trial], None], reading: FlowReading, probe: Probe, settings: FlowSettings
) -> FlowReading:
    """The flow of a changed copy, on the same batches with the same weights."""
    twin, weights = copy.deepcopy(probe.model), iter(probe.weights)
    other = Probe(
        twin, probe.loss_fn, Batches(probe.batches), batch_weight=lambda _: next(weights), train_mode=probe.train_mode
    )
    change(_Trial(twin, reading, other, settings))
    return measure(other, settings)


def _untried(reason: str) -> FlowOutcome:
    return FlowOutcome("unresolved", None, None, None, None, reason)


# -- the changes ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def _orthogonal(trial: _Trial) -> None:
    """Orthogonal weights, then each layer scaled until a random signal keeps its size (LSUV: Mishkin & Matas 2016)."""
    for block in measured(trial.reading):
        for module in matrices(trial.model, block):
            nn.init.orthogonal_(module.weight)  # type: ignore[arg-type]
            if isinstance(getattr(module, "bias", None), Tensor):
                module.bias.zero_()  # type: ignore[operator]
    layers = dict(single_layers(trial.model, trial.reading))
    first = Probe(trial.model, trial.probe.loss_fn, Batches(trial.probe.batches[:1]), batch_weight=lambda _: 1.0)
    keep_fresh_signal(first, layers, trial.settings)


@torch.no_grad()
def _spectral(trial: _Trial) -> None:
    """The layers at fault divided by their Jacobian's norm."""
    norms = {block.name: block.sigma_max.value for block in trial.reading.blocks}
    for name, module in single_layers(trial.model, trial.reading):
        norm = norms[name]
        if name in trial.reading.layers_at_fault and norm:
            module.weight.div_(norm)  # type: ignore[operator]


def _normalized(trial: _Trial) -> None:
    """Every layer's output at mean 0 and variance 1, sample by sample."""
    for _, module in single_layers(trial.model, trial.reading):
        module.register_forward_hook(_normalize)


def _normalize(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    if isinstance(_module, nn.modules.conv._ConvNd):
        return F.group_norm(output, 1)
    return F.layer_norm(output, output.shape[-1:])


def _residual(trial: _Trial) -> None:
    """x + F(x)/√L around every block of equal width."""
    blocks = _square(trial.reading, trial.model)
    scale = max(len(blocks), 1) ** -0.5
    for block in blocks:
        _wrap(trial.model, block, scale)


def _wrap(model: nn.Module, block: BlockFlow, scale: float) -> None:
    kept: list[Tensor] = []

    def enter(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        kept[:] = [tensor for tensor in tensors_in((inputs, named)) if tensor.is_floating_point()][:1]

    def leave(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or not kept or output.shape != kept[0].shape:
            raise InputError(f"{block.name} does not take and return one tensor")
        return kept[0] + scale * output

    module_named(model, block.modules[0]).register_forward_pre_hook(enter, with_kwargs=True)
    module_named(model, block.modules[-1]).register_forward_hook(leave)


def _square(reading: FlowReading, model: nn.Module) -> list[BlockFlow]:
    """The single layers whose output has the shape of their input."""
    layers = dict(single_layers(model, reading))
    return [b for b in measured(reading) if b.name in layers and b.shape is not None and b.shape[0] == b.shape[1]]


def _at_fault(reading: FlowReading, model: nn.Module) -> bool:
    """Whether a single layer is at fault."""
    return any(name in reading.layers_at_fault for name, _ in single_layers(model, reading))


def _has_norms(model: nn.Module) -> bool:
    return any("Norm" in type(module).__name__ for module in model.modules())


def clipping_value(reading: FlowReading) -> float:
    """The norm that the parameters' gradient would have if no block amplified it."""
    factor = reading.depth_factor or 1.0
    return reading.gradient_norm / max(factor, 1.0)


IDEAS: tuple[_Idea, ...] = (
    _Idea(
        "orthogonal_init",
        lambda r, model: any(matrices(model, b) for b in measured(r) if b.name in r.layers_at_fault),
        lambda *_: "start again from orthogonal weights, each layer scaled so that a random signal keeps its size",
        "singular values near 1 carry gradients through any depth (Saxe et al. 2014; Mishkin & Matas 2016)",
        _orthogonal,
    ),
    _Idea(
        "residual",
        lambda r, model: _at_fault(r, model) and len(_square(r, model)) >= 2,
        lambda r, model: f"add each block's input to its output, x + F(x)/√{len(_square(r, model))}",
        "the Jacobian becomes I + ∂F/∂x: the path through I stays open (He et al. 2016)",
        _residual,
    ),
    _Idea(
        "normalization",
        lambda r, model: _at_fault(r, model) and not _has_norms(model),
        lambda *_: "normalize each layer's output (LayerNorm; for convolutions GroupNorm or BatchNorm)",
        "what is rescaled to variance 1 can neither die out nor blow up on its way (Ba et al. 2016)",
        _normalized,
    ),
    _Idea(
        "spectral_norm",
        lambda r, model: r.verdict == "exploding" and _at_fault(r, model),
        lambda r, _: f"spectral normalization of {few(r.layers_at_fault)}",
        "a layer divided by its norm amplifies no direction (Miyato et al. 2018)",
        _spectral,
    ),
    _Idea(
        "clip_gradients",
        lambda r, _: r.verdict == "exploding",
        lambda r, _: f"clip_grad_norm_(parameters, {clipping_value(r):.2g})",
        "bounds the step, not the growth: the early layers still drown out the late ones (Pascanu et al. 2013)",
        None,
    ),
)

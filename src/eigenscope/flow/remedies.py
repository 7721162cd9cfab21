"""What may help a gradient that explodes or vanishes: in order of evidence, and tried on a copy on request.

The order is that of the evidence for deep plain networks: initialization at an isometry (Saxe et al. 2014; Pennington
et al. 2017), residual branches scaled down (He et al. 2016; Zhang et al. 2019), normalization (Ioffe & Szegedy 2015;
Ba et al. 2016), spectral normalization (Miyato et al. 2018), and clipping (Pascanu et al. 2013), which treats the
symptom.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eigenscope.diagnostics.flow import BlockFlow, FlowOutcome, FlowReading, Remedy
from eigenscope.errors import EigenscopeError, first_line
from eigenscope.flow.measure import measure
from eigenscope.flow.settings import FlowSettings
from eigenscope.operators import Probe

_ROUNDS = 3  # rescalings after an orthogonal start: a layer's scale changes what the next one sees
Change = Callable[[nn.Module, FlowReading, Probe], None]


@dataclass(frozen=True)
class _Idea:
    """A remedy: whether it fits a reading, its words, and the change that tries it on a copy (None: none is needed)."""

    name: str
    fits: Callable[[FlowReading], bool]
    what: Callable[[FlowReading], str]
    why: str
    change: Change | None


def remedies(reading: FlowReading) -> tuple[Remedy, ...]:
    """What fits a reading, in order of evidence; nothing for a healthy one."""
    if reading.verdict not in ("exploding", "vanishing"):
        return ()
    return tuple(Remedy(idea.name, idea.what(reading), idea.why) for idea in IDEAS if idea.fits(reading))


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
    if not probe.aliased:
        return _untried("the loss uses the model itself, not the one that it is handed")
    try:
        twin = copy.deepcopy(probe.model)
        other = Probe(twin, probe.loss_fn, probe.batches, train_mode=probe.train_mode)
        other.weights = probe.weights
        change(twin, reading, other)
        after = measure(other, replace(settings, branches=False, sigma_min=False, spectrum=False))
    except (EigenscopeError, RuntimeError, TypeError, NotImplementedError) as error:
        return _untried(first_line(error))
    largest = after.worst.sigma_max.value if after.worst else None
    return FlowOutcome(after.verdict, after.growth, after.depth_factor, largest, after.gradient_norm)


def _untried(reason: str) -> FlowOutcome:
    return FlowOutcome("unresolved", None, None, None, None, reason)


# -- the changes ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def _orthogonal(model: nn.Module, reading: FlowReading, probe: Probe) -> None:
    """Orthogonal weights, then each layer scaled until a random signal keeps its size (LSUV: Mishkin & Matas 2016)."""
    layers = dict(_weighted(model, reading))
    for module in layers.values():
        nn.init.orthogonal_(module.weight.flatten(1))  # type: ignore[operator]
        if isinstance(module.bias, Tensor):
            module.bias.zero_()
    for _ in range(_ROUNDS):
        now = measure(probe, FlowSettings(branches=False, tolerance=0.1, max_matvecs=4))
        for block in now.blocks:
            if block.name in layers and block.sigma_rms.value:
                layers[block.name].weight.div_(block.sigma_rms.value)  # type: ignore[operator, arg-type]


@torch.no_grad()
def _spectral(model: nn.Module, reading: FlowReading, _probe: Probe) -> None:
    """The layers at fault divided by their Jacobian's norm."""
    norms = {block.name: block.sigma_max.value for block in reading.blocks}
    for name, module in _weighted(model, reading):
        norm = norms[name]
        if name in reading.layers_at_fault and norm:
            module.weight.div_(norm)  # type: ignore[operator, arg-type]


def _normalized(model: nn.Module, reading: FlowReading, _probe: Probe) -> None:
    """Every layer's output at mean 0 and variance 1, sample by sample."""
    for _, module in _weighted(model, reading):
        module.register_forward_hook(_normalize)


def _normalize(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    if isinstance(_module, nn.modules.conv._ConvNd):
        return F.group_norm(output, 1)
    return F.layer_norm(output, output.shape[-1:])


def _residual(model: nn.Module, reading: FlowReading, _probe: Probe) -> None:
    """x + F(x)/√L around every block of equal width."""
    blocks = [block for block in _measured(reading) if _keeps_shape(block)]
    scale = max(len(blocks), 1) ** -0.5
    for block in blocks:
        _wrap(model, block, scale)


def _wrap(model: nn.Module, block: BlockFlow, scale: float) -> None:
    kept: list[Tensor] = []

    def enter(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        kept[:] = inputs[:1]

    def leave(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return kept[0] + scale * output

    model.get_submodule(block.modules[0]).register_forward_pre_hook(enter)
    model.get_submodule(block.modules[-1]).register_forward_hook(leave)


def _measured(reading: FlowReading) -> Iterator[BlockFlow]:
    return (block for block in reading.blocks if block.reason is None)


def _keeps_shape(block: BlockFlow) -> bool:
    return block.shape is not None and block.shape[0] == block.shape[1] and block.branch is None


def _weighted(model: nn.Module, reading: FlowReading) -> Iterator[tuple[str, nn.Module]]:
    """The blocks that are one layer with a weight matrix, by name."""
    for block in _measured(reading):
        modules = [model.get_submodule(name) for name in block.modules]
        matrices = [m for m in modules if isinstance(getattr(m, "weight", None), nn.Parameter) and m.weight.ndim >= 2]
        if len(matrices) == 1 and not list(matrices[0].children()):
            yield block.name, matrices[0]


def clipping_value(reading: FlowReading) -> float:
    """The norm that the parameters' gradient would have if no block amplified it."""
    factor = reading.depth_factor or 1.0
    return reading.gradient_norm / max(factor, 1.0)


IDEAS: tuple[_Idea, ...] = (
    _Idea(
        "orthogonal_init",
        lambda r: any(block.branch is None for block in _measured(r)),
        lambda r: "start again from orthogonal weights, each layer scaled so that a random signal keeps its size",
        "singular values near 1 carry gradients through any depth (Saxe et al. 2014; Mishkin & Matas 2016)",
        _orthogonal,
    ),
    _Idea(
        "residual",
        lambda r: sum(_keeps_shape(block) for block in _measured(r)) >= 2,
        lambda r: f"add each block's input to its output, x + F(x)/√{sum(map(_keeps_shape, _measured(r)))}",
        "the Jacobian becomes I + ∂F/∂x: the path through I stays open (He et al. 2016)",
        _residual,
    ),
    _Idea(
        "normalization",
        lambda r: not any("Norm" in block.about for block in _measured(r)),
        lambda r: "normalize each layer's output (LayerNorm; for convolutions GroupNorm or BatchNorm)",
        "what is rescaled to variance 1 can neither die out nor blow up on its way (Ba et al. 2016)",
        _normalized,
    ),
    _Idea(
        "spectral_norm",
        lambda r: r.verdict == "exploding",
        lambda r: f"spectral normalization of {_list(r.layers_at_fault)}",
        "a layer divided by its norm amplifies no direction (Miyato et al. 2018)",
        _spectral,
    ),
    _Idea(
        "clip_gradients",
        lambda r: r.verdict == "exploding",
        lambda r: f"clip_grad_norm_(parameters, {clipping_value(r):.2g})",
        "bounds the step, not the growth: the early layers still drown out the late ones (Pascanu et al. 2013)",
        None,
    ),
)


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

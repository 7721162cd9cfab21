"""A start from orthogonal weights."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from eigenscope.actions.base import Action
from eigenscope.actions.evidence import Evidence
from eigenscope.actions.layers import QUICK, first_batch, flow_helped
from eigenscope.actions.learnt import learnt
from eigenscope.actions.situation import Situation
from eigenscope.flow.layers import keep_fresh_signal, single_layers
from eigenscope.flow.measure import measure

_WORSE = 0.1  # of the loss: by what it may rise from the first steps on
_FEW = 10  # losses at either end
Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


class Reinitialize(Action):
    """Draw the weights of all dense and convolution layers anew, orthogonal: all singular values are 1. Biases are 0.

    A convolution gets an orthogonal matrix at its middle tap and zeros elsewhere, with which it keeps norms as a map
    of images, too. Then, with `keep_signal`, each layer is multiplied by one number so that ‖J‖_F/√n of its block is 1
    on the probe: an activation takes part of what passes (half of it, in ReLU). Where the gradient would vanish even
    so, as in sigmoids, the biases take the mean out of each layer's output over the probe. Before the first step only:
    after it, this would throw away what was learnt.

    Saxe, McClelland & Ganguli 2014; Xiao et al. 2018 (convolutions); Mishkin & Matas 2016 (the scale); Krähenbühl,
    Doersch, Donahue & Darrell 2016 (the biases).
    """

    name = "reinitialize"
    rules: ClassVar[tuple[str, ...]] = ("signal_flow",)
    words = "RE-INITIALIZE"
    criterion = "the gradient's norm gets at most half as far from where it began, and the loss does not rise since"
    changes_weights = starts_anew = True

    def __init__(self, *, keep_signal: bool = True, seed: int = 0) -> None:
        self.keep_signal, self.seed = keep_signal, seed

    def can_apply(self, now: Situation) -> str | None:
        moved = now.optimizer is not None and any(now.optimizer.state.values())
        if now.step > 0 or moved:
            return f"training has begun (step {now.step}): what was learnt would be lost"
        layers = _layers(now.model).values()
        if not layers:
            return "the model has no dense or convolution layer of its own"
        trained = None if now.fresh else learnt(now, layers)
        return f"what the network has learnt would be lost: {trained}" if trained else None

    def apply(self, now: Situation) -> dict[str, object]:
        layers, centred = _layers(now.model), False
        generators: dict[torch.device, torch.Generator] = {}
        for layer in layers.values():
            device = layer.weight.device
            generator = generators.setdefault(device, torch.Generator(device).manual_seed(self.seed))
            _orthogonal(layer, generator)
        if self.keep_signal:
            probe = first_batch(now)
            own = set(layers.values())
            single = {name: layer for name, layer in single_layers(now.model, measure(probe, QUICK)) if layer in own}
            centred = keep_fresh_signal(probe, single, QUICK)
        return {"layers": list(layers), "centred": centred, "singular_value": {n: _first(m) for n, m in layers.items()}}

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        return False if _rises(after.losses) else flow_helped(before, after)


def _rises(losses: Sequence[float]) -> bool:
    """Since the start: a network whose signal had vanished may have had a lower loss, by predicting nothing."""
    if not all(map(math.isfinite, losses)):
        return True
    if not losses:
        return False
    first, last = statistics.median(losses[:_FEW]), statistics.median(losses[-_FEW:])
    return last > first + _WORSE * abs(first)


def _layers(model: nn.Module) -> dict[str, Layer]:
    """Dense and convolution layers whose weight is a trainable parameter of its own."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Layer)
        and isinstance(module._parameters.get("weight"), Tensor)
        and module.weight.requires_grad
    }


@torch.no_grad()
def _orthogonal(layer: Layer, generator: torch.Generator) -> None:
    weight = layer.weight
    full = torch.promote_types(weight.dtype, torch.float32)  # torch has no QR in half precision
    if isinstance(layer, nn.Linear):
        drawn = torch.empty(weight.shape, dtype=full, device=weight.device)
        weight.copy_(nn.init.orthogonal_(drawn, generator=generator))
    else:
        weight.zero_()
        middle: tuple[Any, ...] = (slice(None), slice(None), *(size // 2 for size in weight.shape[2:]))
        for group in weight.chunk(layer.groups):
            tap = torch.empty(group.shape[:2], dtype=full, device=weight.device)
            group[middle] = nn.init.orthogonal_(tap, generator=generator).to(weight.dtype)
    if layer.bias is not None:
        layer.bias.zero_()


def _first(layer: Layer) -> float:
    """The singular value that all of them are, from the Frobenius norm."""
    groups = layer.groups if not isinstance(layer, nn.Linear) else 1
    rank = groups * min(layer.weight.shape[0] // groups, layer.weight.shape[1])
    norm = float(torch.linalg.vector_norm(layer.weight.detach().double()))
    return norm / math.sqrt(rank)

"""A layer scaled until it neither amplifies nor damps a random signal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from eigenscope.actions.base import Action
from eigenscope.actions.evidence import Evidence
from eigenscope.actions.layers import QUICK, at_fault, first_batch, flow_helped, measured, named, why_not
from eigenscope.actions.situation import Situation
from eigenscope.errors import InputError
from eigenscope.flow.layers import keep_signal


class Rescale(Action):
    """Multiply the weights of the layers that signal flow names until ‖J‖_F/√n of each is `target`.

    J is the Jacobian of the layer's block, its activation included, measured over the probe; one number a layer, and
    three rounds, for a layer's scale changes what the next one sees. For gradients that explode as for those that
    vanish.

    Mishkin & Matas 2016 (LSUV, there at the start and by the output's variance).
    """

    name = "rescale"
    rules: ClassVar[tuple[str, ...]] = ("signal_flow",)
    words = "RESCALE THE LAYER"
    criterion = "the gradient's norm gets at most half as far from where it began"
    changes_weights = True

    def __init__(self, layers: Sequence[str] | None = None, *, target: float = 1.0) -> None:
        if not target > 0:
            raise InputError(f"target={target:g}: a scale over 0 is needed")
        self.layers, self.target = layers, target

    def can_apply(self, now: Situation) -> str | None:
        return why_not(now, self.layers, ("exploding", "vanishing"))

    def apply(self, now: Situation) -> dict[str, object]:
        reading = measured(now)
        layers = at_fault(now, reading) if self.layers is None else named(now.model, self.layers)
        if not layers:
            raise InputError(f"no single layer is at fault: the signal flow is {reading.verdict}")
        before = {name: float(layer.weight.detach().norm()) for name, layer in layers.items()}  # type: ignore[operator]
        keep_signal(first_batch(now), layers, QUICK, self.target)
        return {
            "scale": {
                name: float(layer.weight.detach().norm()) / before[name] if before[name] else 1.0  # type: ignore[operator]
                for name, layer in layers.items()
            }
        }

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        return flow_helped(before, after)

"""Whether the gradient has grown since the curvature was last measured."""

from __future__ import annotations

import math

import torch

from eigenscope.actions.gradients import gradient_norm

_LOUD = 2.0  # times the loudest before the last measurement
_FADING = 0.98  # of the loudest from one step to the next: what was loud 35 steps ago counts half


class Loudness:
    """A step past the edge shows in the gradient first: it grows by |1 − λη| a step along the sharpest direction.

    The gradient is there at each step for nothing, so it tells when the curvature has to be measured ahead of time:
    once its norm is twice the largest that was heard up to the last measurement.
    """

    def __init__(self) -> None:
        self._before = math.inf  # the loudest up to the last measurement; at first nothing is known
        self._loudest = 0.0

    def hear(self, optimizer: torch.optim.Optimizer) -> bool:
        """Listen to the gradient of a step that is about to be taken; whether it calls for a measurement.

        Before a closure was evaluated `.grad` is that of the step before: to be called from `Hooks.add(gradient=...)`.
        """
        heard = gradient_norm(optimizer)
        norm = math.nan if heard is None else float(heard)
        if not math.isfinite(norm):  # the loss is lost: no curvature would say why
            return False
        self._loudest = max(norm, _FADING * self._loudest)
        return norm > _LOUD * self._before

    def measured(self) -> None:
        """The curvature was measured: what was heard so far is known."""
        if self._loudest:
            self._before = self._loudest

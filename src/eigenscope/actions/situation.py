"""What an action may look at and change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from eigenscope.diagnostics.flow import FlowReading
from eigenscope.diagnostics.reading import CurvatureReading
from eigenscope.operators import HessianOperator, Probe
from eigenscope.operators.isolation import differentiable
from eigenscope.operators.probe import BatchWeight, LossFunction


class Limits(Protocol):
    """The thresholds of a rule, as `eigenscope.monitor.rules.Limits`."""

    @property
    def warning(self) -> float: ...

    @property
    def critical(self) -> float: ...


@dataclass
class Situation:
    """A training run between two steps: its parts, and what was last measured of it.

    Alone, the model, the optimizer, the loss and a few fixed batches are enough; the monitor fills in the rest.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | None
    loss_fn: LossFunction  # the probe, as in `curvature`
    batches: Any
    batch_weight: BatchWeight | None = None
    reading: CurvatureReading | None = None
    flow: FlowReading | None = None
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)  # "loss", "gradient_norm", "stability_ratio"
    step: int = 0
    scheduler: Any = None  # an LRScheduler, ReduceLROnPlateau, or anything alike
    limits: Mapping[str, Limits] = field(default_factory=dict)  # thresholds of the rules, by name
    replace_optimizer: Callable[[torch.optim.Optimizer], None] | None = None  # told of another optimizer
    closure: bool = False  # the loop calls `optimizer.step(closure)`
    train_mode: bool = False  # measure in training mode
    fresh: bool = False  # the network is known to have learnt nothing

    def probe(self) -> Probe:
        """The probe at the parameters as they stand; `InputError` where it can't be measured."""
        return Probe(self.model, self.loss_fn, self.batches, batch_weight=self.batch_weight, train_mode=self.train_mode)

    @contextmanager
    def hessian(self) -> Iterator[HessianOperator]:
        """The Hessian of the probe's loss; the training run is left as it is to the bit."""
        probe = self.probe()
        with differentiable([probe.parameters.device]):
            operator = HessianOperator(probe)
            try:
                yield operator
            finally:
                operator.close()

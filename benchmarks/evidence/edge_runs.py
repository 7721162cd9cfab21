"""Runs of a given compute in one of four ways: plain, clipped, warmed up, or with `ControlStep`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import eigenscope as es
from evidence.bill import Bill
from evidence.tasks import Batch, Task

WAYS = ("plain", "clipping", "warm-up", "control")
OPTIMIZERS: dict[str, Callable[[Any, float], torch.optim.Optimizer]] = {
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr),
    "heavy_ball": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr),
}
LEAST, TARGET = 200, 1.4  # steps between measurements, reached by fours; a little past the edge, as for minibatches
TOLERANCE = 0.1  # of λmax: nearly half as many products as for a hundredth
WARM_UP = 0.1  # of the steps
TAIL = (0.90, 0.92, 0.94, 0.96, 0.98, 1.0)  # of the compute: where the loss at the end is read, and the median taken


@dataclass(frozen=True)
class Workload:
    """A task with as many steps as the plain run takes; the control measures on half a batch."""

    task: Task
    steps: int
    smoothing: float = 0.0  # of the labels
    decay: bool = False  # of the step size, along a cosine to 0 at the end of the compute

    @property
    def probe(self) -> int:
        """Samples that the control measures on."""
        return self.task.batch_size // 2

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy, of smoothed labels where that is said."""
        return F.cross_entropy(model(batch[0]).flatten(0, -2), batch[1].flatten(), label_smoothing=self.smoothing)

    def left(self, share: float) -> float:
        """Of the step size, after that share of the compute."""
        return 0.5 + 0.5 * math.cos(math.pi * min(share, 1.0)) if self.decay else 1.0

    @torch.no_grad()
    def loss_at(self, model: nn.Module) -> float:
        """On 256 training samples; infinite where it is no number."""
        value = float(self.loss(model, self.task.probe()))
        return value if math.isfinite(value) else math.inf


@dataclass
class Controlled:
    """A control and what it has cost."""

    control: es.actions.ControlStep
    bill: Bill
    samples: int
    products: int = 0
    measurements: int = 0

    def book(self) -> None:
        """Put what was measured since the last call on the bill; each measurement begins with a gradient."""
        products, measurements = self.control.num_matvecs, self.control.num_measurements
        self.bill.products(products - self.products, self.samples)
        self.bill.passes(measurements - self.measurements, self.samples)
        self.products, self.measurements = products, measurements


def train(work: Workload, seed: int, optimizer: str, rate: float, way: str) -> dict[str, float]:
    """The loss before and at the end of the compute, the share of measuring, and the steps that were left for training.

    A run whose batch loss or measurement is not finite any more ends there, with an infinite loss.
    """
    model, bill = work.task.model(seed), Bill()
    stepper = OPTIMIZERS[optimizer](model.parameters(), rate)
    budget, begun, tail = work.steps * work.task.batch_size, work.loss_at(model), []
    rise = WARM_UP * work.steps if way == "warm-up" else 1
    schedule = torch.optim.lr_scheduler.LambdaLR(
        stepper, lambda done: min(1.0, (done + 1) / rise) * work.left(bill.total / budget)
    )
    held = _controlled(work, model, stepper, bill) if way == "control" else None
    try:
        for batch in work.task.batches(work.steps, seed):
            loss = work.loss(model, batch)
            if bill.total >= budget or not math.isfinite(loss.item()):
                break
            stepper.zero_grad()
            loss.backward()
            if way == "clipping":
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            stepper.step()
            schedule.step()
            bill.gradient(work.task.batch_size)
            if held:
                held.control.step()
                held.book()
            while len(tail) < len(TAIL) and bill.total >= TAIL[len(tail)] * budget:
                tail.append(work.loss_at(model))
    except es.EigenscopeError:  # the probe's loss is not finite
        tail = []
    loss_end = median(tail) if len(tail) == len(TAIL) else math.inf
    return {"begun": begun, "loss": loss_end, "share": bill.share, "steps": bill.training / work.task.batch_size}


def _controlled(work: Workload, model: nn.Module, optimizer: torch.optim.Optimizer, bill: Bill) -> Controlled:
    control = es.actions.ControlStep(TARGET, least=LEAST, every=LEAST, tolerance=TOLERANCE)
    held = Controlled(control.bind(model, work.loss, [work.task.probe(work.probe)], optimizer), bill, work.probe)
    held.book()
    return held


def edge(work: Workload, seed: int, optimizer: str) -> float:
    """The step size at which the stability ratio of the start is 1, on 256 training samples.

    Adam's of the start says nothing: its v is not known, and the tuned step is past it. So it is that after 100 steps
    at 0.001.
    """
    model = work.task.model(seed)
    stepper = OPTIMIZERS[optimizer](model.parameters(), rate := 1e-3)
    for batch in work.task.batches(100 if optimizer == "adam" else 0, seed):
        stepper.zero_grad()
        work.loss(model, batch).backward()
        stepper.step()
    control = es.actions.ControlStep(noisy=False).bind(model, work.loss, [work.task.probe()], stepper)
    ratio, factor = control.ratio, control.factor
    control.release()
    return rate * factor / max(ratio or 0.0, 1e-12)

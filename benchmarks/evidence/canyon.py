"""How soon does training on badly scaled inputs reach a target: as it was, after a switch, with a step by direction?

The target is the loss that plain descent, at its best constant step, ends at. Compute includes the measuring. A switch
is made in mid-run from plain descent at that same step, after one measurement of the curvature.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import torch

import eigenscope as es
from eigenscope.actions import CurvatureScaledStep, SwitchOptimizer
from eigenscope.monitor.judgements import RULES
from eigenscope.monitor.rules import DEFAULTS
from evidence.bill import Bill
from evidence.canyons import Problem, halvings, problems
from evidence.intervals import median, text
from evidence.tasks import Batch

STEPS, CHECK = 1000, 100  # of plain descent; the step of the measurement that a switch follows
EVERY = 20  # steps between two evaluations
LONGER = 1.5  # a run ends at so many times the compute of plain descent
TUNING = 100  # the seed that everything is chosen by
PROBE = 128
RATES = tuple(4.0**k for k in range(-5, 1))  # and the neighbours of the best by a factor of 2
ADAPTIVE = tuple(1e-3 * 3.0**k for k in range(-1, 5))
SCALED = tuple(product((0.3, 1.0), (0.25, 0.5), (200,), (10, 40)))  # rate, lift, every, top


@dataclass(frozen=True)
class Method:
    """`rate` is the optimizer's, after a switch that of the new one (0: its own); `before` is plain descent's."""

    name: str
    rate: float
    before: float = 0.0
    options: tuple[tuple[str, Any], ...] = ()


@dataclass
class Run:
    """The loss against compute, in steps' worth of gradients."""

    compute: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    measuring: float = 0.0  # share of all
    reading: dict[str, Any] | None = None  # what was measured before the switch

    def reached(self, target: float, by: str) -> float:
        """Compute or steps until the loss is at the target; infinite where it never is."""
        return next((at for at, loss in zip(getattr(self, by), self.loss, strict=True) if loss <= target), math.inf)

    def lowest(self, compute: float) -> float:
        """The lowest loss within that compute."""
        return min((loss for at, loss in zip(self.compute, self.loss, strict=True) if at <= compute), default=math.inf)


class Training:
    """One run of one method."""

    def __init__(self, problem: Problem, method: Method, seed: int) -> None:
        self.problem, self.method, self.bill, self.seed = problem, method, Bill(), seed
        self.model = problem.model(seed)
        self.probe: list[Batch] = [tuple(part[:PROBE] for part in problem.task.train)]
        self.optimizer, self.schedule = self._made()
        self.scaled: CurvatureScaledStep | None = None
        if method.name == "curvature scaled":
            self.scaled = CurvatureScaledStep(**dict(method.options))
            self.scaled.bind(self.model, problem.loss, self.probe, self.optimizer)

    def all(self) -> Run:
        """Until its compute is spent, or the loss no number."""
        run, size = Run(), self.problem.task.batch_size
        for step, batch in enumerate(self.problem.task.batches(int(LONGER * STEPS), self.seed)):
            if step == CHECK and self.method.name.startswith("switch"):
                run.reading = self._switch()
            self._step(batch)
            if step % EVERY == EVERY - 1:
                run.compute.append(self._spent() / size)
                run.steps.append(step + 1)
                run.loss.append(self.problem.judged(self.model))
                if not math.isfinite(run.loss[-1]) or run.compute[-1] >= LONGER * STEPS:
                    break
        run.measuring = self.bill.share
        return run

    def _made(self) -> tuple[torch.optim.Optimizer, Any]:
        parameters, method = self.model.parameters(), self.method
        if method.name == "AdamW":
            return torch.optim.AdamW(parameters, lr=method.rate, weight_decay=0.0), None
        momentum = 0.9 if method.name == "heavy ball" else 0.0
        optimizer = torch.optim.SGD(parameters, lr=method.before or method.rate, momentum=momentum)
        if method.name != "warm-up, cosine":
            return optimizer, None
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_up_and_cosine)

    def _step(self, batch: Batch) -> None:
        self.optimizer.zero_grad()
        self.problem.loss(self.model, batch).backward()
        if self.method.name == "clipping":
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        self.bill.gradient(len(batch[1]))

    def _switch(self) -> dict[str, Any]:
        """Measure as the monitor does, note which of its rules would have asked for it, and switch."""
        reading = es.curvature(self.model, self.problem.loss, self.probe, optimizer=self.optimizer)
        self.bill.products(reading.num_matvecs, PROBE)
        self.bill.passes(1, PROBE)
        to = self.method.name.split()[-1].lower()
        self.optimizer = SwitchOptimizer(to, lr=self.method.rate or None).switch(self.optimizer, model=self.model)
        rate = self.optimizer.param_groups[0]["lr"]
        return {**asked(reading), "condition_mean": reading.condition_mean.value, "rate": rate}

    def _spent(self) -> float:
        """The bill so far, with what the scaled step has measured by itself."""
        if self.scaled is not None:
            self.bill.measuring = 0.0
            self.bill.products(self.scaled.num_matvecs, PROBE)
            self.bill.passes(self.scaled.num_measurements, PROBE)
        return self.bill.total


def _warm_up_and_cosine(step: int) -> float:
    return min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * min(step / STEPS, 1.0)))


def asked(reading: es.CurvatureReading) -> dict[str, Any]:
    """κ, and the rules that would have recommended to precondition, at their default thresholds."""
    rules = [name for name in ("ill_conditioned", "stretched") if _over(name, RULES[name].read(reading))]
    return {"kappa": reading.condition_number.value, "rules": rules}


def _over(name: str, value: float | None) -> bool:
    return value is not None and value >= DEFAULTS[name].warning


def families(before: float) -> dict[str, list[Method]]:
    """What is tuned on its own, over at most eight members; `before` is the best rate of plain descent."""
    found = {name: [Method(name, rate) for rate in RATES] for name in ("heavy ball", "clipping", "warm-up, cosine")}
    found["AdamW"] = [Method("AdamW", rate) for rate in ADAPTIVE]
    for to in ("AdamW", "Muon"):
        found[f"switch to {to}"] = [Method(f"switch to {to}", rate, before) for rate in ADAPTIVE]
        found[f"switch to {to}, as it comes"] = [Method(f"switch to {to}", 0.0, before)]
    options = [tuple(zip(("rate", "lift", "every", "top"), chosen, strict=True)) for chosen in SCALED]
    found["curvature scaled"] = [Method("curvature scaled", before, 0.0, chosen) for chosen in options]
    found["curvature scaled, as it comes"] = [Method("curvature scaled", before)]
    return found


def constant_step(problem: Problem) -> tuple[Method, float]:
    """Plain descent at its best constant step, to a factor of 2, and the loss that it ends at."""
    ends: dict[Method, float] = {}
    for rates in (RATES, (0.5, 2.0)):
        middle = min(ends, key=ends.__getitem__).rate if ends else 1.0
        for rate in rates:
            method = Method("plain", rate * middle)
            ends[method] = Training(problem, method, TUNING).all().lowest(STEPS)
    best = min(ends, key=ends.__getitem__)
    return best, ends[best]


def quickest(problem: Problem, members: list[Method], target: float) -> Method:
    """The one that is at the target with the least compute, or else gets lowest."""

    def cost(method: Method) -> tuple[float, float]:
        run = Training(problem, method, TUNING).all()
        return run.reached(target, "compute"), run.lowest(LONGER * STEPS)

    return min(members, key=cost)


def measured(problem: Problem, seeds: int) -> dict[str, Any]:
    """All methods on one problem."""
    best, target = constant_step(problem)
    found: dict[str, Any] = {}
    for name, members in {"plain": [best], **families(best.rate)}.items():
        chosen = members[0] if len(members) == 1 else quickest(problem, members, target)
        runs = [Training(problem, chosen, seed).all() for seed in range(seeds)]
        found[name] = {
            "method": asdict(chosen),
            "compute": median([run.reached(target, "compute") for run in runs]),
            "steps": median([run.reached(target, "steps") for run in runs]),
            "loss": median([run.lowest(STEPS) for run in runs]),
            "measuring": median([run.measuring for run in runs]),
            "readings": [run.reading for run in runs if run.reading],
            "curve": {"compute": runs[0].compute, "loss": runs[0].loss},  # of the first seed
        }
    return {"target": target, "methods": found}


def run(seeds: int) -> dict[str, Any]:
    """All problems, and what κ predicts on the convex one."""
    found = {problem.name: measured(problem, seeds) for problem in problems()}
    return {"steps": STEPS, "probe": PROBE, "problems": found, "kappa": halvings()}


def tell(result: dict[str, Any]) -> list[str]:
    """Steps and compute to the target, and the loss at equal compute."""
    lines = []
    for name, found in result["problems"].items():
        lines.append(f"{name}: to a loss of {found['target']:.3f}; the loss at the compute of {result['steps']} steps")
        for method, row in found["methods"].items():
            lines.append(
                f"  {method:30} steps {text(row['steps']):18} compute {text(row['compute']):18}"
                f" loss {text(row['loss'], '.3f'):22} measuring {row['measuring']['value']:.0%}"
            )
    for name, found in result["kappa"].items():
        lines.append(
            f"κ, inputs {name}: {found['kappa']['minimum']:.0f} at the minimum; a halving takes "
            f"{found['halving_predicted']['minimum']:.0f} steps by it, measured {found['halvings_measured']}"
        )
    return lines

"""Does a network of 50 layers that explodes or vanishes learn, as it is and after each remedy; was the first one best?

Held-out accuracy after `STEPS` steps of heavy ball, at a rate from a grid that is chosen by training accuracy for each
cell. A network that signal flow was measured on takes fewer steps by what that cost. A cell counts as trainable from
half of what a network of two hidden layers gets over chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

import eigenscope as es
from eigenscope.actions import Action, ClipGradients, Reinitialize, Rescale, Situation, SpectralNormalize
from evidence.bill import PRODUCT
from evidence.depths import Case, cases
from evidence.intervals import median, share, text
from evidence.tasks import Task, accuracy, loss_fn

STEPS, PROBE, TUNING, CHANCE = 200, 64, 100, 0.1
RATES = (0.001, 0.008, 0.064)
ACTIONS: dict[str, Callable[[], Action]] = {
    "reinitialize": Reinitialize,
    "rescale": Rescale,
    "spectral_normalize": SpectralNormalize,
    "clip_gradients": ClipGradients,
}
BUILT: dict[str, dict[str, bool]] = {"residual": {"shortcut": True}, "normalization": {"normalized": True}}
HEURISTICS = ("none", "warm-up", "clipping at 1")
OURS = {"orthogonal_init": "reinitialize", "spectral_norm": "spectral_normalize"}  # a remedy's name → the action's


@dataclass
class Run:
    """One trained network; `refused` where the action does not apply."""

    accuracy: float
    training: float  # accuracy on the training set
    depth_factor: float | None = None  # after the remedy, before the first step
    refused: str | None = None


def train(case: Case, remedy: str, rate: float, seed: int) -> Run:
    """One network from its start."""
    model = case.model(seed, **BUILT.get(remedy, {}))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    steps, after = STEPS, None
    if remedy in ACTIONS:
        reading = flow(model, case.task)
        now = Situation(model, optimizer, loss_fn, [case.task.probe(PROBE)], flow=reading)
        action = ACTIONS[remedy]()
        if why := action.can_apply(now):
            return Run(math.nan, math.nan, refused=why)
        action.apply(now)
        steps -= round(cost(reading) / case.task.batch_size)
    if remedy not in HEURISTICS and seed == TUNING and rate == RATES[0]:
        after = flow(model, case.task).depth_factor  # for the record: not billed
    descend(model, optimizer, case.task, remedy, steps, seed)
    return Run(accuracy(model, case.task.test), accuracy(model, case.task.train), after)


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, task: Task, remedy: str, steps: int, seed: int) -> None:
    """Train; ends early where the loss is no number any more."""
    rate = optimizer.param_groups[0]["lr"]
    for step, batch in enumerate(task.batches(steps, seed)):
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        if not math.isfinite(float(loss.detach())):
            return
        loss.backward()
        if remedy == "clipping at 1":
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if remedy == "warm-up":
            optimizer.param_groups[0]["lr"] = rate * min((step + 1) / 50, 1.0)
        optimizer.step()


def flow(model: nn.Module, task: Task, **settings: Any) -> es.FlowReading:
    """Signal flow on the probe."""
    return es.signal_flow(model, loss_fn, [task.probe(PROBE)], branches=False, tolerance=0.1, max_matvecs=8, **settings)


def cost(reading: es.FlowReading) -> float:
    """In gradients of one sample: a product with one block's Jacobian is one block's share of a Hessian product."""
    return PROBE * (1 + PRODUCT * reading.num_matvecs / max(len(reading.blocks), 1))


def cell(case: Case, remedy: str, seeds: int, enough: float) -> dict[str, Any]:
    """A network and a remedy, at the best of the rates."""
    trials = {rate: train(case, remedy, rate, TUNING) for rate in RATES}
    first = trials[RATES[0]]
    if first.refused:
        return {"refused": first.refused}
    rate = max(RATES, key=lambda rate: trials[rate].training)
    runs = [train(case, remedy, rate, seed) for seed in range(seeds)]
    return {
        "rate": rate,
        "accuracy": median([run.accuracy for run in runs]),
        "trainable": share(sum(run.accuracy >= enough for run in runs), seeds),
        "depth_factor": first.depth_factor,
        "runs": [asdict(run) for run in runs],
    }


def shallow(task: Task) -> float:
    """Held-out accuracy of a network of two hidden layers in as many steps."""
    found = []
    for rate in RATES:
        model = task.model(TUNING)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
        descend(model, optimizer, task, "none", STEPS, TUNING)
        found.append((accuracy(model, task.train), accuracy(model, task.test)))
    return max(found)[1]


def measured(case: Case, seeds: int) -> dict[str, Any]:
    """One network with every remedy, and what signal flow said of it."""
    model, reference = case.model(0), shallow(case.task)
    enough = CHANCE + 0.5 * (reference - CHANCE)
    said, tried = flow(model, case.task), flow(model, case.task, try_remedies=True)
    names = (*HEURISTICS, *ACTIONS, *BUILT)
    cells = {name: cell(case, name, seeds, enough) for name in names}
    values = {name: row["accuracy"]["value"] for name, row in cells.items() if "refused" not in row}
    offered = [OURS.get(remedy.name, remedy.name) for remedy in said.remedies]
    by_trial = [OURS.get(remedy.name, remedy.name) for remedy in tried.remedies]
    return {
        "verdict": said.verdict,
        "depth_factor": said.depth_factor,
        "layer_at_fault": said.layer_at_fault,
        "recommended": offered,
        "recommended_after_trying": by_trial,
        "best": max(values, key=values.__getitem__),
        "best_action": max((name for name in ACTIONS if name in values), key=values.__getitem__),
        "shallow": reference,
        "enough": enough,
        "cost_in_steps": cost(said) / case.task.batch_size,
        "cells": cells,
    }


def run(seeds: int) -> dict[str, Any]:
    """All networks."""
    return {"steps": STEPS, "networks": {case.name: measured(case, seeds) for case in cases()}}


def tell(result: dict[str, Any]) -> list[str]:
    """Verdict, recommendation and accuracies by network."""
    lines = []
    for name, found in result["networks"].items():
        lines.append(
            f"{name}: {found['verdict']} (× {found['depth_factor']:.1e}), recommended {found['recommended'][0]}, after "
            f"trying {found['recommended_after_trying'][0]}, best {found['best']} (of the actions "
            f"{found['best_action']}); two hidden layers {found['shallow']:.0%}"
        )
        for remedy, row in found["cells"].items():
            if "refused" in row:
                lines.append(f"  {remedy:20} refused: {row['refused'][:80]}")
                continue
            hits = f"{row['trainable']['hits']} of {row['trainable']['of']}"
            lines.append(f"  {remedy:20} {text(row['accuracy'], '.0%'):16} trainable {hits}  rate {row['rate']:g}")
    return lines

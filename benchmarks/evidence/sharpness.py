"""Does sharpness-aware training generalize better than its base optimizer given twice the steps, and is it flatter?

Per task: SGD with momentum 0.9 and a cosine decay, on all of the compute, against SAM and ASAM on the same number of
gradients, half the steps. Each of the three gets six trials to be tuned with, of two seeds, on a fifth of the training
set that none is trained on in those trials: six learning rates for the base, and for SAM and ASAM three radii at the
base's tuned learning rate and at twice that. What is compared are then runs on the whole training set, judged on the
400 held-out samples that nothing was chosen on.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

import eigenscope as es
from evidence.bill import Bill
from evidence.intervals import median
from evidence.tasks import TASKS, Task, accuracy, loss_fn, loss_on

BUDGET = {"digits": 2000, "cifar": 800, "shakespeare": 800}  # gradients of a batch
RATES = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4)
RADII = {"sam": (0.02, 0.05, 0.2), "asam": (0.2, 0.5, 2.0)}  # around the papers' 0.05 and 0.5
TUNING_SEEDS = (100, 101)  # none of those that are compared
Setting = dict[str, float]


def train(task: Task, seed: int, way: str, setting: Setting, budget: int) -> tuple[nn.Module, Bill]:
    """`budget` gradients of a batch: one a step, or two with SAM and ASAM."""
    model, bill = task.model(seed), Bill()
    optimizer = torch.optim.SGD(model.parameters(), lr=setting["lr"], momentum=0.9)
    aware = way != "base"
    steps = budget // 2 if aware else budget
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    radius = setting.get("rho", 0.05)
    sam = es.actions.SharpnessAware(model, optimizer, rho=radius, adaptive=way == "asam")
    for batch in task.batches(steps, seed):
        if aware:
            sam.step(lambda batch=batch: loss_fn(model, batch))  # type: ignore[misc]
        else:
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
        schedule.step()
        bill.gradient(task.batch_size * (2 if aware else 1))
    return model, bill


def validating(task: Task) -> Task:
    """The last fifth of the training set in place of the held-out samples."""
    inputs, labels = task.train
    cut = 4 * len(labels) // 5
    return replace(task, train=(inputs[:cut], labels[:cut]), test=(inputs[cut:], labels[cut:]))


def tuned(task: Task, way: str, settings: list[Setting], budget: int) -> tuple[Setting, list[dict[str, float]]]:
    """The setting of the lowest validation loss, mean over the tuning seeds, and all that were tried.

    By the error rate first where there is one: that is what is compared.
    """
    trial, tried = validating(task), []
    for setting in settings:
        models = [train(trial, seed, way, setting, budget)[0] for seed in TUNING_SEEDS]
        losses = [loss_on(model, trial.test) for model in models]
        wrong = [1 - accuracy(model, trial.test) for model in models]
        tried.append({**setting, "loss": sum(losses) / len(losses), "error": sum(wrong) / len(wrong)})
    best = min(tried, key=lambda t: (t["loss"] if task.name == "shakespeare" else t["error"], t["loss"]))
    return {key: best[key] for key in settings[0]}, tried


def judged(task: Task, seed: int, way: str, setting: Setting, budget: int) -> dict[str, float]:
    """One run on the whole training set: held-out accuracy and loss, λmax on training samples, gradients."""
    model, bill = train(task, seed, way, setting, budget)
    finite = math.isfinite(loss_on(model, task.probe()))
    sharp = es.sharpness(model.eval(), loss_fn, [task.probe()]).lambda_max.value if finite else None
    return {
        "accuracy": accuracy(model, task.test),
        "loss": loss_on(model, task.test),
        "training_loss": loss_on(model, task.probe()),
        "lambda_max": math.inf if sharp is None else sharp,
        "gradients": bill.total,
    }


def compared(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians over seeds, and of the difference to the base with the same seed (of λmax: the quotient)."""
    found: dict[str, Any] = {}
    for way, each in runs.items():
        found[way] = {key: median([run[key] for run in each]) for key in each[0]}
        if way != "base":
            pairs = list(zip(each, runs["base"], strict=True))
            found[way]["accuracy_gained"] = median([a["accuracy"] - b["accuracy"] for a, b in pairs])
            found[way]["loss_gained"] = median([b["loss"] - a["loss"] for a, b in pairs])
            found[way]["lambda_quotient"] = median([a["lambda_max"] / b["lambda_max"] for a, b in pairs])
    return found


def of_task(name: str, seeds: int, budget: int) -> dict[str, Any]:
    """Tune each, then compare."""
    task = TASKS[name]()
    settings: dict[str, Setting] = {}
    tried: dict[str, Any] = {}
    settings["base"], tried["base"] = tuned(task, "base", [{"lr": rate} for rate in RATES], budget)
    rate = settings["base"]["lr"]
    for way, radii in RADII.items():
        grid = [{"lr": lr, "rho": rho} for lr in (rate, 2 * rate) for rho in radii]
        settings[way], tried[way] = tuned(task, way, grid, budget)
    runs = {way: [judged(task, s, way, settings[way], budget) for s in range(seeds)] for way in settings}
    return {"budget": budget, "settings": settings, "tuning": tried, "runs": runs, "compared": compared(runs)}


def run(seeds: int, budget: dict[str, int] | None = None) -> dict[str, Any]:
    """All tasks."""
    chosen = budget or BUDGET
    return {"tasks": {name: of_task(name, seeds, chosen[name]) for name in chosen}}


def tell(result: dict[str, Any]) -> list[str]:
    """A line a task and way: medians over seeds, in brackets 95 % intervals."""
    lines = [f"{'':12}{'':6}{'lr':>7}{'rho':>6}{'accuracy':>10}{'gained':>23}{'loss':>8}{'λmax':>8}{'quotient':>20}"]
    for name, task in result["tasks"].items():
        for way, found in task["compared"].items():
            setting = task["settings"][way]
            line = f"{name:12}{way:6}{setting['lr']:7.3g}{setting.get('rho', 0):6.2g}{found['accuracy']['value']:10.1%}"
            gain, quotient = found.get("accuracy_gained"), found.get("lambda_quotient")
            line += f"{_span(gain, '+.1%'):>23}{found['loss']['value']:8.3f}{found['lambda_max']['value']:8.3g}"
            lines.append(line + f"{_span(quotient, '.2f'):>20}")
    return lines


def _span(found: dict[str, float] | None, form: str) -> str:
    return f"{found['value']:{form}} [{found['low']:{form}}, {found['high']:{form}}]" if found else ""


def draw(result: dict[str, Any], axes: Any) -> None:
    """Held-out accuracy against λmax, a point a run."""
    marks, colors = dict(zip(TASKS, "os^", strict=True)), {"base": "C7", "sam": "C0", "asam": "C1"}
    for name, task in result["tasks"].items():
        for way, runs in task["runs"].items():
            points = [[r["lambda_max"] for r in runs], [r["accuracy"] for r in runs]]
            axes.scatter(*points, marker=marks[name], color=colors[way], label=f"{name}, {way}")
    axes.set(xscale="log", xlabel="λmax at the end", ylabel="held-out accuracy")
    axes.legend(fontsize="x-small")

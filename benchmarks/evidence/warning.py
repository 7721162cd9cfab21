"""How many steps before a loss spike of Adam does the stability alert come, and how often where nothing happens?

A spike: the batch's loss is for 3 steps in a row over twice the median of the 50 before, a median under a tenth of the
first loss counting as that tenth (as the rule `loss_rise` has it). Runs are driven to it in three ways, after 200 steps
at the tuned step size: it doubles every 50 steps, or every 200, or is 16 times as large at once. Healthy runs go on at
the tuned one, or rise to it, in 50 steps or in a tenth of all, times a cosine to 0; those that spike all the same count
as spikes. The tuned one is the best of a grid by factors of 3, of two seeds, by the training loss at
the end. Three tasks in minibatches, and digits in full batches, where Adam trains at the edge by itself (Cohen et al.
2022).

The alert is that of the monitor: rule `adaptive_edge`, `Monitor(every=20)` on 64 samples, foreseen between two
checks from the learning rate; what a check finds has to be found by the next one too. A spike was warned of if the
alert stood before its first step, by a milder count ("lately") if at some time in the 100 steps before; the lead, by
the strict count, is from the step that raised it. A false alarm is an alert raised in a healthy run, or in the healthy
200 steps. From the same readings the rule is judged with a single check, at other thresholds, without foresight
("level"), and with thresholds that are multiples of the median of the run's own readings so far.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch

import eigenscope as es
from eigenscope.monitor.rules import DEFAULTS
from evidence.alarms import DRIVES, RULE, SCHEDULES, Course, agrees, curve, scored
from evidence.bill import Bill
from evidence.tasks import TASKS, Task, loss_fn, loss_on

EVERY, PROBE, MOST = 20, 64, 1200  # steps between checks, samples of the probe, steps of a driven run
_TOLD = {0.3, 0.5, 0.75, 1.0, 4.0}  # thresholds that have their number in the picture: all would lie on one another
RATES = (1e-3, 3e-3, 1e-2, 3e-2)


def spiked(losses: Sequence[float]) -> bool:
    """Whether the last three losses are the beginning of a spike."""
    if not math.isfinite(losses[-1]):
        return True
    if len(losses) < 53:
        return False
    usual = max(median(losses[-53:-3]), 0.1 * losses[0])
    return min(losses[-3:]) > 2 * usual


def follow(task: Task, seed: int, rate: float, drive: str | None, steps: int) -> Course:
    """Train with the monitor looking on, until the spike or for so many steps."""
    model, bill, losses = task.model(seed), Bill(), []
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    course = Course(task.name, drive, planned=steps)
    with es.Monitor(
        model, loss_fn, [task.probe(PROBE)], optimizer=optimizer, every=EVERY, flow=False, lipschitz=False
    ) as monitor:
        for step, batch in enumerate(task.batches(steps, seed)):
            optimizer.param_groups[0]["lr"] = rate * course.rate(step)
            loss = loss_fn(model, batch)
            losses.append(loss.item())
            if spiked(losses):
                course.spike = step - 2
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bill.gradient(len(batch[1]))
            reading = monitor.step(losses[-1])
            if reading is not None and reading.stability_ratio.value is not None:
                course.readings.append((step, reading.stability_ratio.value))
                bill.products(reading.num_matvecs, PROBE)
                bill.passes(1, PROBE)
        told = ["ok", *(alert.level for alert in monitor.history if alert.rule == RULE)]
        steps = [alert.step - 1 for alert in monitor.history if alert.rule == RULE]
    course.alerts = [step for step, before in zip(steps, told, strict=False) if before == "ok"]
    course.steps, course.share = step + 1, bill.share
    return course


# -- the runs ---------------------------------------------------------------------------------------------------------


def workloads(shrink: int = 1) -> dict[str, tuple[Task, int]]:
    """By name: the task and the steps of a healthy run."""
    digits = TASKS["digits"]()
    found = {
        "digits": (digits, 5000),
        "cifar": (replace(TASKS["cifar"](), batch_size=32), 800),
        "shakespeare": (replace(TASKS["shakespeare"](), batch_size=16), 800),
        "digits, full batch": (FullBatch(digits), 1000),
    }
    return {name: (replace(task, name=name), steps // shrink) for name, (task, steps) in found.items()}


class FullBatch(Task):
    """A task whose every step sees the whole training set."""

    def __init__(self, task: Task | None = None, **fields: Any) -> None:
        super().__init__(**(fields or {name: getattr(task, name) for name in Task.__dataclass_fields__}))

    def batches(self, steps: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return (self.train for _ in range(steps))


def tuned(task: Task, steps: int) -> float:
    """The step size of the lowest training loss at the end, mean over two seeds that are not those of the runs."""

    def end(rate: float, seed: int) -> float:
        model = task.model(seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        for batch in task.batches(steps, seed):
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
        return loss_on(model, task.probe())

    return min(RATES, key=lambda rate: end(rate, 100) + end(rate, 101))


def run(seeds: int, shrink: int = 1, only: tuple[str, ...] | None = None) -> dict[str, Any]:
    """All workloads; `shrink` divides the steps of healthy runs, for a test."""
    logging.getLogger("eigenscope").setLevel(logging.ERROR)  # hundreds of alerts are what is counted here
    courses: list[Course] = []
    rates = {}
    for name, (task, steps) in workloads(shrink).items():
        if only is not None and name not in only:
            continue
        rates[name] = tuned(task, min(steps, 1000))
        for seed in range(seeds):
            courses += [follow(task, seed, rates[name], schedule, steps) for schedule in (None, *SCHEDULES)]
            courses += [follow(task, seed, rates[name], drive, MOST // shrink) for drive in DRIVES]
    return judged(courses, rates)


def judged(courses: list[Course], rates: dict[str, float]) -> dict[str, Any]:
    """All tables, from the courses of the runs."""
    default = DEFAULTS[RULE].warning
    noisy = [course for course in courses if "full" not in course.task]
    return {
        "tuned": rates,
        "measuring": median(course.share for course in courses),
        "as_it_is": {name: scored([c for c in courses if c.task == name], "foreseen", default) for name in rates},
        "by_drive": {
            drive or "tuned": scored([c for c in noisy if c.drive == drive], "foreseen", default)
            for drive in (*DRIVES, None, *SCHEDULES)
        },
        "minibatches": curve(noisy),
        "full_batches": curve([course for course in courses if course not in noisy]),
        "healthy_ratio": {name: _spread([c for c in courses if c.task == name]) for name in rates},
        "agrees_with_monitor": all(agrees(course, default) for course in courses),
        "courses": [{**vars(course), "readings": [[s, round(r, 4)] for s, r in course.readings]} for course in courses],
    }


def _spread(courses: Sequence[Course]) -> dict[str, float]:
    """Of the healthy readings, and of the last reading before a spike."""
    healthy = sorted(r for c in courses for s, r in c.readings if s < c.healthy)
    before = [[r for s, r in c.readings if s < c.spike][-1] for c in courses if c.spike and c.readings]
    spread = {"median": median(healthy), "largest": healthy[-1]} if healthy else {}
    return {**spread, "before_a_spike": median(before) if before else math.nan}


def tell(result: dict[str, Any]) -> list[str]:
    """The rule as it is, and both curves."""
    lines = [f"the rule as it is; measuring took {result['measuring']:.0%} of the compute"]
    lines += [f"  {name:28}{_line(found)}" for name, found in {**result["as_it_is"], **result["by_drive"]}.items()]
    for name, spread in result["healthy_ratio"].items():
        told = ", ".join(f"{key.replace('_', ' ')} {value:.2g}" for key, value in spread.items())
        lines.append(f"  ratio of healthy steps, {name}: {told}")
    for regime in ("minibatches", "full_batches"):
        lines.append(f"{regime.replace('_', ' ')}, by threshold")
        for found in result[regime]:
            lines.append(f"  {found['rule']:10}{found['threshold']:<6.3g}× {found['checks']}  {_line(found)}")
    return lines


def _line(found: dict[str, Any]) -> str:
    warned, lately, lead, false = (found[key] for key in ("warned", "warned_lately", "lead", "false_alarms"))
    told = "no spike"
    if warned:
        span = f"[{warned['low']:.0%}, {warned['high']:.0%}]"
        told = f"warned {warned['hits']:>2}/{warned['of']} {span}, lately {lately['hits']:>2}"
    ahead = f", lead {lead['value']:.0f} [{lead['low']:.0f}, {lead['high']:.0f}]" if lead else ""
    return f"{told}{ahead}, false {false['value']:.2g} [{false['low']:.2g}, {false['high']:.2g}] per 10,000"


def draw(result: dict[str, Any], axes: Any) -> None:
    """Spikes warned of against false alarms, a line a rule, in minibatches."""
    asked = DEFAULTS[RULE].checks
    for rule in ("level", "foreseen", "multiple"):
        points = [one for one in result["minibatches"] if (one["rule"], one["checks"]) == (rule, asked)]
        points = [one for one in points if one["warned"]]
        false = [point["false_alarms"]["value"] for point in points]
        axes.plot(false, [point["warned"]["value"] for point in points], marker=".", label=rule)
        told = [(point, x) for point, x in zip(points, false, strict=True) if point["threshold"] in _TOLD]
        for point, x in told:
            axes.annotate(f"{point['threshold']:g}", (x, point["warned"]["value"]), fontsize="x-small")
    axes.set(xscale="symlog", xlabel="false alarms per 10,000 healthy steps", ylabel="spikes warned of")
    axes.legend(fontsize="small", loc="lower right")

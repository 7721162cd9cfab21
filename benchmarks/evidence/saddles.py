"""How many steps does it take to leave a saddle, and what do they cost: plain descent, noise, EscapeSaddle?

Every method has its learning rate, and noise its size, chosen from a grid by a seed that is not shown. The largest
noise of the grid is as long as the parameters themselves: that is nearly a new start, and so the figures stand for each
size apart.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import eigenscope as es
from eigenscope.actions import EscapeSaddle, Situation
from evidence.bill import Bill
from evidence.intervals import median, text
from evidence.starts import Start, starts
from evidence.tasks import Batch, loss_fn, loss_on

STEPS, STAY, GAIN = 1000, 10, 0.1  # left: for ten steps on end below the saddle by a tenth of what training gains
RATES = (0.1, 0.2, 0.4, 0.8)
RADII = (1e-3, 1e-2, 1e-1, 1.0)  # of a perturbation, in units of 1 + ‖θ‖; 0.01 is the action's own for want of better
NOISES = (1e-2, 1e-1, 1.0)  # of the noise in each gradient
AGAIN = 100  # steps after which a perturbation is repeated
TUNING = (100,)
PROBES, JUDGED = (64, 256), 512  # first samples of the training set to measure on, last ones to judge by
OURS = tuple(f"escape, probe {size}" for size in PROBES)


@dataclass(frozen=True)
class Method:
    """`size` is that of a perturbation in units of 1 + ‖θ‖, of the noise in a gradient, or of the probe."""

    name: str
    rate: float
    size: float = 0.0


@dataclass
class Run:
    """One run from a saddle; infinite where it was not left in `STEPS` steps."""

    steps: float = math.inf
    compute: float = math.inf  # in steps' worth of gradients, measuring included
    measuring: float = 0.0  # of it
    action: dict[str, Any] | None = None


def leave(start: Start, model: nn.Module, method: Method, goal: float, seed: int) -> Run:
    """Train from the saddle until the loss has stayed under `goal`."""
    task, bill, run, below = start.task, Bill(), Run(), 0
    judged = tuple(part[-JUDGED:] for part in task.train)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=method.rate)
    batches = task.batches(STEPS + STAY, seed)
    for step in range(STEPS + STAY):
        if method.name == "escape" and step == 0:
            run.action = escape(start, model, bill, int(method.size), seed)
            bill.training += task.batch_size  # counts as a step
        else:
            if method.name == "perturbation" and step % AGAIN == 0:
                add_noise(model, method.size * (1 + norm(model)), generator)
            descend(model, optimizer, next(batches), method, generator)
            bill.gradient(task.batch_size)
        below = below + 1 if loss_on(model, judged) < goal else 0
        if below == STAY:
            run.steps = step + 2 - STAY
            run.measuring = bill.measuring / task.batch_size
            run.compute = run.steps + run.measuring
            break
    return run


def escape(start: Start, model: nn.Module, bill: Bill, probe: int, seed: int) -> dict[str, Any]:
    """The action, with the products and evaluations that it took."""
    calls = 0

    def counted(model: nn.Module, batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        return loss_fn(model, batch)

    changed = EscapeSaddle(seed=seed).apply(Situation(model, None, counted, [start.task.probe(probe)]))
    bill.products(int(changed["products"]), probe)
    bill.passes(calls, probe)  # each evaluation of the line search billed as a whole gradient
    return {name: changed[name] for name in ("direction", "directions", "step", "products")}


def descend(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, method: Method, generator: torch.Generator
) -> None:
    optimizer.zero_grad()
    loss_fn(model, batch).backward()
    if method.name == "gradient noise":
        count = sum(p.numel() for p in model.parameters())
        for p in model.parameters():
            p.grad.add_(torch.randn(p.shape, generator=generator), alpha=method.size / count**0.5)
    optimizer.step()


@torch.no_grad()
def add_noise(model: nn.Module, length: float, generator: torch.Generator) -> None:
    """A random step of that length."""
    noise = [torch.randn(p.shape, generator=generator) for p in model.parameters()]
    size = math.sqrt(sum(float(part.square().sum()) for part in noise))
    for p, part in zip(model.parameters(), noise, strict=True):
        p.add_(part, alpha=length / size)


def norm(model: nn.Module) -> float:
    return math.sqrt(sum(float(p.detach().square().sum()) for p in model.parameters()))


def families() -> Iterator[tuple[str, list[Method]]]:
    """What is tuned on its own: a family is shown by its best member."""
    yield "plain", [Method("plain", rate) for rate in RATES]
    for size in RADII:
        yield f"perturbation {size:g}", [Method("perturbation", rate, size) for rate in RATES]
    yield "gradient noise", [Method("gradient noise", *chosen) for chosen in product(RATES, NOISES)]
    for size in PROBES:
        yield f"escape, probe {size}", [Method("escape", rate, size) for rate in RATES]


def tuned(members: list[Method], start: Start, saddles: dict[int, nn.Module], goals: dict[int, float]) -> Method:
    """The member with the fewest steps over the seeds for tuning."""

    def steps(method: Method) -> float:
        return sum(leave(start, copy.deepcopy(saddles[seed]), method, goals[seed], seed).steps for seed in TUNING)

    return min(members, key=steps)


def trained(start: Start) -> float:
    """The loss that ordinary training of the same network reaches in as many steps, at the best rate."""
    judged, best = tuple(part[-JUDGED:] for part in start.task.train), math.inf
    for rate in RATES:
        torch.manual_seed(TUNING[0])
        model = start.network()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        for batch in start.task.batches(STEPS, TUNING[0]):
            descend(model, optimizer, batch, Method("plain", rate), torch.Generator())
        best = min(best, loss_on(model, judged))
    return best


def measured(start: Start, seeds: int) -> dict[str, Any]:
    """One saddle, every family."""
    saddles = {seed: start.saddle(seed) for seed in (*TUNING, *range(seeds))}
    judged = tuple(part[-JUDGED:] for part in start.task.train)
    level, low = {seed: loss_on(model, judged) for seed, model in saddles.items()}, trained(start)
    goals = {seed: loss - GAIN * (loss - low) for seed, loss in level.items()}
    at = es.curvature(saddles[0], loss_fn, [start.task.train])  # of all: a sample of it has a gradient
    found: dict[str, Any] = {}
    for name, members in families():
        method = tuned(members, start, saddles, goals)
        runs = [leave(start, copy.deepcopy(saddles[seed]), method, goals[seed], seed) for seed in range(seeds)]
        found[name] = {
            "rate": method.rate,
            "size": method.size,
            "steps": median([run.steps for run in runs]),
            "compute": median([run.compute for run in runs]),
            "runs": [asdict(run) for run in runs],
        }
    return {
        "verdict": at.verdict,
        "lambda_min": at.lambda_min.value,
        "lambda_max": at.lambda_max.value,
        "gradient_norm": at.gradient_norm,
        "loss": median([level[seed] for seed in range(seeds)]),
        "trained": low,
        "methods": found,
        "fewer": {
            ours: {name: fewer(found[name]["runs"], found[ours]["runs"]) for name in found if name not in OURS}
            for ours in OURS
        },
    }


def fewer(others: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    """How many times as many steps, and how many times as much compute, the other takes, seed by seed."""
    ratios = {}
    for key in ("steps", "compute"):
        pairs = [(other[key], our[key]) for other, our in zip(others, ours, strict=True)]
        ratios[key] = median([np.nan if math.isinf(x) and math.isinf(y) else x / y for x, y in pairs])
    return ratios


def run(seeds: int) -> dict[str, Any]:
    """All saddles; the figure to reach is at least 5 times fewer steps than noise."""
    return {"steps": STEPS, "starts": {start.name: measured(start, seeds) for start in starts()}}


def tell(result: dict[str, Any]) -> list[str]:
    """Steps, and compute in steps' worth, by method; then how many times those of each of ours."""
    lines = [f"times as many steps, compute as: {', '.join(OURS)}"]
    for name, found in result["starts"].items():
        lines.append(f"{name}: {found['verdict']}, λmin {found['lambda_min']:.2g}, λmax {found['lambda_max']:.2g}")
        for method, row in found["methods"].items():
            ratios = [found["fewer"][ours].get(method) for ours in OURS]
            lines.append(
                f"  {method:18} rate {row['rate']:<4g} steps {text(row['steps']):16} compute {text(row['compute']):16}"
                + "".join(f"  × {r['steps']['value']:.1f}, × {r['compute']['value']:.2f}" for r in ratios if r)
            )
    return lines

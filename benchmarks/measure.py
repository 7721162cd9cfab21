"""Run every tool on one workload, several times in turn, and record cost and error."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
import torch
from meter import seconds, summary
from peers import PEERS, Reading, measure_ours, our_product
from targets import shortfall, spectrum_errors
from truth import Truth
from tune import settings
from workloads import Workload

OURS = "eigenscope"
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One whole reading by one tool, and the seconds of its parts (ours has only one part)."""

    reading: Reading
    seconds: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def measure(workload: Workload, truth: Truth, device: str, repeats: int) -> dict[str, Any]:
    """Products, seconds and errors of each tool; the tools take turns, so that drift hits all alike."""
    workload = workload.to(device)
    chosen = settings()[workload.name]
    tools = [OURS, *PEERS]
    runs: dict[str, list[Run]] = {tool: [] for tool in tools}
    for repeat in range(repeats):
        for tool in tools:
            print(f"{workload.name}: {tool}, repeat {repeat + 1} of {repeats}", file=sys.stderr)
            runs[tool].append(_run(tool, workload, chosen.get(tool, {}), 100 + repeat, device))
    gradient = _gradient_seconds(workload, device)
    rows = []
    for tool in tools:
        row = _row(tool, runs[tool], truth, gradient)
        if tool in PEERS:
            row["settings"] = {part: chosen[tool][part] for part in ("spectrum", "trace")}
        row["product_in_gradients"] = _product_seconds(tool, workload, device) / gradient
        rows.append(row)
    return _about(workload, truth) | {
        "gradient_seconds": gradient, "tools": rows, "cheapest_peer_calls": _cheapest_calls(rows)
    }  # fmt: skip


def _run(tool: str, workload: Workload, chosen: dict[str, Any], seed: int, device: str) -> Run:
    if tool == OURS:
        reading, cost = _timed(lambda: measure_ours(workload, seed), device)
        return Run(reading, {"all": cost})
    peer, set_up = _timed(lambda: PEERS[tool](workload), device)
    spectrum, first = _timed(lambda: peer.spectrum(chosen["spectrum"], seed), device)
    trace, second = _timed(lambda: peer.trace(chosen["trace"], seed), device)
    return Run(Reading(spectrum, trace, peer.num_matvecs), {"set_up": set_up, "spectrum": first, "trace": second})


def _timed(task: Callable[[], T], device: str) -> tuple[T, float]:
    answers: list[T] = []
    cost = seconds(lambda: answers.append(task()), device)
    return answers[0], cost


def _row(tool: str, runs: list[Run], truth: Truth, gradient: float) -> dict[str, Any]:
    errors = [spectrum_errors(run.reading.spectrum, truth) for run in runs]
    worst = {key: max(error[key] for error in errors) for key in errors[0]}
    trace_errors = np.array([run.reading.trace / truth.trace - 1 for run in runs])
    cost = summary([run.total for run in runs])
    return {
        "tool": tool,
        "package": PEERS[tool].package if tool in PEERS else f"eigenscope=={version('eigenscope')}",
        "num_matvecs": summary([run.reading.num_matvecs for run in runs]),
        "seconds": cost,
        "seconds_of": {part: summary([run.seconds[part] for run in runs]) for part in runs[0].seconds},
        "cost_in_gradients": cost["median"] / gradient,
        "worst_errors": worst,
        "trace_rms_error": float(np.mean(trace_errors**2) ** 0.5),
        "reached": shortfall(worst) <= 1,
    }


def _cheapest_calls(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The peers' cheapest way to each part, of those that reach the targets, mixed across tools."""
    able = [row for row in rows if row["tool"] in PEERS and row["reached"]]
    if not able:
        return {}
    best = {part: min(able, key=lambda row: _cost(row, part)) for part in ("spectrum", "trace")}
    tools = {part: row["tool"] for part, row in best.items()}
    return tools | {"seconds": sum(_cost(row, part) for part, row in best.items())}


def _cost(row: dict[str, Any], part: str) -> float:
    return float(row["seconds_of"][part]["median"] + row["seconds_of"]["set_up"]["median"])


def _about(workload: Workload, truth: Truth) -> dict[str, Any]:
    return {
        "about": workload.about,
        "num_parameters": workload.num_parameters,
        "loss": workload.loss().item(),
        "probe_samples": len(workload.batch[0]),
        "truth": {
            "method": truth.method,
            "top": truth.top,
            "lambda_min": truth.lambda_min,
            "trace": truth.trace,
            "trace_standard_error": truth.trace_standard_error,
        },
    }


def _gradient_seconds(workload: Workload, device: str) -> float:
    parameters = list(workload.model.parameters())
    return _median(lambda: torch.autograd.grad(workload.loss(), parameters), device)


def _product_seconds(tool: str, workload: Workload, device: str) -> float:
    product = our_product(workload) if tool == OURS else PEERS[tool](workload).product
    rng = np.random.default_rng(0)
    vector = torch.from_numpy(rng.standard_normal(workload.num_parameters, dtype=np.float32)).to(device)
    return _median(lambda: product(vector), device)


def _median(task: Callable[[], object], device: str) -> float:
    """Of at least 9 runs, and of up to 99 where a run is short."""
    task()
    costs: list[float] = []
    while len(costs) < 9 or (len(costs) < 99 and sum(costs) < 0.5):
        costs.append(seconds(task, device))
    return statistics.median(costs)

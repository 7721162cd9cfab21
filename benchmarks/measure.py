"""Run every tool on one workload, several times in turn, and record cost and error."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import eigenscope as es
import numpy as np
import torch
from meter import seconds, summary
from peers import PEERS, Peer, Reading, measure_ours
from targets import reached, spectrum_errors
from truth import Truth
from tune import settings
from workloads import Workload

Tool = Callable[[Workload, int], Reading]


def measure(workload: Workload, truth: Truth, device: str, repeats: int) -> dict[str, Any]:
    """Products, seconds and errors of each tool; the tools take turns, so that drift hits all alike."""
    workload = workload.to(device)
    tools = _tools(workload.name)
    runs: dict[str, list[tuple[float, Reading]]] = {name: [] for name in tools}
    for repeat in range(repeats):
        for name, tool in tools.items():
            print(f"{workload.name}: {name}, repeat {repeat + 1} of {repeats}", file=sys.stderr)
            runs[name].append(_timed(tool, workload, 100 + repeat, device))
    gradient = _gradient_seconds(workload, device)
    rows = [_row(name, runs[name], workload, truth, gradient) for name in tools]
    for row in rows:
        if row["tool"] in PEERS:
            row["product_in_gradients"] = _product_seconds(PEERS[row["tool"]], workload, device) / gradient
    return {
        "about": workload.about,
        "num_parameters": workload.num_parameters,
        "loss": workload.loss().item(),
        "probe_samples": len(workload.batch[0]),
        "gradient_seconds": gradient,
        "truth": {
            "method": truth.method,
            "top": truth.top,
            "lambda_min": truth.lambda_min,
            "trace": truth.trace,
            "trace_standard_error": truth.trace_standard_error,
        },
        "tools": rows,
    }


def _tools(workload: str) -> dict[str, Tool]:
    tools: dict[str, Tool] = {"eigenscope": measure_ours} if hasattr(es, "curvature") else {}
    chosen = settings()[workload]
    for name, peer in PEERS.items():
        tools[name] = lambda w, seed, peer=peer, found=chosen[name]: peer(w).reading(found, seed)  # type: ignore[misc]
    return tools


def _timed(tool: Tool, workload: Workload, seed: int, device: str) -> tuple[float, Reading]:
    readings: list[Reading] = []
    cost = seconds(lambda: readings.append(tool(workload, seed)), device)
    return cost, readings[0]


def _row(
    name: str, runs: list[tuple[float, Reading]], workload: Workload, truth: Truth, gradient: float
) -> dict[str, Any]:
    errors = [spectrum_errors(reading.spectrum, truth) for _, reading in runs]
    worst = {key: max(error[key] for error in errors) for key in errors[0]}
    cost = summary([cost for cost, _ in runs])
    chosen = settings()[workload.name].get(name, {})
    return {
        "tool": name,
        "package": PEERS[name].package if name in PEERS else f"eigenscope=={version('eigenscope')}",
        "settings": {part: chosen[part] for part in ("spectrum", "trace") if part in chosen},
        "num_matvecs": summary([reading.num_matvecs for _, reading in runs]),
        "seconds": cost,
        "cost_in_gradients": cost["median"] / gradient,
        "worst_errors": worst,
        "trace_rms_error": float(np.mean([(reading.trace / truth.trace - 1) ** 2 for _, reading in runs]) ** 0.5),
        "reached": reached(worst),
    }


def _gradient_seconds(workload: Workload, device: str) -> float:
    parameters = list(workload.model.parameters())
    return _median(lambda: torch.autograd.grad(workload.loss(), parameters), device)


def _product_seconds(peer: type[Peer], workload: Workload, device: str) -> float:
    tool = peer(workload)
    rng = np.random.default_rng(0)
    vector = torch.from_numpy(rng.standard_normal(workload.num_parameters, dtype=np.float32)).to(device)
    return _median(lambda: tool.product(vector), device)


def _median(task: Callable[[], object], device: str, *, times: int = 9) -> float:
    task()
    return statistics.median(seconds(task, device) for _ in range(times))

"""Find each peer's cheapest settings that reach the targets, so that the comparison is at its best.

The extremes and the density are tried on the tool itself, five seeds each. The trace estimators are
judged by their root mean square error, on a product that all tools share: it does not depend on whose
product it is, and the error of a single run says nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curvlinops import xtrace
from hessian_eigenthings import LambdaOperator, trace
from meter import seconds
from peers import PEERS, Peer, Settings
from targets import TARGETS, shortfall, spectrum_errors
from torch import Tensor
from truth import Truth
from workloads import Workload

STORE = Path(__file__).with_name("settings.json")
SEEDS = (0, 1, 2, 3, 4)
PATIENCE = 8  # tries without getting nearer, after which a family is given up
TRIES = 12  # seeds that the root mean square error of xtrace is taken over


def settings() -> dict[str, Any]:
    """What was found: workload → tool → its settings, and everything that was tried."""
    found: dict[str, Any] = json.loads(STORE.read_text()) if STORE.exists() else {}
    return found


def tune(workload: Workload, truth: Truth) -> None:
    """Try every family of settings of every peer on this workload and store the cheapest."""
    errors = _trace_errors(workload, truth)
    counts: dict[str, int] = {}
    for name, peer in PEERS.items():
        families = [_climb(peer, family, workload, truth) for family in peer.spectrum_families]
        tried = [attempt for attempts in families for attempt in attempts]
        traces = [_trace(peer, family, workload, errors, counts) for family in peer.trace_families]
        found = {
            "spectrum": _cheapest(tried)["settings"],
            "trace": _cheapest(traces)["settings"],
            "tried": {"spectrum": tried, "trace": traces},
        }
        stored = settings()
        stored[workload.name] = stored.get(workload.name, {}) | {name: found}
        STORE.write_text(json.dumps(stored, indent=1) + "\n")


def _climb(peer: type[Peer], family: list[Settings], workload: Workload, truth: Truth) -> list[dict[str, Any]]:
    """Try a family from cheap to dear until the targets are reached, or dearer no longer means better."""
    tried: list[dict[str, Any]] = []
    for choice in family:
        tried.append(_attempt(peer, choice, workload, truth))
        print(f"  {workload.name} {peer.name} {tried[-1]}", flush=True)
        worst = [attempt["shortfall"] for attempt in tried[-PATIENCE:]]
        if tried[-1]["reached"] or (len(worst) == PATIENCE and max(worst) < 1.05 * min(worst)):
            break
    return tried


def _attempt(peer: type[Peer], choice: Settings, workload: Workload, truth: Truth) -> dict[str, Any]:
    errors: dict[str, float] = {}
    costs, counts = [], []
    for seed in SEEDS:
        tool = peer(workload)
        spectra: list[Any] = []
        costs.append(seconds(lambda t=tool, s=seed, out=spectra: out.append(t.spectrum(choice, s))))  # type: ignore[misc]
        counts.append(tool.num_matvecs)
        for name, error in spectrum_errors(spectra[0], truth).items():
            errors[name] = max(error, errors.get(name, 0.0))
        if shortfall(errors) > 1:
            break
    return {
        "settings": choice, "errors": errors, "reached": shortfall(errors) <= 1, "shortfall": shortfall(errors),
        "num_matvecs": float(np.median(counts)), "seconds": float(np.median(costs)),
    }  # fmt: skip


def _trace(
    peer: type[Peer],
    family: list[Settings],
    workload: Workload,
    errors: dict[str, Callable[[int], float]],
    counts: dict[str, int],
) -> dict[str, Any]:
    """The first count of this family whose root mean square error is small enough, by bisection."""
    method = family[0]["method"]
    if method not in counts:
        counts[method] = _first([choice["num_matvecs"] for choice in family], errors[method])
    choice = {"method": method, "num_matvecs": counts[method]}
    cost = seconds(lambda: peer(workload).trace(choice, 0))
    attempt = {"settings": choice, "reached": True, "shortfall": 1.0, "seconds": cost}
    print(f"  {workload.name} {peer.name} {attempt}", flush=True)
    return attempt


def _first(counts: list[int], error: Callable[[int], float]) -> int:
    """The smallest count that is enough: doubling first, for the dear end is rarely needed, then by bisection."""
    high = 1
    while high < len(counts) - 1 and error(counts[high]) > TARGETS["trace"]:
        high = min(2 * high, len(counts) - 1)
    low = high // 2
    while low < high:
        middle = (low + high) // 2
        if error(counts[middle]) <= TARGETS["trace"]:
            high = middle
        else:
            low = middle + 1
    return counts[high]


def _cheapest(tried: list[dict[str, Any]]) -> dict[str, Any]:
    """Of what reaches the targets the fastest; where nothing does, what comes closest."""
    enough = [attempt for attempt in tried if attempt["reached"]]
    if enough:
        return min(enough, key=lambda attempt: attempt["seconds"])
    return min(tried, key=lambda attempt: attempt["shortfall"])


def _trace_errors(workload: Workload, truth: Truth) -> dict[str, Callable[[int], float]]:
    """Relative root mean square error of each estimator as a function of its number of products."""
    shared = _Shared(workload)
    operator = LambdaOperator(shared.__matmul__, shared.shape[0])
    single = trace(operator, num_matvecs=200, method="hutchinson", seed=7).samples.double()

    def hutchplusplus(count: int) -> float:  # unbiased: its standard errors are its errors
        squares = [trace(operator, num_matvecs=count, method="hutch++", seed=s).stderr ** 2 for s in range(4)]
        return float(np.mean(squares) ** 0.5 / abs(truth.trace))

    def xtrace_error(count: int) -> float:
        torch.manual_seed(0)
        found = np.array([float(xtrace(shared, count)) for _ in range(TRIES)])
        return float(np.mean((found / truth.trace - 1) ** 2) ** 0.5)

    return {
        "hutchinson": lambda count: float(single.std() / count**0.5 / abs(truth.trace)),
        "hutch++": hutchplusplus,
        "xtrace": xtrace_error,
    }


class _Shared:
    """The Hessian in fp32 by double backward on a kept graph, times a vector or a block."""

    def __init__(self, workload: Workload) -> None:
        self.parameters = list(workload.model.parameters())
        gradient = torch.autograd.grad(workload.loss(), self.parameters, create_graph=True)
        self.gradient = torch.cat([piece.reshape(-1) for piece in gradient])
        self.shape = (len(self.gradient),) * 2
        self.device, self.dtype = self.gradient.device, self.gradient.dtype

    def __matmul__(self, other: Tensor) -> Tensor:
        if other.dim() == 2:
            return torch.stack([self @ column for column in other.T], 1)
        pulled = torch.autograd.grad(self.gradient, self.parameters, other, retain_graph=True)
        return torch.cat([piece.reshape(-1) for piece in pulled])

"""How many products does a warm check take along a real training run, and how good is it?

    python benchmarks/warm.py [--models mlp,cnn,gpt] [--checks 20] [--every 10] [--products 25] [--json FILE]

Each network of workloads.py is trained on from where it stands, in minibatches and on the whole probe; every few steps
a warm check (so many products at most) and λmax alone are compared with a reference: a cold run to 10⁻⁶, which on the
MLP agrees with the dense Hessian.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from run_file import environment
from workloads import WORKLOADS, Workload, mean_loss

from eigenscope.diagnostics.reading import CurvatureReading
from eigenscope.leading import sharpness
from eigenscope.look import look
from eigenscope.operators import Probe
from eigenscope.settings import Memory, Settings

ERRORS = ("lambda_max", "lambda_min", "top_10", "alone_error")
REFERENCE = Settings(max_matvecs=260, tolerance=1e-6, trace_tolerance=1.0)


def follow(work: Workload, options: argparse.Namespace, rate: float, minibatches: bool) -> list[dict[str, float]]:
    """Train so many steps between two checks, with heavy ball, and compare."""
    settings = Settings(warm_matvecs=options.products)
    rng = torch.Generator().manual_seed(5)
    optimizer = torch.optim.SGD(work.model.parameters(), lr=rate, momentum=0.9)
    memory, alone, rows = Memory(), None, []
    for index in range(options.checks + 1):
        probe = Probe(work.model, mean_loss, [work.batch])
        reading = look(probe, settings, memory, step=index, cold=index == 0)
        alone = sharpness(work.model, mean_loss, [work.batch], start=alone)
        if index > 0:
            truth = look(Probe(work.model, mean_loss, [work.batch]), REFERENCE, Memory())
            rows.append(
                compare(reading, truth)
                | {"alone": alone.num_matvecs, "alone_error": off(alone.lambda_max, truth.lambda_max)}
            )
        for _ in range(options.every):
            optimizer.zero_grad()
            mean_loss(work.model, work.draw(rng) if minibatches else work.batch).backward()
            optimizer.step()
    return rows


def off(estimate, truth) -> float:
    return abs(estimate.value - truth.value) / abs(truth.value)


def compare(reading: CurvatureReading, truth: CurvatureReading) -> dict[str, float]:
    """Relative errors of a reading, and its certified count beside the reference's."""
    top = [off(a, b) for a, b in zip(reading.top_eigenvalues, truth.top_eigenvalues, strict=True)]
    return {
        "products": reading.num_matvecs,
        "lambda_max": off(reading.lambda_max, truth.lambda_max),
        "lambda_min": off(reading.lambda_min, truth.lambda_min),
        "top_10": max(top),
        "certified": reading.negative_count_certified,
        "reference_certified": truth.negative_count_certified,
    }


def tell(name: str, rows: list[dict[str, float]]) -> None:
    """Medians, the worst, and in how many checks each error is within 1 %."""
    for key in rows[0]:
        values = [row[key] for row in rows]
        line = f"{name:16} {key:20} median {np.median(values):<9.3g} 90 % {np.quantile(values, 0.9):<9.3g}"
        held = f", within 1 %: {sum(value <= 0.01 for value in values)} of {len(values)}" if key in ERRORS else ""
        print(f"{line} worst {max(values):.3g}{held}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mlp,cnn,gpt")
    parser.add_argument("--checks", type=int, default=20)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--products", type=int, default=25)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rates = {"mlp": 0.02, "cnn": 0.002, "gpt": 0.002}
    found: dict[str, list[dict[str, float]]] = {}
    for name in options.models.split(","):
        for way in ("minibatches", "whole probe"):
            minibatches = way == "minibatches"
            rows = found[f"{name}, {way}"] = follow(WORKLOADS[name](), options, rates[name], minibatches)
            tell(f"{name}, {way}", rows)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"environment": environment(), "checks": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

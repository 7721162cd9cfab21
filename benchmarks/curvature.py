"""What a whole curvature reading costs: eigenscope beside the tools that measure the same spectra.

    python benchmarks/curvature.py                      all models, on the CPU, one thread
    python benchmarks/curvature.py --models mlp,cnn --json out.json
    python benchmarks/curvature.py --truth              recompute the reference spectra (fp64, minutes)
    python benchmarks/curvature.py --tune               find the peers' cheapest settings again (longer)

Needs the `bench` extra: pip install -e '.[bench]'. Draw the result with benchmarks/plot.py.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import meter

meter.one_thread()  # before BLAS is loaded

import torch  # noqa: E402
from rich.console import Console  # noqa: E402

try:
    from large import measure_large
    from measure import measure
    from tune import tune
except ImportError as missing:
    raise SystemExit(f"{missing.name} is missing here: pip install -e '.[bench]'") from None
from report import table  # noqa: E402
from targets import TARGETS  # noqa: E402
from truth import reference  # noqa: E402
from workloads import WORKLOADS  # noqa: E402

WIDTH = 140  # of the table, also where it is piped into a file
RESULTS = Path(__file__).with_name("results") / "curvature.json"


def main() -> None:
    """Parse, measure, print, save."""
    options = _parse()
    results: dict[str, Any] = {
        "environment": meter.environment(options.device),
        "targets": TARGETS,
        "workloads": {},
    }
    for name in options.models:
        workload = WORKLOADS[name]()
        truth = reference(workload, again=options.truth)
        if options.tune:
            tune(workload, truth)
        if not (options.truth or options.tune):
            results["workloads"][name] = measure(workload, truth, options.device, options.repeats)
    if options.device == "cuda":
        results["large"] = measure_large(options.device)
    if results["workloads"]:
        Console(width=WIDTH).print(table(results))
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=_models, default=list(WORKLOADS), help="comma-separated: mlp,cnn,gpt")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--repeats", type=int, default=3, help="whole readings a tool (default 3)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--truth", action="store_true", help="recompute and store the reference spectra")
    parser.add_argument("--tune", action="store_true", help="find and store the peers' cheapest settings")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no CUDA device here; leave it out to measure on the CPU")
    return options


def _models(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in WORKLOADS:
            raise argparse.ArgumentTypeError(f"no model {name!r}; there are {', '.join(WORKLOADS)}")
    return names


if __name__ == "__main__":
    main()

"""Do the actions help? Six questions on real networks and real data, with equal compute, measuring included.

    python benchmarks/actions.py [--items edge,saddles,...] [--seeds 5] [--first-seed 0] [--json FILE]

edge       a step size past the edge of stability: runs that diverge, and the range of step sizes that end well
saddles    steps to leave a saddle: plain descent, noise, EscapeSaddle
canyon     badly scaled inputs: steps to a target loss as κ predicts, and after each remedy
depth      exploding and vanishing networks of depth 50: trainable or not, per remedy
warning    the lead of the stability alert before a loss spike of Adam, and its false alarms
sharpness  sharpness-aware training: test accuracy and λmax with it and without
Items that a run leaves out keep their figures in the file. The actions were improved with seeds 0 to 4 in view: others
confirm or refute them. One thread.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import time
from pathlib import Path
from typing import Any

from meter import environment, one_thread

one_thread()  # before NumPy is imported

ITEMS = ("edge", "saddles", "canyon", "depth", "warning", "sharpness")


def main() -> None:
    """Measure, tell, and write each item as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", default=",".join(ITEMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    results: dict[str, Any] = json.loads(wanted.json.read_text()) if wanted.json and wanted.json.exists() else {}
    results["environment"] = environment("cpu")
    importlib.import_module("evidence.tasks").first_seed = wanted.first_seed
    for name in wanted.items.split(","):
        item = importlib.import_module(f"evidence.{name}")
        start = time.process_time()
        result = item.run(wanted.seeds)
        about = {"question": item.__doc__.split("\n")[0], "seeds": wanted.seeds, "first_seed": wanted.first_seed}
        results[name] = {**about, **result}
        results[name]["cpu_seconds"] = round(time.process_time() - start, 1)
        print(f"\n== {name}: {results[name]['question']}", *item.tell(results[name]), sep="\n", flush=True)
        if wanted.json:
            wanted.json.write_text(json.dumps(plain(results), allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """As strict JSON has it: four digits, and a run that never got there as the word "inf"."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else str(value)
    return value


if __name__ == "__main__":
    main()

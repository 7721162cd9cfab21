"""What does the monitor cost a training run?

    python benchmarks/monitor.py [--seconds 60] [--models mlp,cnn] [--budgets 1,2,5] [--json FILE]

For each budget the same training runs twice in turn, without and with a monitor, for a fixed number of steps: the
share that the monitor says it took, and how much longer the run really was; the probe is 64 samples. Then the cost of
a step that is not due. What the run file takes, and how soon a reading is on the page, is in run_file.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from run_file import environment
from workloads import WORKLOADS, Workload, mean_loss

import eigenscope as es

PROBE = 64  # samples


def train(work: Workload, steps: int, monitor: es.Monitor | None) -> float:
    """Seconds that `steps` of plain training take."""
    optimizer = torch.optim.SGD(work.model.parameters(), lr=1e-4)
    start = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = mean_loss(work.model, work.batch)
        loss.backward()
        optimizer.step()
        if monitor is not None:
            monitor.step(loss)
    return time.perf_counter() - start


def overhead(name: str, budget: float, seconds: float, folder: Path) -> dict[str, object]:
    """One budget on one model: both runs step by step in turn, so that a noisy machine is as noisy to both."""
    plain, watched = WORKLOADS[name](), WORKLOADS[name]()
    pace = train(plain, 20, None) / 20
    steps = max(int(seconds / pace / 40), 1)
    times: dict[str, list[float]] = {"plain": [], "watched": []}
    clock = _TrainingClock()
    probe = tuple(part[:PROBE] for part in watched.batch)
    monitor = es.Monitor(watched.model, mean_loss, [probe], budget=budget, run=folder / f"{name}-{budget}", clock=clock)
    for _ in range(40):
        times["plain"].append(train(plain, steps, None))
        clock.resume()
        times["watched"].append(train(watched, steps, monitor))
        clock.pause()
    monitor.close()
    total = {key: sum(values) for key, values in times.items()}
    return {
        "model": name,
        "budget": budget,
        "measuring_share": monitor.measuring_share,
        "slower_by": total["watched"] / total["plain"] - 1,
        "checks": len(es.load_run(monitor.run_path)["lambda_max"]) if monitor.reading else 0,
        "seconds_plain": total["plain"],
        "steps": 40 * steps,
    }


class _TrainingClock:
    """A clock that stands still while the other run has its turn."""

    def __init__(self) -> None:
        self.passed, self.since = 0.0, None

    def __call__(self) -> float:
        return self.passed + (time.perf_counter() - self.since if self.since is not None else 0.0)

    def resume(self) -> None:
        self.since = time.perf_counter()

    def pause(self) -> None:
        self.passed, self.since = self(), None


def idle_step(folder: Path, calls: int = 20_000) -> dict[str, float]:
    """Microseconds of a `monitor.step(loss)` that is not due, between steps of a training that empties the caches."""
    work = WORKLOADS["mlp"]()
    optimizer = torch.optim.SGD(work.model.parameters(), lr=1e-4)
    monitor = es.Monitor(work.model, mean_loss, [work.batch], optimizer=optimizer, every=10**9, run=folder / "idle")
    times = []
    for _ in range(calls):
        optimizer.zero_grad()
        loss = mean_loss(work.model, work.batch)
        loss.backward()
        optimizer.step()
        start = time.perf_counter()
        monitor.step(loss)
        times.append(time.perf_counter() - start)
    monitor.close()
    times.sort()
    return {"median": 1e6 * statistics.median(times), "p99": 1e6 * times[int(0.99 * calls)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of plain training, for each row (default 60)")
    parser.add_argument("--models", default="mlp,cnn", help="of workloads.py, by comma (default mlp,cnn)")
    parser.add_argument("--budgets", default="1,2,5", help="per cent of the training time (default 1,2,5)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with TemporaryDirectory() as folder:
        print(f"{'model':6} {'budget':>7} {'measuring':>10} {'slower by':>10} {'checks':>7} {'steps':>8}")
        for name in options.models.split(","):
            for budget in (float(part) / 100 for part in options.budgets.split(",")):
                row = overhead(name, budget, options.seconds, Path(folder))
                rows.append(row)
                print(
                    f"{name:6} {budget:>7.0%} {row['measuring_share']:>10.2%} {row['slower_by']:>10.2%} "
                    f"{row['checks']:>7} {row['steps']:>8,}",
                    flush=True,
                )
        idle = idle_step(Path(folder))
    print(f"a step that is not due: {idle['median']:.1f} µs (99 % under {idle['p99']:.1f} µs)")
    if options.json:
        result = {"environment": environment(), "overhead": rows, "idle_step_microseconds": idle}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

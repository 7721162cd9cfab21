"""When does which truncated decomposition pay?

    python benchmarks/lowrank.py [--shapes 512x512,1024x1024] [--ranks 8,64,128] [--json FILE]

Matrices of prescribed spectra; CPU seconds on one thread, the better of two, beside a dense SVD (NumPy) and
scikit-learn's `randomized_svd` with its defaults; and the largest relative error of the singular values.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meter import environment, one_thread

one_thread()  # before NumPy is imported, which the imports below (E402) therefore follow

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from sklearn.utils.extmath import randomized_svd  # noqa: E402

from eigenscope.lowrank.truncation import truncated_svd  # noqa: E402

Array = NDArray[np.float64]
SPECTRA: dict[str, Callable[[int], Array]] = {
    "exponential": lambda n: np.exp(-np.arange(n) / 20),
    "1/i": lambda n: 1 / np.arange(1, n + 1),
    "1/√i": lambda n: np.arange(1, n + 1) ** -0.5,
    "noise": lambda n: np.linspace(2, 0.01, n),
}


def matrix(sigma: Array, rows: int) -> Array:
    """U diag(σ) Vᵀ with random orthonormal U and V."""
    generator = np.random.default_rng(0)
    u, _ = np.linalg.qr(generator.standard_normal((rows, len(sigma))))
    v, _ = np.linalg.qr(generator.standard_normal((len(sigma), len(sigma))))
    return (u * sigma) @ v.T


def ways(x: Array, rank: int) -> dict[str, Callable[[], Any]]:
    """What is measured, by name."""
    ours = {name: (lambda name=name: truncated_svd(x, rank, method=name)) for name in ("gram", "randomized", "auto")}
    peer = {"sklearn": lambda: randomized_svd(x, rank, random_state=0)}
    return {"numpy": lambda: np.linalg.svd(x, full_matrices=False), **ours, **peer}


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """CPU seconds, the best of `repeats`."""
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def row(name: str, shape: tuple[int, int], rank: int, repeats: int) -> dict[str, Any]:
    """One case: seconds and error of each way."""
    sigma = SPECTRA[name](min(shape))
    x = matrix(sigma, max(shape))
    found: dict[str, Any] = {"spectrum": name, "shape": shape, "rank": rank}
    for way, work in ways(x, rank).items():
        seconds, result = timed(work, repeats)
        ours = hasattr(result, "singular_values")
        values = result.singular_values if ours else result[1][:rank]
        found[way] = {"seconds": seconds, "error": float(np.max(np.abs(values - sigma[:rank]) / sigma[:rank]))}
        if ours:
            found[way] |= {"method": result.method, "num_matvecs": result.num_matvecs}
    return found


def line(found: dict[str, Any]) -> str:
    cells = [
        f"{way} {cell['seconds']:.3f} s, {cell['error']:.0e}{' ' + cell['method'] if way == 'auto' else ''}"
        for way, cell in found.items()
        if isinstance(cell, dict)
    ]
    return f"{found['shape']} rank {found['rank']} {found['spectrum']}: " + " | ".join(cells)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="512x512,1024x1024,2048x2048,4096x1024")
    parser.add_argument("--ranks", default="8,64,128")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    for shape in options.shapes.split(","):
        m, n = map(int, shape.split("x"))
        for rank in map(int, options.ranks.split(",")):
            for name in SPECTRA:
                rows.append(row(name, (m, n), rank, options.repeats))
                print(line(rows[-1]), file=sys.stderr, flush=True)
    if options.json:
        report = {"environment": environment("cpu"), "rows": rows}
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    warnings.simplefilter("error")
    sys.exit(main(sys.argv[1:]))

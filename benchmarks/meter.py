"""Clocks, summaries and the circumstances that belong beside every figure."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = (
    "torch", "numpy", "scipy", "scikit-learn",
    "eigenscope", "hessian-eigenthings", "curvlinops-for-pytorch", "pyhessian",
)  # fmt: skip
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def one_thread() -> None:
    """Pin torch and BLAS to one thread; call it before NumPy is imported."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = "1"
    torch.set_num_threads(1)


def seconds(task: Callable[[], object], device: str = "cpu") -> float:
    """CPU seconds of this process; on an accelerator the wall-clock time until it is idle."""
    gc.collect()
    if device == "cpu":
        start = time.process_time()
        task()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    task()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest of some repeats."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def environment(device: str) -> dict[str, object]:
    """Versions, processor and threads."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "clock": "process CPU seconds" if device == "cpu" else "wall-clock seconds",
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def memory_now() -> float:
    """Resident MB; the peak counts from here on (Linux: ru_maxrss would start at that of the parent process)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def memory_peak() -> float:
    """The most resident MB since `memory_now`."""
    return _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024

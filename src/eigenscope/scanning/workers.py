"""Spread the tensors of a checkpoint over threads, processes, or a cluster; the numbers do not depend on which.

Each matrix is worked on by one BLAS thread, so that a sum is always taken in the same order.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from multiprocessing import get_context
from typing import Any

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from eigenscope.checkpoints import Checkpoint, Entry, open_checkpoint
from eigenscope.errors import CheckpointError, InputError
from eigenscope.scanning.analysis import Options, analyse, one_line
from eigenscope.scanning.result import MatrixRow

Found = list[MatrixRow] | CheckpointError
_THREADS = 4  # matrices at once in one process, at most
_BACKENDS = ("processes", "ray")


def run_tasks(
    tasks: Sequence[Entry], checkpoint: Checkpoint, source: Any, options: Options, workers: int, backend: str
) -> Iterator[tuple[Entry, Found]]:
    """Each task with what came of it, as they are done."""
    if backend not in _BACKENDS:
        raise InputError(f"backend={backend!r} is not one of {', '.join(_BACKENDS)}")
    if backend == "ray":
        yield from _on_ray(tasks, _path(source), options)
    elif workers > 1:
        yield from _in_processes(tasks, _path(source), options, workers)
    else:
        yield from _in_threads(tasks, checkpoint, options)


def _path(source: Any) -> str:
    """What another process can open."""
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"several workers need a file or an id that each can open, not a {type(source).__name__}")
    return os.fspath(source)


def _in_threads(tasks: Sequence[Entry], checkpoint: Checkpoint, options: Options) -> Iterator[tuple[Entry, Found]]:
    """Load one after the other, work on a few at once, never holding more than the largest tensor's size in fp64."""
    budget = 8 * max((_entries(task) for task in tasks), default=0)
    pending: dict[Future[Found], Entry] = {}
    with _one_blas_thread(), ThreadPoolExecutor(min(_THREADS, _cores())) as pool:
        for task in tasks:
            while pending and (len(pending) >= _THREADS or 8 * sum(map(_entries, (*pending.values(), task))) > budget):
                yield from _finished(pending)
            pending[pool.submit(_attempt, checkpoint, task, options)] = task
        while pending:
            yield from _finished(pending)


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _finished(pending: dict[Future[Found], Entry]) -> Iterator[tuple[Entry, Found]]:
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        yield pending.pop(future), future.result()


def _attempt(checkpoint: Checkpoint, task: Entry, options: Options) -> Found:
    """The rows of one tensor; whatever goes wrong with it is one line, and the scan goes on."""
    try:
        tensor = checkpoint.load(task.name)
        try:
            return analyse(task, tensor.to(options.device), options)
        except torch.OutOfMemoryError:  # of the device
            return analyse(task, tensor, options)
    except Exception as error:
        return one_line(error)


def _one_blas_thread() -> Any:
    return threadpool_limits(1, user_api="blas")


def _share(path: str, tasks: Sequence[Entry], options: Options) -> list[tuple[Entry, Found]]:
    """What one worker does: its own copy of the checkpoint, its share of the tensors."""
    torch.set_num_threads(1)
    with _one_blas_thread(), open_checkpoint(path) as checkpoint:
        return [(task, _attempt(checkpoint, task, options)) for task in tasks]


def _in_processes(tasks: Sequence[Entry], path: str, options: Options, workers: int) -> Iterator[tuple[Entry, Found]]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_share, path, share, options) for share in _shares(tasks, 4 * workers)}
        while futures:
            done, futures = wait(futures, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()


def _on_ray(tasks: Sequence[Entry], path: str, options: Options) -> Iterator[tuple[Entry, Found]]:
    """Over a Ray cluster; each node must be able to open the path."""
    try:
        import ray
    except ImportError:
        raise InputError("the Ray backend needs Ray: pip install 'eigenscope[ray]'") from None
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, include_dashboard=False)
    try:
        remote: Callable[..., Any] = ray.remote(_share).remote
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        count = int(resources.get("CPU", 1))
        futures = [remote(path, share, options) for share in _shares(tasks, 4 * count)]
        while futures:
            done, futures = ray.wait(futures)
            for future in done:
                yield from ray.get(future)
    finally:
        if started:
            ray.shutdown()


def _shares(tasks: Sequence[Entry], count: int) -> list[list[Entry]]:
    """About equal shares of work, the dearest first (Graham 1969)."""
    shares: list[list[Entry]] = [[] for _ in range(max(min(count, len(tasks)), 1))]
    loads = [0.0] * len(shares)
    for task in sorted(tasks, key=_work, reverse=True):
        least = loads.index(min(loads))
        shares[least].append(task)
        loads[least] += _work(task)
    return [share for share in shares if share]


def _work(task: Entry) -> float:
    """Multiplications of its Gram matrix."""
    return float(_entries(task)) * min(task.shape[0], _entries(task) // max(task.shape[0], 1))


def _entries(task: Entry) -> int:
    return math.prod(task.shape)

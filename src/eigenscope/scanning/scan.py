"""`eigenscope.scan`: the spectrum of every weight matrix of a checkpoint."""

from __future__ import annotations

import fnmatch
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor, nn

from eigenscope.checkpoints import Checkpoint, Entry, open_checkpoint
from eigenscope.diagnostics.words import did_you_mean
from eigenscope.errors import CheckpointError, InputError
from eigenscope.scanning.analysis import Options, Task, why_not
from eigenscope.scanning.layouts import Layout
from eigenscope.scanning.result import MatrixRow, Scan, Skipped
from eigenscope.scanning.workers import run_tasks

Source = str | os.PathLike[str] | nn.Module | Mapping[str, Tensor]
Progress = Callable[[int, int], None]  # entries of tensors done, in all


def scan(
    source: Source,
    *,
    match: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    per_head: bool = False,
    input_size: Sequence[int] | None = None,
    workers: int = 1,
    backend: str = "processes",
    progress: Progress | None = None,
) -> Scan:
    """Measure the spectrum of every weight matrix of a checkpoint, one tensor in memory at a time.

    Parameters
    ----------
    source
        A file (safetensors, PyTorch, NumPy, GGUF, Keras, ONNX), a Hugging Face folder or id, a PEFT adapter, a module
        or a state dict.
    match, exclude
        Names of tensors to look at or to leave out, globs allowed.
    per_head
        Attention heads one by one too.
    input_size
        Height and width (or length) of the input of convolutions: gives their norm as an operator as well.
    workers
        Processes to spread the tensors over; the numbers are the same bit for bit.
    backend
        ``"processes"``, or ``"ray"`` for a cluster (``pip install 'eigenscope[ray]'``).
    progress
        Called with (entries of tensors done, in all).

    Returns
    -------
    Scan
        `matrices`, a row each with every number of the "Weights" table and its error; `skipped`, everything else with
        its reason; `summary`.

    Raises
    ------
    CheckpointError
        The checkpoint can't be read; one line says why.
    InputError
        `match` fits nothing, or an option is wrong.
    """
    if workers < 1:
        raise InputError(f"workers={workers}: at least one is needed")
    start = time.perf_counter()
    with open_checkpoint(source) as checkpoint:
        tasks, skipped = _sorted_out(checkpoint, _patterns(match), _patterns(exclude))
        layout = Layout.of(
            checkpoint.config, {entry.name: entry.shape for entry in checkpoint.entries}, checkpoint.format
        )
        options = Options(layout, per_head, None if input_size is None else tuple(input_size))
        rows, broken = [], []
        done, total = 0, sum(math.prod(task.shape) for task in tasks)
        for task, found in run_tasks(tasks, checkpoint, source, options, workers, backend):
            if isinstance(found, CheckpointError):
                broken.append(Skipped(task.name, task.shape, task.dtype, str(found)))
            else:
                rows += found
            done += math.prod(task.shape)
            if progress:
                progress(done, total)
        return Scan(
            checkpoint.name,
            checkpoint.format,
            tuple(_ordered(rows, checkpoint)),
            tuple(skipped + broken),
            time.perf_counter() - start,
            checkpoint.notes,
        )


def _sorted_out(
    checkpoint: Checkpoint, match: Sequence[str], exclude: Sequence[str]
) -> tuple[list[Task], list[Skipped]]:
    """What is to be analysed, and the ledger of what is not."""
    names = [entry.name for entry in checkpoint.entries]
    for pattern in match:
        if not fnmatch.filter(names, pattern):
            raise InputError(f"no tensor matches {pattern!r}{did_you_mean(pattern, names)[:200]}")
    tasks, skipped = [], []
    for entry in checkpoint.entries:
        reason = _reason(entry, checkpoint.tied, match, exclude)
        if reason is None:
            tasks.append(Task(entry.name, entry.shape, entry.dtype, entry.roundoff))
        else:
            skipped.append(Skipped(entry.name, entry.shape, entry.dtype, reason))
    return tasks, skipped


def _reason(entry: Entry, tied: Mapping[str, str], match: Sequence[str], exclude: Sequence[str]) -> str | None:
    if match and not any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in match):
        return "left out: --match names others"
    if any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in exclude):
        return "left out: excluded"
    if entry.aside:
        return entry.aside
    if entry.name in tied:
        return f"tied to {tied[entry.name]}: counted there"
    return why_not(entry.shape, entry.kind)


def _patterns(given: str | Sequence[str] | None) -> Sequence[str]:
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def _ordered(rows: Sequence[MatrixRow], checkpoint: Checkpoint) -> Iterator[MatrixRow]:
    """As stored, whatever order they came back in."""
    places = {entry.name: index for index, entry in enumerate(checkpoint.entries)}
    yield from sorted(rows, key=lambda row: places[row.name])

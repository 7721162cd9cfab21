"""`eigenscope.scan`: the spectrum of every weight matrix of a checkpoint."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn

from eigenscope.checkpoints import Checkpoint, open_checkpoint
from eigenscope.errors import CheckpointError, InputError
from eigenscope.scanning.analysis import Options
from eigenscope.scanning.layouts import Layout
from eigenscope.scanning.ledger import patterns, sorted_out
from eigenscope.scanning.result import MatrixRow, Scan, Skipped
from eigenscope.scanning.workers import run_tasks

Source = str | os.PathLike[str] | nn.Module | Mapping[str, Tensor]
Progress = Callable[[int, int], None]  # entries of tensors done, in all
_NO_HEADS = (
    "no heads are told apart: no projection of a known name and order, or no configuration with the number of heads"
)


def scan(
    source: Source,
    *,
    match: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    per_head: bool = False,
    input_size: Sequence[int] | None = None,
    workers: int = 1,
    backend: str = "processes",
    device: str | None = None,
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
        Height and width (or length) of the input of convolutions: gives their norm as an operator as well, with
        stride 1 and "same" padding. Groups are those of a module in memory; from a file, filters of one input channel
        count as depthwise (but the first of several convolutions as one of grey images), and others as one group.
    workers
        Processes to spread the tensors over; on the CPU the numbers are the same bit for bit.
    backend
        ``"processes"``, or ``"ray"`` for a cluster (``pip install 'eigenscope[ray]'``).
    device
        Where one process multiplies: ``"cpu"``, or ``"cuda"`` (the default where there is one). Workers use the CPU.
    progress
        Called with (entries of tensors done, in all).

    Returns
    -------
    Scan
        `matrices`, a row each with every number that the concepts page lists for a weight matrix; `skipped`, everything
        else with its reason; `summary`.

    Raises
    ------
    CheckpointError
        The checkpoint can't be read; one line says why.
    InputError
        `match` fits nothing, or an option is wrong.
    """
    if workers < 1:
        raise InputError(f"workers={workers}: at least one is needed")
    where, size = _device(device, workers, backend), _size(input_size)
    wanted, unwanted = patterns(match, "match"), patterns(exclude, "exclude")
    start = time.perf_counter()
    with open_checkpoint(source) as checkpoint:
        layout = Layout.of_checkpoint(checkpoint)
        tasks, skipped = sorted_out(checkpoint, layout, wanted, unwanted)
        options = Options(layout, per_head, size, where)
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
            (*checkpoint.notes, *([_NO_HEADS] if per_head and not any("head " in row.part for row in rows) else [])),
        )


def _device(device: str | None, workers: int, backend: str) -> str:
    """Where to compute; raises `InputError` where that can't be."""
    alone = workers == 1 and backend == "processes"
    if device is None:
        return "cuda" if alone and torch.cuda.is_available() else "cpu"
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise InputError(f"device={device!r} is not cpu, cuda or cuda:N")
    if device.startswith("cuda"):
        if not alone:
            raise InputError(f"device={device!r} is for one process: leave out the workers, or the device")
        if not torch.cuda.is_available():
            raise InputError(f"device={device!r}: PyTorch finds no CUDA here; leave the device out")
        number = device.partition(":")[2] or "0"
        if not number.isdigit() or int(number) >= torch.cuda.device_count():
            raise InputError(f"device={device!r}: there are {torch.cuda.device_count()}, counted from cuda:0")
    return device


def _size(given: Sequence[int] | None) -> tuple[int, ...] | None:
    """The size of the images that convolutions meet, checked."""
    if given is None:
        return None
    whole = isinstance(given, Sequence) and all(isinstance(side, Integral) and side > 0 for side in given)
    if not whole or isinstance(given, str) or not 1 <= len(given) <= 3:
        raise InputError(f"input_size={given!r} is no size: give a length each axis, such as (32, 32)")
    return tuple(map(int, given))


def _ordered(rows: Sequence[MatrixRow], checkpoint: Checkpoint) -> Iterator[MatrixRow]:
    """As stored, whatever order they came back in."""
    places = {entry.name: index for index, entry in enumerate(checkpoint.entries)}
    yield from sorted(rows, key=lambda row: places[row.name])

"""From one tensor to the rows of its matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from eigenscope.bounds.convolution import Convolution
from eigenscope.bounds.convolution_norm import convolution_norm
from eigenscope.checkpoints import Entry
from eigenscope.errors import CheckpointError, first_line
from eigenscope.estimators.gram import largest_entry, singular_spectrum
from eigenscope.scanning.layouts import Layout, View, views
from eigenscope.scanning.result import MatrixRow
from eigenscope.weights.noise import floor_share
from eigenscope.weights.reading import read_weights


@dataclass(frozen=True)
class Options:
    """How to look at a tensor."""

    layout: Layout
    per_head: bool = False
    input_size: tuple[int, ...] | None = None  # of the images that convolutions meet
    device: str = "cpu"


def analyse(task: Entry, tensor: Tensor, options: Options) -> list[MatrixRow]:
    """A row for every matrix in the tensor; one that says so where its entries are not finite."""
    return list(_rows(task, tensor.detach(), options))


def _rows(task: Entry, tensor: Tensor, options: Options) -> Iterator[MatrixRow]:
    broken = _not_finite(tensor)
    if broken:
        yield MatrixRow(task.name, "", task.dtype, None, problem=broken)
        return
    roundoff = _roundoff(task, tensor)
    for view in views(task.name, task.shape, options.layout, per_head=options.per_head):
        floor = floor_share(*view.shape, roundoff)
        spectrum = singular_spectrum(view.cut(tensor), floor=floor, rank=task.rank)
        reading = read_weights(spectrum, *view.shape, roundoff)
        yield MatrixRow(
            task.name, view.part, task.dtype, reading, operator_norm=_operator_norm(view, tensor, task, options)
        )


def _roundoff(task: Entry, tensor: Tensor) -> float:
    """Relative to the root mean square; a quantized value is off by a share of the largest in its block."""
    if task.kind != "quantized":
        return task.roundoff
    values = tensor.flatten().float()
    size = task.block if task.block and len(values) % task.block == 0 else len(values)
    largest = values.view(-1, size).abs().amax(dim=1)
    rms = float(values.square().mean().sqrt())
    return task.roundoff * float(largest.square().mean().sqrt()) / rms if rms > 0 else task.roundoff


def _not_finite(tensor: Tensor) -> str | None:
    if math.isfinite(largest_entry(tensor)):
        return None
    nan, count = int(torch.isnan(tensor).sum()), int((~torch.isfinite(tensor)).sum())
    return f"{nan:,} NaN and {count - nan:,} infinite entries of {tensor.numel():,}"


def _operator_norm(view: View, tensor: Tensor, task: Entry, options: Options) -> float | None:
    """Of the convolution with stride 1 and "same" zero padding on the given input size; of groups the largest."""
    if view.filters is None or options.input_size is None or len(options.input_size) != len(view.kernel):
        return None
    ones, reach = (1,) * len(view.kernel), tuple((k // 2, (k - 1) // 2) for k in view.kernel)
    weight = view.filters(tensor).cpu().contiguous()
    groups = view.groups or task.groups or 1
    return convolution_norm(Convolution(weight, options.input_size, ones, reach, ones, groups), lower=False).value


def one_line(error: Exception) -> CheckpointError:
    """Whatever goes wrong with one tensor, as a reason in the ledger."""
    if isinstance(error, CheckpointError):
        return error
    return CheckpointError(f"it could not be analysed ({type(error).__name__}: {first_line(error)})")

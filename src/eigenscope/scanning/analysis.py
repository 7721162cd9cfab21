"""From one tensor to the rows of its matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eigenscope.bounds.convolution import Convolution
from eigenscope.bounds.convolution_norm import convolution_norm
from eigenscope.estimators.gram import largest_entry, singular_spectrum
from eigenscope.scanning.layouts import Layout, View, views
from eigenscope.scanning.result import MatrixRow
from eigenscope.weights.reading import read_weights


@dataclass(frozen=True)
class Task:
    """One stored tensor that is to be analysed."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    roundoff: float


@dataclass(frozen=True)
class Options:
    """How to look at a tensor."""

    layout: Layout
    per_head: bool = False
    input_size: tuple[int, ...] | None = None  # of the images that convolutions meet
    exact: bool = True


def analyse(task: Task, tensor: Tensor, options: Options) -> list[MatrixRow]:
    """A row for every matrix in the tensor; one that says so where its entries are not finite."""
    return list(_rows(task, tensor.detach(), options))


def _rows(task: Task, tensor: Tensor, options: Options) -> Iterator[MatrixRow]:
    broken = _not_finite(tensor)
    if broken:
        yield MatrixRow(task.name, "", task.dtype, None, problem=broken)
        return
    for view in views(task.name, task.shape, options.layout, per_head=options.per_head):
        spectrum = singular_spectrum(view.cut(tensor), exact=options.exact)
        reading = read_weights(spectrum, *view.shape, task.roundoff)
        yield MatrixRow(task.name, view.part, task.dtype, reading, operator_norm=_operator_norm(view, tensor, options))


def _not_finite(tensor: Tensor) -> str | None:
    if math.isfinite(largest_entry(tensor)):
        return None
    nan, count = int(torch.isnan(tensor).sum()), int((~torch.isfinite(tensor)).sum())
    return f"{nan:,} NaN and {count - nan:,} infinite entries of {tensor.numel():,}"


def _operator_norm(view: View, tensor: Tensor, options: Options) -> float | None:
    """Of the convolution with "same" zero padding on the given input size."""
    if not view.kernel or options.input_size is None or len(options.input_size) != len(view.kernel):
        return None
    ones, reach = (1,) * len(view.kernel), tuple((k // 2, (k - 1) // 2) for k in view.kernel)
    return convolution_norm(Convolution(tensor, options.input_size, ones, reach, ones)).value


def why_not(shape: Sequence[int], kind: str) -> str | None:
    """Why a tensor has no spectrum, or None if it has one."""
    if kind == "integer":
        return "integers: indices, masks or packed data"
    if len(shape) < 2:
        return "a vector: no matrix" if shape else "a single number: no matrix"
    if min(shape) == 0:
        return "empty"
    if min(shape[0], math.prod(shape[1:])) < 2:
        return "too small: a single row or column"
    return None

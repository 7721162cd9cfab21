"""A matrix of the caller's, checked, that multiplies in fp64 whatever it is stored in.

It stands upright here: rows are the longer side. A NumPy product is taken on the CPU: on some processors the BLAS of
PyTorch has half its speed, and on none that we know is it much faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from torch import Tensor

from eigenscope.errors import InputError

Array = NDArray[Any] | Tensor

UNIT = 2.0**-53
_HELD = 1 << 26  # entries up to which a copy in fp64 is kept: 512 MB
_BLOCK = 1 << 22  # entries converted at a time above that
_SAFE = (1e-100, 1e100)  # largest entries between which no square over- or underflows


class Matrix:
    """X, upright: `shape` is (m, n) with m ≥ n, and `flipped` says that the caller's was its transpose."""

    def __init__(self, array: Float[Array, "r c"], name: str = "X") -> None:
        self.source = tensor_of(array, name)
        self.like = array
        rows, columns = self.source.shape
        self.flipped = rows < columns
        self.shape = (max(rows, columns), min(rows, columns))
        largest = _largest(self.source, name)
        safe = largest == 0 or _SAFE[0] < largest < _SAFE[1]
        self.scale = 1.0 if safe else 2.0 ** round(math.log2(largest))
        if self.source.device.type == "mps":  # which has no fp64
            self.source = self.source.cpu()
        self.device = self.source.device
        small = self.source.numel() <= _HELD or self.source.dtype == torch.float64
        self._held = self._double(self.source) if small else None
        self.num_matvecs = self.passes = 0
        self.norm = math.sqrt(sum(float((part * part).sum()) for part in self._parts()))

    def dense(self) -> Float64[Tensor, "m n"]:
        """All of it, upright, in fp64."""
        whole = self._held if self._held is not None else self._double(self.source)
        return whole.T if self.flipped else whole

    def right(self, block: Float64[Tensor, "n k"]) -> Float64[Tensor, "m k"]:
        """X·block."""
        return self._product(block, self.flipped)

    def left(self, block: Float64[Tensor, "m k"]) -> Float64[Tensor, "n k"]:
        """Xᵀ·block."""
        return self._product(block, not self.flipped)

    def distance(self, left: Float64[Tensor, "m k"], right: Float64[Tensor, "n k"]) -> float:
        """‖X − left·rightᵀ‖_F, summed entry by entry: no digits are lost where it is small."""
        rows, columns = (right, left) if self.flipped else (left, right)
        total, start = 0.0, 0
        for part in self._parts(_BLOCK):
            rest = part - multiply(rows[start : start + len(part)], columns.T)
            total, start = total + float((rest * rest).sum()), start + len(part)
        self.passes += 1
        return math.sqrt(total)

    def _product(self, block: Tensor, transposed: bool) -> Tensor:
        self.num_matvecs += block.shape[1]
        self.passes += 1
        if not transposed:
            return torch.cat([multiply(part, block) for part in self._parts()])
        total, start = torch.zeros(0), 0
        for part in self._parts():
            term = multiply(part.T, block[start : start + len(part)])
            total, start = term if start == 0 else total + term, start + len(part)
        return total

    def _parts(self, entries: int | None = None) -> Iterator[Tensor]:
        """Blocks of the caller's rows in fp64."""
        whole = self._held if self._held is not None else self.source
        entries = entries or (whole.numel() if self._held is not None else _BLOCK)
        for part in torch.split(whole, max(entries // whole.shape[1], 1)):
            yield part if self._held is not None else self._double(part)

    def _double(self, part: Tensor) -> Tensor:
        double = part.to(torch.float64)
        return double if self.scale == 1.0 else double / self.scale


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """left·right, by the faster library."""
    if left.device.type == "cpu":
        return torch.from_numpy(left.numpy() @ right.numpy())
    return left @ right


def tensor_of(array: object, name: str) -> Tensor:
    """The caller's matrix as a tensor that shares its memory where it can; InputError where it is no matrix."""
    if not isinstance(array, Tensor | np.ndarray):
        raise InputError(f"{name} is a {type(array).__name__}: give a NumPy array or a tensor, two-dimensional")
    if array.ndim != 2 or 0 in array.shape:
        asked = "reshape it to two dimensions" if array.ndim != 2 else "give at least one row and one column"
        raise InputError(f"{name} has the shape {tuple(array.shape)}: {asked}")
    if isinstance(array, Tensor):
        if array.layout != torch.strided:
            raise InputError(f"{name} is stored as {array.layout}: use {name}.to_dense()")
        if array.is_complex() or array.is_quantized:
            raise InputError(f"{name} holds {array.dtype}, not real numbers: take what you need of it")
        return array.detach() if array.is_floating_point() else array.double()
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} holds {array.dtype}, not real numbers: take what you need of it")
    kind = array.dtype if array.dtype.kind == "f" and array.dtype.itemsize <= 8 else np.dtype(np.float64)
    plain = np.ascontiguousarray(array, kind.newbyteorder("="))
    return torch.from_numpy(plain if plain.flags.writeable else plain.copy())


def returned(value: Tensor, like: Array) -> Any:
    """A result as the caller's kind of array: fp32 where X was of fewer digits than fp64, on its device."""
    if isinstance(like, Tensor):
        short = like.is_floating_point() and like.dtype != torch.float64
        return value.to(torch.float32 if short else torch.float64).to(like.device)
    short = like.dtype.kind == "f" and like.dtype.itemsize < 8
    return value.cpu().numpy().astype(np.float32 if short else np.float64)


def _largest(matrix: Tensor, name: str) -> float:
    """The largest |x|; InputError where one is no number."""
    wide = matrix if matrix.dtype.itemsize > 1 else matrix.float()  # no minimum of an 8-bit float
    low, high = torch.aminmax(wide)
    largest = float(torch.maximum(-low, high))
    if not math.isfinite(largest):
        bad = int((~torch.isfinite(wide)).sum())
        what = "NaN" if math.isnan(largest) else "infinite"
        raise InputError(
            f"{name} is not finite: {bad:,} of {matrix.numel():,} entries (the worst {what}); clean it first"
        )
    return largest

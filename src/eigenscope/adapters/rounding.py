"""What the storage of two weights alone leaves in their difference: a random matrix, and how large its norm gets.

A stored value is off by up to half of the spacing of its type there: an error of variance spacing²/12. A random matrix
of independent entries with standard deviations s_ij has a norm of about max_i √Σ_j s_ij² + max_j √Σ_i s_ij² (for equal
ones the edge of Marchenko & Pastur's law 1967, s(√m + √n); in general Latała, van Handel & Youssef 2018). Singular
values below that say nothing of the fine-tuning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from eigenscope.checkpoints import Entry

_BLOCK = 1 << 18  # entries of a block of rows: 2 MB in fp64
_MARGIN = 1.25  # rounding is not quite independent of the value, and norms fluctuate: tests/adapters/test_rounding.py
_FP32 = 2.0**-24
_ARITHMETIC = 8.0  # a merge adds up B·A in fp32: about r roundings of the size of ΔW
_FINER = 0.1  # of the variance: types differ by a factor of 64 at least
_COARSER = (torch.bfloat16, torch.float16)  # than fp32
_PRESENT = (0.75, 1.25)  # of the energy that rounding is expected to have, where it is the reason of what is left


@dataclass(frozen=True)
class Rounding:
    """The edge below which a singular value of ΔW is rounding, and the energy Σσ² that rounding has."""

    edge: float
    energy: float

    def explains(self, tail: float) -> bool:
        """Whether singular values below the edge, with Σσ² = `tail`, are what this rounding leaves."""
        return _PRESENT[0] * self.energy <= tail <= _PRESENT[1] * self.energy


@dataclass
class _Sums:
    """Σ s² by rows and by columns."""

    rows: Tensor
    columns: Tensor

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(self.rows + other.rows, self.columns + other.columns)

    def rounding(self) -> Rounding:
        edge = math.sqrt(float(self.rows.max())) + math.sqrt(float(self.columns.max()))
        return Rounding(_MARGIN * edge, float(self.rows.sum()))


def roundings(base: Tensor, tuned: Tensor, change: Tensor, entries: tuple[Entry, Entry]) -> tuple[Rounding, Rounding]:
    """What is there in any case, and what may be; weights as matrices (m × n) as stored, and their difference.

    Where TUNED is stored more finely, BASE as it is stored is most likely what was fine-tuned, and exact by definition;
    it may also have been rounded afterwards, and then its rounding shows as noise of a known energy.
    """
    units = [_unit(tensor, entry) for tensor, entry in zip((base, tuned), entries, strict=True)]
    first, second = (_sums(tensor, unit) for tensor, unit in zip((base, tuned), units, strict=True))
    finer = float(second.rows.sum()) < _FINER * float(first.rows.sum())
    second += _sums(change, _Unit(min(entries[1].roundoff or _FP32, _FP32) * _ARITHMETIC))
    both = first + second
    return (second if finer else both).rounding(), both.rounding()


def _sums(tensor: Tensor, unit: _Unit) -> _Sums:
    found = _Sums(torch.zeros(tensor.shape[0]).double(), torch.zeros(tensor.shape[1]).double())
    step = max(_BLOCK // max(tensor.shape[1], 1), 1)
    for start in range(0, len(tensor), step):
        squares = _variance(tensor[start : start + step].double(), unit)
        found.rows[start : start + step] = squares.sum(1)
        found.columns += squares.sum(0)
    return found


@dataclass(frozen=True)
class _Unit:
    """The rounding of a type: relative to each value, or one step for the whole tensor (quantized)."""

    relative: float
    step: float = 0.0


def _unit(tensor: Tensor, entry: Entry) -> _Unit:
    """As stored, or coarser where every value lies on a coarser type's grid: bf16 that was saved as fp32."""
    if entry.kind == "quantized":
        return _Unit(0.0, 2 * entry.roundoff * float(tensor.abs().max()))
    for dtype in _COARSER:
        unit = float(torch.finfo(dtype).eps) / 2
        if unit > entry.roundoff and bool((tensor.to(dtype).to(tensor.dtype) == tensor).all()):
            return _Unit(unit)
    return _Unit(entry.roundoff)


def is_rounding(base: Tensor, tuned: Tensor, entries: tuple[Entry, Entry]) -> bool:
    """Whether one is the other, stored more coarsely.

    Where that is TUNED, nothing else can be told. Where it is BASE, TUNED may have moved within the rounding of BASE:
    the difference must also have the energy that rounding leaves.
    """
    units = [_unit(tensor, entry) for tensor, entry in zip((base, tuned), entries, strict=True)]
    if units[0] == units[1]:
        return False  # the same number is stored as the same value
    coarser = max(0, 1, key=lambda which: (units[which].step, units[which].relative))
    energy = moved = 0.0
    for blocks in zip(torch.split(base.flatten(), _BLOCK), torch.split(tuned.flatten(), _BLOCK), strict=True):
        pair = [block.double() for block in blocks]
        if not _stored_as(pair[1 - coarser], pair[coarser], units[coarser]):
            return False
        energy += float(_variance(pair[0], units[0]).sum())
        moved += float(((pair[1] - pair[0]) ** 2).sum())
    return coarser == 1 or Rounding(0.0, energy).explains(moved)


def _stored_as(fine: Tensor, coarse: Tensor, unit: _Unit) -> bool:
    """Whether every value becomes the other one when it is stored so."""
    dtype = next((dtype for dtype in _COARSER if torch.finfo(dtype).eps / 2 == unit.relative), None)
    if dtype is not None:
        return bool((fine.to(dtype).double() == coarse).all())
    spacing = _variance(coarse, unit).mul_(12).sqrt_()
    return bool(((fine - coarse).abs() <= 0.5 * spacing * (1 + 1e-3)).all())


def _variance(values: Tensor, unit: _Unit) -> Tensor:
    if unit.step:
        return torch.full_like(values, unit.step**2 / 12)
    _, exponent = torch.frexp(values)
    spacing = torch.ldexp(torch.full_like(values, unit.relative), exponent)
    return torch.where(values == 0, 0.0, spacing**2 / 12)

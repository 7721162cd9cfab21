"""What a header says of one stored tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Entry:
    """One stored tensor, known from the header alone: nothing of it has been loaded.

    `roundoff` is the unit roundoff that the storage implies: half of the spacing of a floating-point type, relative to
    each value; for b-bit quantization a step of 2¹⁻ᵇ relative to the largest value of its block; 0 for integers.
    """

    name: str  # as stored
    shape: tuple[int, ...]  # row-major, after dequantization
    dtype: str  # as stored: "float32", "bfloat16", "int64", "Q4_1", ...
    kind: str  # "float" | "complex" | "integer" | "quantized" | "other" (not readable)
    roundoff: float
    aside: str | None = None  # why this is no weight of the model ("state of the optimizer") or can't be read
    readable: bool = True
    groups: int = 0  # of a convolution in memory, which knows them; 0 where it is not said
    block: int = 0  # quantized values in a row that share a step; 0 for all of them
    rank: int = 0  # of a product of thin factors; 0 where nothing is known of it

    @classmethod
    def of(cls, name: str, shape: Sequence[int], dtype: torch.dtype, aside: str | None = None) -> Entry:
        """An entry that is stored as a type of PyTorch."""
        floating = dtype.is_floating_point or dtype.is_complex
        roundoff = float(torch.finfo(dtype).eps) / 2 if floating else 0.0
        kind = "complex" if dtype.is_complex else "float" if floating else "integer"
        return cls(name, tuple(shape), dtype_name(dtype), kind, roundoff, aside)

    @classmethod
    def unreadable(cls, name: str, shape: Sequence[int], dtype: str, why: str) -> Entry:
        """An entry for what is listed and never loaded."""
        return cls(name, tuple(shape), dtype, "other", 0.0, why, readable=False)


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")

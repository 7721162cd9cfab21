"""The space that vectors live in: inner products, norms, random vectors, stored bases.

Estimators do all their vector arithmetic here, so they never learn how long a vector is, where it lies or whether
it is spread over processes. Sums are accumulated in fp64 (fp32 loses 2 % of a norm at 10⁸ entries).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_COLUMNS = 1 << 15  # a block that stays in cache while it is widened: as fast as a basis stored in fp64


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """The widest type that `device` adds in: fp64, but for Apple's GPU, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64


@dataclass(frozen=True)
class VectorSpace:
    """Flat real vectors of `size` entries on one device."""

    size: int
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """The type that inner products are accumulated in."""
        return accumulation_dtype(self.device)

    def dot(self, u: Float[Tensor, " n"], v: Float[Tensor, " n"]) -> float:
        """⟨u, v⟩."""
        return float(torch.dot(u.to(self.dtype), v.to(self.dtype)))

    def norm(self, v: Float[Tensor, " n"]) -> float:
        """‖v‖₂."""
        return float(torch.linalg.vector_norm(v, dtype=self.dtype))

    def random(self, generator: torch.Generator) -> Float[Tensor, " n"]:
        """A direction drawn evenly from the unit sphere."""
        v = torch.randn(self.size, generator=generator, device=self.device, dtype=torch.float32).to(self.dtype)
        return v / self.norm(v)

    def generator(self, seed: int) -> torch.Generator:
        """A private random stream on the space's device: the training run's own streams are never drawn from."""
        return torch.Generator(self.device).manual_seed(seed)

    def basis(self, capacity: int, memory_limit: float) -> Basis:
        """Room for `capacity` vectors: in the accumulation type if that fits into `memory_limit` bytes, else fp32."""
        wide = capacity * self.size * self.dtype.itemsize <= memory_limit
        return Basis(self, capacity, self.dtype if wide else torch.float32)


class Basis:
    """An orthonormal set of vectors, stored as the rows of one matrix."""

    def __init__(self, space: VectorSpace, capacity: int, dtype: torch.dtype) -> None:
        self.space = space
        self.count = 0
        self._rows = torch.empty(capacity, space.size, dtype=dtype, device=space.device)

    @property
    def capacity(self) -> int:
        return self._rows.shape[0]

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes

    def __getitem__(self, index: int) -> Float[Tensor, " n"]:
        return self._rows[: self.count][index].to(self.space.dtype)

    def append(self, v: Float[Tensor, " n"]) -> None:
        self._rows[self.count] = v
        self.count += 1

    def project(self, v: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
        """Qv, the coefficients of `v`."""
        rows = self._rows[: self.count]
        if rows.dtype == self.space.dtype:
            return rows @ v
        total = torch.zeros(self.count, dtype=self.space.dtype, device=v.device)
        for columns, part in zip(torch.split(rows, _COLUMNS, 1), torch.split(v, _COLUMNS), strict=True):
            total += columns.to(self.space.dtype) @ part
        return total

    def combine(self, coefficients: Float[Tensor, "j k"]) -> Float[Tensor, "j n"]:
        """CQ, a linear combination of the basis for each row of coefficients."""
        rows = self._rows[: self.count]
        if rows.dtype == self.space.dtype:
            return coefficients @ rows
        return torch.cat([coefficients @ part.to(self.space.dtype) for part in torch.split(rows, _COLUMNS, 1)], -1)

    def orthogonalize(self, v: Float[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " k"]]:
        """Take the basis out of `v`: the remainder and the coefficients that were taken out.

        Classical Gram–Schmidt, repeated while it takes out much of the vector (Daniel, Gragg, Kaufman & Stewart
        1976): then the remainder is orthogonal to working precision. The two newest vectors are taken out first: in
        a Lanczos step nearly everything lies along them, and one pass over the rest is then enough.
        """
        coefficients = torch.zeros(self.count, dtype=self.space.dtype, device=v.device)
        recent = max(self.count - 2, 0)
        for index in range(self.count - 1, recent - 1, -1):
            q = self[index]
            coefficients[index] = torch.dot(q, v)
            v = torch.sub(v, q, alpha=float(coefficients[index]))
        before = self.space.norm(v)
        for _ in range(3):
            step = self.project(v)
            v = v - self.combine(step)
            coefficients += step
            after = self.space.norm(v)
            if after > 0.7 * before:
                break
            before = after
        return v, coefficients

    def replace(self, coefficients: Float[Tensor, "j k"]) -> None:
        """Keep only the given combinations of the basis, computed block by block in place."""
        kept = coefficients.shape[0]
        for columns in torch.split(self._rows[: self.count], _COLUMNS, 1):
            columns[:kept] = (coefficients @ columns.to(self.space.dtype)).to(columns.dtype)
        self.count = kept

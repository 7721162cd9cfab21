"""ΔW as two factors: which rank, and what is left over, measured on the factors as they are stored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.adapters.rounding import Rounding
from eigenscope.errors import InputError
from eigenscope.lowrank.result import TruncatedSVD
from eigenscope.lowrank.truncation import truncated_svd

Rank = int | str | None
_FIRST = 16  # rank that is tried first; then four times as many
_LOW = 4  # ΔW is of low rank where no more than this part of its directions stand above the rounding
_SEARCH = 1e-2  # tolerance of singular values while the rank is looked for
_BLOCK = 1 << 18  # entries: 2 MB in fp64


@dataclass(frozen=True)
class Wish:
    """What was asked for."""

    rank: Rank  # a number; "auto"; or None: the energy alone decides
    energy: float

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not (self.rank in ("auto", None) or isinstance(self.rank, int)):
            raise InputError(f'rank={self.rank!r} is none: give a number, "auto", or None for the energy alone')
        if isinstance(self.rank, int) and self.rank < 1:
            raise InputError(f"rank={self.rank} is not possible: at least 1 is needed")
        if not 0 < self.energy <= 1:
            raise InputError(f"energy={self.energy!r} is no share: give more than 0 and at most 1, such as 0.95")


@dataclass(frozen=True)
class Factored:
    """ΔW ≈ B·A (m × r, r × n)."""

    a: Float[Tensor, "r n"]
    b: Float[Tensor, "m r"]
    rank: int
    rank_of_change: int | None  # directions above the rounding; None where they were not all counted
    chosen_by: str  # "exact": all directions above the rounding; "energy"; "given"; "rounding": the rest is rounding
    edge: float  # singular values below it are rounding
    norm: float  # ‖ΔW‖_F
    residual: float  # ‖ΔW − BA‖_F
    residual_spectral: float  # ‖ΔW − BA‖₂, at most


def factored(
    change: Float[Tensor, "m n"], rounding: tuple[Rounding, Rounding], wish: Wish, dtype: torch.dtype
) -> Factored:
    """Truncate the change (fp64) by what was wished for, and never into the rounding of the storage."""
    norm = float(torch.linalg.matrix_norm(change))
    short = min(change.shape)
    found = _exactly_low(change, rounding, norm) if wish.rank == "auto" else None
    if found is not None:
        svd, by = found, "exact"
    elif isinstance(wish.rank, int):
        svd, by = truncated_svd(change, min(wish.rank, short)), "given"
    else:
        share = max(norm**2 - rounding[0].energy, 0.0) / norm**2  # of what is not rounding
        svd, by = truncated_svd(change, energy=max(wish.energy * share, 1e-12)), "energy"
    return _cut(change, svd, by, norm, _edge(svd, rounding, norm), dtype)


def _exactly_low(change: Tensor, rounding: tuple[Rounding, Rounding], norm: float) -> TruncatedSVD | None:
    """A decomposition that reaches down to the rounding, if a low rank does."""
    most = max(min(change.shape) // _LOW, 1)
    rank = min(_FIRST, most)
    while True:
        svd = truncated_svd(change, rank, tolerance=_SEARCH)
        if svd.eckart_young_spectral <= _edge(svd, rounding, norm):
            return svd
        if rank == most or _needs_more(svd, rounding[1], norm, most):
            return None
        rank = min(4 * rank, most)


def _needs_more(svd: TruncatedSVD, rounding: Rounding, norm: float, most: int) -> bool:
    """Whether what is left holds more than `most` directions can: none of them is larger than the next."""
    left = norm**2 - float((svd.singular_values**2).sum()) - rounding.energy
    largest = svd.eckart_young_spectral + svd.eckart_young_spectral_error
    return left > (most - svd.rank) * largest**2


def _edge(svd: TruncatedSVD, rounding: tuple[Rounding, Rounding], norm: float) -> float:
    """Below it singular values are rounding: of the storage, or of fp64 where that is all there is."""
    certain, possible = rounding
    sigma = svd.singular_values
    tail = norm**2 - float((sigma[sigma > possible.edge] ** 2).sum())
    arithmetic = 8 * max(svd.shape) * 2.0**-53 * float(sigma[0])
    return max((possible if possible.explains(tail) else certain).edge, arithmetic)


def _cut(change: Tensor, svd: TruncatedSVD, by: str, norm: float, edge: float, dtype: torch.dtype) -> Factored:
    sigma = svd.singular_values
    above = int((sigma > edge).sum())
    rank = max(min(above, svd.rank), 1)
    counted = above < svd.rank or svd.eckart_young_spectral <= edge
    root = sigma[:rank] ** 0.5
    b, a = torch.as_tensor(svd.U[:, :rank] * root), torch.as_tensor(root[:, None] * svd.Vt[:rank])
    stored_b, stored_a = b.to(dtype), a.to(dtype)
    lost = float((b - stored_b.double()).norm() * a.norm() + stored_b.double().norm() * (a - stored_a.double()).norm())
    following = float(sigma[rank]) if rank < svd.rank else svd.eckart_young_spectral + svd.eckart_young_spectral_error
    residual = distance(change, stored_b, stored_a)
    return Factored(
        a=stored_a,
        b=stored_b,
        rank=rank,
        rank_of_change=above if counted else None,
        chosen_by="rounding" if rank < svd.rank and by != "exact" else by,
        edge=edge,
        norm=norm,
        residual=residual,
        residual_spectral=min(following + lost, residual) if residual > 0 else 0.0,
    )


def distance(change: Float[Tensor, "m n"], b: Float[Tensor, "m r"], a: Float[Tensor, "r n"]) -> float:
    """‖ΔW − BA‖_F in fp64, a block of rows at a time."""
    total, step = 0.0, max(_BLOCK // max(change.shape[1], 1), 1)
    wide = a.double()
    for start in range(0, len(change), step):
        part = change[start : start + step].double() - b[start : start + step].double() @ wide
        total += float((part**2).sum())
    return math.sqrt(total)

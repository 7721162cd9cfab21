"""What an extraction, an inspection, a merge found: frozen records, the same in Python and in JSON."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ExtractedLayer:
    """One weight matrix (m × n) of TUNED as BASE plus two factors; norms are of the weight's own unit."""

    name: str  # of the module
    kind: str  # "linear", "conv1d" or "conv"
    shape: tuple[int, int]  # out × in; of a convolution in × kernel
    rank: int
    rank_full: int  # min(m, n)
    rank_of_change: int | None  # directions above the rounding of the storage; None where they are too many to count
    chosen_by: str  # "exact" (all of them), "energy", "given", "rounding" (more was wished for than there is)
    energy: float  # share of ‖ΔW‖_F² that the factors hold
    residual: float  # ‖ΔW − BA‖_F/‖ΔW‖_F, of the factors as stored
    residual_of_weight: float  # ‖ΔW − BA‖_F/‖W‖_F, of TUNED's W
    residual_spectral: float  # ‖ΔW − BA‖₂ at most: no input x moves the output by more than this · ‖x‖
    relative_size: float  # ‖ΔW‖_F/‖W‖_F, of BASE's W; infinite where that is 0
    norm: float  # ‖ΔW‖_F
    rounding_edge: float  # singular values of ΔW below it are rounding
    parameters: int  # r·(m + n)
    parameters_full: int  # m·n

    def to_dict(self) -> dict[str, object]:
        """The row as JSON has it."""
        return plain(self)


@dataclass(frozen=True)
class WholeTensor:
    """A tensor that the adapter brings whole, and why."""

    name: str
    shape: tuple[int, ...]
    how: str  # "modules_to_save", "bias" or "base": loaded into the base itself
    reason: str

    def to_dict(self) -> dict[str, object]:
        """The row as JSON has it."""
        return plain(self)


@dataclass(frozen=True)
class Extraction:
    """What became of every tensor of TUNED."""

    base: str
    tuned: str
    architecture: str  # where the facts about modules are from
    layers: tuple[ExtractedLayer, ...]
    whole: tuple[WholeTensor, ...]
    unchanged: tuple[str, ...]
    rounded: tuple[str, ...]  # differ by the rounding of their storage alone: left as BASE has them
    parameters: int  # that the adapter stores
    parameters_full: int  # of all tensors that changed
    parameters_model: int
    bytes: int
    notes: tuple[str, ...]
    seconds: float

    @property
    def residual(self) -> float:
        """‖ΔW − BA‖_F/‖ΔW‖_F over all layers with factors."""
        total = math.hypot(*(layer.norm for layer in self.layers))
        return math.hypot(*(layer.residual * layer.norm for layer in self.layers)) / total if total else 0.0

    def to_dict(self) -> dict[str, object]:
        """The report as JSON."""
        return {**plain(self), "residual": self.residual}


@dataclass(frozen=True)
class InspectedLayer:
    """The update of one weight by an adapter: what it uses of its rank."""

    name: str
    shape: tuple[int, int]  # out × in
    rank: int  # nominal: rows of A
    scaling: float  # α/r, or α/√r
    singular_values: tuple[float, ...]  # of scaling · B·A, descending; exact to the rounding of fp64
    rank_used: int  # singular values above the rounding of the stored factors
    effective_rank: float  # (Σσ)²/Σσ²
    stable_rank: float  # Σσ²/σ₁²
    rank_enough: int  # the least that holds `energy` of Σσ²
    parameters: int
    relative_size: float | None = None  # ‖ΔW‖_F/‖W‖_F; None without a base
    overlap: float | None = None  # of the leading directions of W and W + ΔW
    intruders: int | None = None  # leading directions of W + ΔW that W lacks

    def to_dict(self) -> dict[str, object]:
        """The row as JSON has it."""
        return plain(self)


@dataclass(frozen=True)
class Inspection:
    """An adapter, layer by layer, and the rank that would do."""

    adapter: str
    base: str | None
    energy: float
    layers: tuple[InspectedLayer, ...]
    whole: tuple[WholeTensor, ...]
    rank: int  # the largest nominal one
    rank_enough: int  # the largest that a layer needs to hold `energy`
    parameters: int  # of the factors
    parameters_enough: int  # of factors of each layer's `rank_enough`
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """The inspection as JSON."""
        return plain(self)


@dataclass(frozen=True)
class ResizedLayer:
    """One update before and after."""

    name: str
    rank_before: int
    rank: int
    energy: float  # share of ‖ΔW‖_F² that is kept
    residual: float  # ‖ΔW − ΔW′‖_F/‖ΔW‖_F, of the factors as stored


@dataclass(frozen=True)
class Resize:
    """An adapter at other ranks."""

    adapter: str
    layers: tuple[ResizedLayer, ...]
    parameters_before: int
    parameters: int
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """The report as JSON."""
        return plain(self)


@dataclass(frozen=True)
class Merge:
    """A model that an adapter was added to."""

    base: str
    adapter: str
    out: str
    merged: tuple[str, ...]  # weights that ΔW was added to
    replaced: tuple[str, ...]  # tensors that the adapter brought whole
    added: tuple[str, ...]  # of those the ones that the base lacks
    bytes: int
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """The report as JSON."""
        return plain(self)


def plain(record: Any) -> dict[str, object]:
    """A record of records as dictionaries and lists."""
    return dataclasses.asdict(record)

"""What a tool must answer, and what is counted while it does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from workloads import Workload

Settings = dict[str, Any]
Families = list[list[Settings]]


@dataclass(frozen=True)
class Spectrum:
    """The extremes, largest first, and the density as a quadrature: nodes and weights that sum to 1."""

    top: list[float]
    lambda_min: float
    nodes: list[float]
    weights: list[float]


@dataclass(frozen=True)
class Reading:
    """A whole reading and its products; one call may pay for both parts of it."""

    spectrum: Spectrum
    trace: float
    num_matvecs: int


class Peer(ABC):
    """One tool set up on one workload, with its products counted.

    ``spectrum_families`` and ``trace_families`` list the settings that :mod:`tune` tries: within a
    family from cheap to dear, so that the first that reaches the targets is the family's cheapest.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    spectrum_families: ClassVar[Families]
    trace_families: ClassVar[Families]

    num_matvecs = 0

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.criterion = nn.CrossEntropyLoss()

    @abstractmethod
    def product(self, vector: Tensor) -> Tensor:
        """One product of the Hessian with a flat vector, as the tool computes it."""

    @abstractmethod
    def spectrum(self, settings: Settings, seed: int) -> Spectrum:
        """Top 10, smallest eigenvalue and density by the tool's own calls."""

    @abstractmethod
    def trace(self, settings: Settings, seed: int) -> float:
        """The trace by the tool's own estimator."""

    def counted(self, product: Callable[..., Any]) -> Callable[..., Any]:
        """The same product, counted."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.num_matvecs += 1
            return product(*args, **kwargs)

        return call


def from_quadrature(nodes: Any, weights: Any) -> Spectrum:
    """Read the extremes off the nodes of one Lanczos run."""
    ordered = sorted(zip(map(float, nodes), map(float, weights), strict=True))
    values = [value for value, _ in ordered]
    return Spectrum(values[::-1][:10], values[0], values, [weight for _, weight in ordered])

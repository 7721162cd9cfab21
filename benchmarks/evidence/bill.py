"""What a run has cost, in gradients of one sample, so that runs with and without measuring get equal compute."""

from __future__ import annotations

from dataclasses import dataclass

PRODUCT = 2.2  # gradients a Hessian product may cost at most (benchmarks/curvature.py measures 1.7 to 2.2)


@dataclass
class Bill:
    """Gradients of one sample: of the steps, and of the measuring."""

    training: float = 0.0
    measuring: float = 0.0

    def gradient(self, samples: int) -> None:
        """One forward and backward pass of a step over so many samples."""
        self.training += samples

    def products(self, count: float, samples: int) -> None:
        """So many products with a Hessian over so many samples, and the gradient that each measurement starts with."""
        self.measuring += PRODUCT * count * samples

    def passes(self, count: float, samples: int) -> None:
        """So many forward-and-backward passes of a measurement."""
        self.measuring += count * samples

    @property
    def total(self) -> float:
        """What both come to."""
        return self.training + self.measuring

    @property
    def share(self) -> float:
        """Of the measuring in all."""
        return self.measuring / self.total if self.total else 0.0

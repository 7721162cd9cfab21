"""A number that knows how far it may be off."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value with the error that it carries; a value that can't be given says why in `reason`."""

    value: float | None
    error: float | None = None  # proven: an eigenvalue lies within (a Ritz residual), or what follows from that
    standard_error: float | None = None  # statistical: one standard deviation, over random vectors
    sampling_error: float | None = None  # statistical: one standard deviation, over the probe's batches
    reason: str | None = None

    def to_dict(self) -> dict[str, object]:
        rest = {k: v for k, v in vars(self).items() if k != "value" and v is not None}
        return {"value": self.value, **rest}

    @property
    def spread(self) -> float | None:
        """The error to draw: the proven one, or the statistical."""
        return self.error if self.error is not None else self.standard_error

    def __str__(self) -> str:
        if self.value is None:
            return self.reason or "not known"
        return f"{self.value:.4g}" if self.spread is None else f"{self.value:.4g} ± {self.spread:.1g}"

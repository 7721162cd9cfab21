"""Everything that `lipschitz` says."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

from eigenscope.bounds.composition import LayerBound
from eigenscope.bounds.robustness import SampleRobustness
from eigenscope.diagnostics.estimate import Estimate


@dataclass(frozen=True)
class LipschitzReading:
    """How far an input can push the output: bounds in ℓ2, over all inputs, and what they promise each sample.

    ``lipschitz_lower ≤ the Lipschitz constant ≤ lipschitz_upper ≤ lipschitz_product``. `to_dict()` gives the JSON that
    the command line prints and the run file holds: the same names.
    """

    layers: tuple[LayerBound, ...]
    lipschitz_lower: Estimate  # proven: the largest ‖J‖₂ found, on the data or by ascent from it
    lipschitz_upper: Estimate  # certified, for every input
    lipschitz_product: Estimate  # the same composition from each layer's norm by itself: loose
    method: str  # "eclipse_fast" where that made the upper bound tighter, else "composition"
    no_global_bound: str | None  # the layer that is proven to have no constant, in a sentence
    local: float | None  # the largest ‖J‖₂ over the probe
    samples: tuple[SampleRobustness, ...]
    certified_radius: float | None  # median over the samples
    attacked_radius: float | None  # median; None where half or more withstood the attack
    risk: str
    probe_samples: int
    num_matvecs: int  # products with J and Jᵀ, each for a whole batch
    seconds: float
    step: int
    ball: str = "everywhere"  # where the bounds hold: over all inputs of the probe's shapes
    notes: tuple[str, ...] = field(default=())

    @property
    def ratio(self) -> float | None:
        """Upper ÷ lower: how much the bound may be too large."""
        upper, lower = self.lipschitz_upper.value, self.lipschitz_lower.value
        return upper / lower if upper is not None and lower else None

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, strings, lists and dictionaries."""
        product = self.lipschitz_product.value
        return {
            "layers": [asdict(layer) | {"input_shape": list(layer.input_shape)} for layer in self.layers],
            "lipschitz_lower": self.lipschitz_lower.to_dict(),
            "lipschitz_upper": self.lipschitz_upper.to_dict(),
            "lipschitz_product": self.lipschitz_product.to_dict() | {"log10": _log10(product)},
            "ratio": self.ratio,
            **{name: getattr(self, name) for name in _PLAIN},
            "samples": [asdict(sample) for sample in self.samples],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        certified, attacked = _radius(self.certified_radius), _radius(self.attacked_radius)
        lines = {
            "Lipschitz": f"{self.lipschitz_lower} proven … {self._certified()}",
            "product": "not known" if self.lipschitz_product.value is None else f"{self.lipschitz_product} (loose)",
            "radius": f"{certified} certified   {attacked} attacked   (medians)",
            "risk": self.risk,
            "cost": f"{self.num_matvecs} products, {self.seconds:.2g} s, {self.probe_samples} samples",
        }
        notes = [f"note       {note}" for note in self.notes]
        return "\n".join([*(f"{name:10} {text}" for name, text in lines.items()), *notes])

    def _certified(self) -> str:
        upper = self.lipschitz_upper
        return f"nothing certified: {upper.reason}" if upper.value is None else f"{upper} certified ({self.method})"


_PLAIN = (
    "method", "no_global_bound", "local", "ball", "certified_radius", "attacked_radius", "risk", "probe_samples",
    "num_matvecs", "seconds", "step",
)  # fmt: skip


def _log10(value: float | None) -> float | None:
    return math.log10(value) if value else None


def _radius(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3g}"

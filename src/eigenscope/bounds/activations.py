"""Activations: between which two slopes each one runs.

The Lipschitz constant is the larger of the two in magnitude. An activation whose slopes lie in [0, s] is s times one
with slopes in [0, 1], which is what the composition bound for dense chains asks for.

The digits that are no closed form are the extremes of the derivative, found to 10 places and rounded outward
(`tests/bounds/test_activations.py` finds them again on a dense grid).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Slopes:
    """`low` ≤ (φ(x) − φ(y)) / (x − y) ≤ `high` for all x ≠ y."""

    low: float
    high: float

    @property
    def constant(self) -> float:
        """The Lipschitz constant."""
        return max(abs(self.low), abs(self.high))


Arguments = Mapping[str, Any]

_GELU = 0.5 * (1 + math.erf(1)) + math.exp(-1) / math.sqrt(math.pi)  # Φ(√2) + √2·φ(√2) = 1.1289
_GELU_TANH = 1.1289930687  # Hendrycks & Gimpel's approximation, at x = 1.41850
_SILU = 1.0998393202  # at x = 2.39936
_MISH = (-0.1125261225, 1.0884981613)  # at x = −2.25638 and x = 1.49057

_FIXED = {
    "relu": Slopes(0, 1),
    "relu6": Slopes(0, 1),
    "hardtanh": Slopes(0, 1),
    "clamp": Slopes(0, 1),
    "clamp_min": Slopes(0, 1),
    "clamp_max": Slopes(0, 1),
    "tanh": Slopes(0, 1),
    "sigmoid": Slopes(0, 0.25),
    "log_sigmoid": Slopes(0, 1),
    "softshrink": Slopes(0, 1),
    "hardsigmoid": Slopes(0, 0.1666667),  # 1/6, which ATen holds in fp32
    "hardswish": Slopes(-0.5, 1.5),
    "silu": Slopes(1 - _SILU, _SILU),  # silu(x) − silu(−x) = x: the derivatives at ±x add up to 1
    "mish": Slopes(*_MISH),
    "selu": Slopes(0, 1.0507009873554805 * 1.6732632423543772),  # Klambauer et al. 2017: λ·α just below 0
    "abs": Slopes(-1, 1),
    "sin": Slopes(-1, 1),
    "cos": Slopes(-1, 1),
    "atan": Slopes(0, 1),
    "asinh": Slopes(0, 1),
    "erf": Slopes(0, 2 / math.sqrt(math.pi)),
}


def _leaky(slope: float) -> Slopes:
    return Slopes(min(1.0, slope), max(1.0, slope))


def _elu(arguments: Arguments) -> Slopes | None:
    alpha, scale, inner = (float(arguments[key]) for key in ("alpha", "scale", "input_scale"))
    if inner < 0:  # grows like an exponential towards −∞
        return None
    left = alpha * scale * inner  # the slope just below 0; towards −∞ it goes to 0
    return Slopes(min(0.0, left, scale), max(0.0, left, scale))


def _softplus(arguments: Arguments) -> Slopes | None:
    """Above its threshold it is the identity, and jumps there: allowed up to the rounding of fp32."""
    beta, threshold = float(arguments.get("beta", 1)), float(arguments.get("threshold", 20))
    if beta == 0 or not threshold > 0 or math.log1p(math.exp(-threshold)) > 2**-24 * threshold:
        return None
    return Slopes(0, 1)


def _rrelu(arguments: Arguments) -> Slopes | None:
    """In evaluation mode with the mean slope; while training it is random."""
    if arguments.get("training"):
        return None
    return _leaky((float(arguments["lower"]) + float(arguments["upper"])) / 2)


def _gelu(arguments: Arguments) -> Slopes:
    high = _GELU_TANH if arguments.get("approximate") == "tanh" else _GELU
    return Slopes(1 - high, high)  # gelu(x) − gelu(−x) = x


def _prelu(arguments: Arguments) -> Slopes:
    weight: Tensor = arguments["weight"]
    return Slopes(min(1.0, float(weight.min())), max(1.0, float(weight.max())))


_COMPUTED: dict[str, Callable[[Arguments], Slopes | None]] = {
    "leaky_relu": lambda arguments: _leaky(float(arguments["negative_slope"])),
    "elu": _elu,
    "gelu": _gelu,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "rrelu": _rrelu,
    "softplus": _softplus,
    "celu": lambda arguments: Slopes(0, 1) if float(arguments.get("alpha", 1)) > 0 else None,
}

ACTIVATIONS = frozenset({*_FIXED, *_COMPUTED})


def slopes(name: str, arguments: Arguments) -> Slopes | None:
    """The slopes of an activation, by its name in ATen and its arguments there; None where these make it jump or let it
    grow without limit."""
    return _FIXED[name] if name in _FIXED else _COMPUTED[name](arguments)

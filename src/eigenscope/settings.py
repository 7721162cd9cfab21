"""What a look may cost, and what one look leaves for the next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Self

from jaxtyping import Float
from torch import Tensor

from eigenscope.diagnostics.density import Spectrum
from eigenscope.diagnostics.extremes import Extremes
from eigenscope.errors import InputError
from eigenscope.operators import GaussNewtonOperator, HessianOperator, VectorSpace
from eigenscope.operators.checks import SelfCheck
from eigenscope.operators.loss_operator import LossOperator
from eigenscope.words import did_you_mean

MATRICES: dict[str, type[LossOperator]] = {"hessian": HessianOperator, "gauss_newton": GaussNewtonOperator}
_KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a word"}
_LEAST = {
    "top": 1, "max_matvecs": 8, "warm_matvecs": 4, "tolerance": 1e-12, "warm_tolerance": 1e-12,
    "trace_tolerance": 1e-12, "gradient_tolerance": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How much a look may cost and how exact it has to be. The defaults are `benchmarks/curvature.py`'s goals."""

    matrix: str = "hessian"  # or "gauss_newton"
    method: str = "auto"  # how products are made; see `eigenscope.operators.loss_operator.METHODS`
    top: int = 10  # eigenvalues wanted from the upper end
    max_matvecs: int = 60  # products of a cold look, at most
    tolerance: float = 1e-3  # relative error to reach in a cold look, of both ends and the top few
    warm_matvecs: int = 25  # products of a warm look, at most
    warm_tolerance: float = 1e-2  # relative error to reach in a warm look
    trace_tolerance: float = 0.025  # standard error of the trace to reach, relative to it
    gradient_tolerance: float = 1e-3  # the gradient vanishes if one step along it promises less than this of the loss
    memory_limit: float | None = None  # bytes for graphs and Krylov vectors; half of what is free by default
    train_mode: bool = False  # measure in training mode instead of evaluation mode
    seed: int = 0  # of the random start vectors

    @classmethod
    def of(cls, given: dict[str, Any], others: Iterable[str] = ()) -> Self:
        """From keyword arguments; raises `InputError` for one that is neither a field nor among the `others`."""
        fields = vars(cls())
        for name in given.keys() - fields.keys():
            raise InputError(f"there is no setting {name!r}{did_you_mean(name, [*fields, *others])}")
        return cls(**given)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            kind = type(getattr(Settings, name)) if name != "memory_limit" or value is None else float
            if not isinstance(value, Real if kind is float else Integral if kind is int else kind):
                raise InputError(f"{name}={value!r}: {_KINDS[kind]} is needed")
        if self.matrix not in MATRICES:
            raise InputError(f"matrix={self.matrix!r} is not one of {', '.join(MATRICES)}")
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise InputError(f"{name}={getattr(self, name)} is too little: at least {least:g} is needed")
        if self.memory_limit is not None and not self.memory_limit > 0:
            raise InputError(f"memory_limit={self.memory_limit:g}: a number of bytes over 0 is needed")


@dataclass
class Memory:
    """What one look leaves for the next: Ritz vectors to start from, and what need not be measured each time."""

    vectors: Float[Tensor, "k n"] | None = None  # both ends of the spectrum, ascending
    negative: int = 0  # how many of them are from the lower end
    scaled_vectors: Float[Tensor, "k n"] | None = None  # the leading ones of P⁻¹H
    spectrum: Spectrum | None = None  # of the last cold look
    ends: Extremes | None = None  # of the same look
    checked: SelfCheck | None = None
    looks: int = 0

    def fits(self, space: VectorSpace) -> bool:
        """Whether the vectors still are of this size: layers may have been frozen or thawed since."""
        return self.vectors is None or self.vectors.shape[1] == space.size

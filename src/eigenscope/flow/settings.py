"""What to measure of the signal flow, and how well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from eigenscope.errors import InputError
from eigenscope.words import did_you_mean


@dataclass(frozen=True)
class FlowSettings:
    """The settings of `eigenscope.signal_flow`."""

    blocks: Sequence[str] | None = None  # names or globs of modules; by default found by running the model
    tolerance: float = 1e-2  # relative, of sigma_max
    max_matvecs: int = 40  # products with JᵀJ for a block, at most
    sigma_min: bool = False  # the smallest singular value too
    spectrum: bool = False  # the distribution of all singular values
    branches: bool = True  # residual blocks also without their identity
    train_mode: bool = False  # batch norm by the batch's own statistics
    seed: int = 0

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """From keyword arguments; raises `InputError` for one that is no field."""
        fields = vars(cls())
        for name in given.keys() - fields.keys():
            raise InputError(f"there is no setting {name!r}{did_you_mean(name, [*fields, 'try_remedies'])}")
        return cls(**given)

    def __post_init__(self) -> None:
        if isinstance(self.blocks, str):
            raise InputError(f"blocks={self.blocks!r}: a list of module names is needed, as [{self.blocks!r}]")
        if self.blocks is not None and not self.blocks:
            raise InputError("blocks is empty: name at least one module, or leave it out")
        if not 0 < self.tolerance < 1:
            raise InputError(f"tolerance={self.tolerance:g}: a relative error between 0 and 1 is needed")
        if self.max_matvecs < 2:
            raise InputError(f"max_matvecs={self.max_matvecs}: at least 2 products are needed")

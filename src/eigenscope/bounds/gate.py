"""The last look at a certificate: nothing that was seen may contradict it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eigenscope.bounds.robustness import SampleRobustness
from eigenscope.bounds.value import Value, unknown

_ROUNDING = 1e-6  # relative, of what was seen
_REPORT = "this is a bug in eigenscope: please report the model"


def contradiction(lower: float | None, bound: float | None, samples: Sequence[SampleRobustness]) -> str | None:
    """Why the certificate can't be right, in a sentence; None where nothing speaks against it."""
    if bound is None:
        return None
    if lower is not None and lower > bound * (1 + _ROUNDING):
        return f"withdrawn: a slope of {lower:.6g} was found, above the bound of {bound:.6g}; {_REPORT}"
    for sample in samples:
        certified, attacked = sample.certified_radius, sample.attacked_radius
        if certified is not None and attacked is not None and attacked * (1 + _ROUNDING) < certified:
            return (
                f"withdrawn: sample {sample.index} flips at {attacked:.6g}, within its certified radius "
                f"{certified:.6g}; {_REPORT}"
            )
    return None


def withdrawn(reason: str, samples: Sequence[SampleRobustness]) -> tuple[Value, tuple[SampleRobustness, ...]]:
    """The bound and the samples without their certificates."""
    return unknown(reason), tuple(replace(sample, certified_radius=None) for sample in samples)

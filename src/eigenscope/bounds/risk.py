"""The risk in words, and which of the two numbers, certificate or attack, they rest on."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from eigenscope.bounds.robustness import SampleRobustness
from eigenscope.words import counted


def risk(
    samples: Sequence[SampleRobustness], certified: bool, reason: str | None, attacked: bool, local: float | None
) -> str:
    """One sentence or two; `reason` says why nothing is certified, `local` is the largest ‖J‖₂ over the probe."""
    if not samples:
        slope = "" if local is None else f"; on the probe a small change is magnified up to {local:.3g} times"
        return f"no margin, so no radius{slope}"
    right = [s for s in samples if s.margin > 0]
    if not right:
        return "every answer on the probe is wrong as it is: nothing to flip"
    found = _found(right) if attacked else "no attack was run"
    if not certified:
        rests = "This rests on the attack alone, which shows danger and never its absence." if attacked else ""
        return f"nothing is certified ({reason}); {found}. {rests}".strip()
    rests = "This rests on the certificate, a proof"
    rests += ", and on the attack, an example: the truth lies between." if attacked else "."
    return f"{_certified(right)}; {found}. {rests}"


def _certified(right: Sequence[SampleRobustness]) -> str:
    radii = [s.certified_radius or 0.0 for s in right]
    answers = counted(len(right), "answer" if right[0].label is None else "right answer")
    return f"certified: no change of norm below {min(radii):.2g} flips any of {answers} (median {_median(radii)})"


def _found(right: Sequence[SampleRobustness]) -> str:
    radii = [math.inf if s.attacked_radius is None else s.attacked_radius for s in right]
    if min(radii) == math.inf:
        return "found: no attack succeeded"
    middle = statistics.median_high(radii)
    half = f"half at {middle:.2g}" if middle < math.inf else "fewer than half at all"
    return f"found: one flips at {min(radii):.2g}, {half}"


def _median(radii: Sequence[float]) -> str:
    return f"{statistics.median(radii):.2g}"

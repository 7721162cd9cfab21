"""What a matrix teaches, in two sentences: the first of these kinds that it is an example of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eigenscope.explain.relations import tellable
from eigenscope.explain.solution import Solution, floats
from eigenscope.explain.words import in_words, low, noun, percent, several
from eigenscope.words import counted

_STRAIGHT = 0.02  # of a power law: how far log σ may lie from its line, as a share of its range
_MOST_RELATIONS = 2  # told in a sentence


def lesson(solution: Solution) -> str:
    """Two sentences."""
    return next(words for kind in _KINDS if (words := kind(solution)) is not None)


def _zero(solution: Solution) -> str | None:
    if solution.rank:
        return None
    return "The zero matrix sends every input to 0: all singular values are 0. Any bases serve as `U` and `V`."


def _single(solution: Solution) -> str | None:
    if len(solution.matrix) > 1 or len(solution.matrix[0]) > 1:
        return None
    return (
        "A single number stretches by its absolute value; its sign goes into `u`. That is all that a singular "
        "value decomposition does, in every direction."
    )


def _diagonal(solution: Solution) -> str | None:
    entries = solution.matrix
    if any(entry for i, line in enumerate(entries) for j, entry in enumerate(line) if i != j):
        return None
    lost = len(entries[0]) - solution.rank
    tail = f", and {noun(lost, 'direction')} without an entry of its own is lost" if lost > 0 else ""
    return (
        "A diagonal matrix stretches along the axes, so the axes are the singular vectors and the sizes of the "
        f"diagonal entries are the singular values. {_mirrored(solution)}{tail}."
    )


def _mirrored(solution: Solution) -> str:
    """What negative entries on the diagonal do: each mirrors its axis, and two mirrors are a half turn."""
    flipped = sum(float(entry) < 0 for i, line in enumerate(solution.matrix) for entry in line[i : i + 1])
    if not flipped:
        return "Nothing is turned"
    if flipped == 1:
        return "The negative entry mirrors its axis, `u = −v` there"
    turned = ", which together is a half turn" if flipped == 2 else ""
    return f"The {in_words(flipped)} negative entries mirror their axes, `u = −v` there{turned}"


def _rectangular(solution: Solution) -> str | None:
    m, n = len(solution.matrix), len(solution.matrix[0])
    if m == n:
        return None
    matter = "matters" if solution.rank == 1 else "matter"
    start = (
        f"A {m} × {n} matrix has two spaces, which `U` and `V` describe: {counted(n, 'input')}, in which "
        f"{several('v', 1, solution.rank)} {matter}, and {counted(m, 'output')}, in which "
        f"{several('u', 1, solution.rank)} can be reached."
    )
    lost, missed = n - solution.rank, m - solution.rank
    ends = [f"{noun(lost, 'direction')} of the input {_is(lost)} lost" if lost else "no input is lost"]
    ends.append(
        f"{noun(missed, 'direction')} of the output {_is(missed)} never reached"
        if missed
        else "every output is reached"
    )
    because = f", because {_relations(solution)}" if missed and solution.rank < n else ""
    return f"{start} {ends[0].capitalize()}, and {ends[1]}{because}."


def _deficient(solution: Solution) -> str | None:
    n = len(solution.matrix)
    if solution.rank == n:
        return None
    lost = n - solution.rank
    zeros = "singular value is 0" if lost == 1 else "singular values are 0"
    return (
        f"{_relations(solution).capitalize()}: so the rank is {solution.rank}, not {n}, and {in_words(lost)} {zeros}. "
        f"Inputs along {several('v', solution.rank + 1, n)} vanish (the null space), and no input makes an output "
        f"along {several('u', solution.rank + 1, n)}."
    )


def _orthogonal(solution: Solution) -> str | None:
    values = solution.singular_values
    if len(values) == 1 or values[0] - values[-1] > 1e-12 * values[0]:
        return None
    size = f"{values[0]:.10g}"
    return (
        f"All singular values are {size}: the matrix turns or mirrors and stretches every direction alike, so the "
        "circle stays a circle. Any orthonormal basis serves as `V`, and no direction matters more than another."
    )


def _symmetric(solution: Solution) -> str | None:
    matrix = floats(solution.matrix)
    if not np.array_equal(matrix, matrix.T):
        return None
    if np.linalg.eigvalsh(matrix)[0] > 0:
        return (
            "`A` is symmetric and positive definite, so its singular values are its eigenvalues and `U = V`: it "
            "stretches along orthogonal directions and turns nothing. The direction `v₁` is stretched "
            f"{_ratio(solution)} times as much as {_last(solution)}: that is the condition number."
        )
    return (
        "`A` is symmetric but not positive definite: its singular values are the absolute values of its eigenvalues. "
        "Where an eigenvalue is negative, `u = −v`: the direction is flipped as well as stretched."
    )


def _power_law(solution: Solution) -> str | None:
    values = np.array(solution.singular_values)
    if len(values) < 4:
        return None
    x, y = np.log(np.arange(1, len(values) + 1)), np.log(values)
    slope, start = np.polyfit(x, y, 1)
    if slope > -0.3 or np.abs(y - (slope * x + start)).max() > _STRAIGHT * np.ptp(y):
        return None
    held = np.cumsum(values**2) / np.sum(values**2)
    half = max(len(values) // 2, 1)
    power = f"1/i{'' if abs(slope + 1) < 0.005 else f' to the power {-slope:.2g}'}"
    return (
        f"The rank is full, and the singular values fall like {power}: none is 0, and there is no step at which to "
        f"cut. Yet the first {noun(half, 'term').removeprefix('one ')} hold {percent(held[half - 1])} of `Σσ²` and "
        f"the first alone {percent(held[0])}: how much to keep is a choice, not a fact."
    )


def _full(solution: Solution) -> str | None:
    values = np.array(solution.singular_values)
    held = values[0] ** 2 / np.sum(values**2)
    return (
        f"The rank is full: no input is lost, and the matrix can be inverted, with `v₁` stretched {_ratio(solution)} "
        f"times as much as {_last(solution)} (the condition number). The first term alone holds {percent(held)} of "
        f"`Σσ²`; without it the error is at most `σ₂` = {values[1]:.4g} in any direction."
    )


def _relations(solution: Solution) -> str:
    told = tellable(solution.matrix) if solution.rank_exact else ()
    more = (
        f", and {noun(len(told) - _MOST_RELATIONS, 'more row')} depend on others" if len(told) > _MOST_RELATIONS else ""
    )
    return " and ".join(told[:_MOST_RELATIONS]) + more or "the rows depend on each other"


def _ratio(solution: Solution) -> str:
    values = solution.singular_values
    return f"{values[0] / values[-1]:.4g}"


def _last(solution: Solution) -> str:
    return f"`v{low(len(solution.singular_values))}`"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


_KINDS: tuple[Callable[[Solution], str | None], ...] = (
    _zero, _single, _diagonal, _rectangular, _deficient, _orthogonal, _symmetric, _power_law, _full
)  # fmt: skip

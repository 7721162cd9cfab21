"""From a small matrix to the derivation of its singular value decomposition, ready to be rendered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

from eigenscope.explain.numbers import root_of
from eigenscope.explain.parsing import entries
from eigenscope.explain.solution import SECONDS, Solution, solve
from eigenscope.explain.steps import Step
from eigenscope.explain.text import body, inline, plain
from eigenscope.explain.writing import written


@dataclass(frozen=True)
class SingularValue:
    """One singular value: √λ of an eigenvalue λ of the Gram matrix."""

    value: float
    exact: str | None  # as it is printed, "√(325 + √103705)"; None where it can't be written down


@dataclass(frozen=True)
class Derivation:
    """The singular value decomposition A = UΣVᵀ of a small matrix, with every step that leads there."""

    title: str
    matrix: tuple[tuple[Fraction, ...], ...]  # m × n
    singular_values: tuple[SingularValue, ...]  # min(m, n), descending
    rank: int  # exact where entries have up to 12 digits; else what double precision tells from 0
    u: tuple[tuple[float, ...], ...]  # m × m, left singular vectors in the columns
    v: tuple[tuple[float, ...], ...]  # n × n, right singular vectors in the columns
    exact: bool  # U, Σ and V are known exactly, and UΣVᵀ − A was found to be 0 exactly
    reason: str  # why not exact, as a clause; "" where it is
    residual: float  # the largest entry of |UΣVᵀ − A| in double precision
    lesson: str  # two sentences
    steps: tuple[Step, ...]

    def to_dict(self) -> dict[str, object]:
        """For JSON: entries of the matrix as fractions, the steps as plain text."""
        told = {
            "matrix": [[str(entry) for entry in row] for row in self.matrix],
            "steps": [{"title": step.title, "text": body(step)} for step in self.steps],
        }
        return {name: value for name, value in asdict(self).items() if name not in told} | told


def derive(
    rows: Sequence[Sequence[object]],
    *,
    name: str = "",
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Derivation:
    """Work a matrix out by hand.

    Parameters
    ----------
    rows
        Whole numbers, fractions, floats (taken as the shortest decimal that stands for them) or strings such as "1/3".
    name
        What the matrix is called in the title.
    seconds
        After so much exact arithmetic the rest is done in double precision; `clock` tells the time.

    Raises
    ------
    InputError
        What was given is not a matrix of at most 12 × 12 finite numbers.
    """
    given = entries(rows)
    solution = solve(given, seconds, clock)
    steps, lesson = written(solution)
    about = f"a {len(given)} × {len(given[0])} matrix by hand"
    return Derivation(
        title=f"{name}: {about}" if name else about.capitalize(),
        matrix=given,
        singular_values=_singular_values(solution),
        rank=solution.rank,
        u=_rows(solution, "u"),
        v=_rows(solution, "v"),
        exact=solution.exact,
        reason=solution.reason,
        residual=solution.residual,
        lesson=plain(lesson),
        steps=steps,
    )


def _singular_values(solution: Solution) -> tuple[SingularValue, ...]:
    pairs = zip(solution.singular_values, solution.squares, strict=True)
    return tuple(SingularValue(value, None if square is None else inline(root_of(square))) for value, square in pairs)


def _rows(solution: Solution, side: str) -> tuple[tuple[float, ...], ...]:
    return tuple(zip(*(column.numbers for column in getattr(solution, side)), strict=True))

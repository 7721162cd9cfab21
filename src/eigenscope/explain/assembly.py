"""The steps that put the parts together: rank, the product UΣVᵀ, and A as a sum of matrices of rank 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from eigenscope.explain import numbers
from eigenscope.explain.formula import Formula, Grid, Number, math, row
from eigenscope.explain.relations import tellable
from eigenscope.explain.solution import Column, Floats, Solution
from eigenscope.explain.steps import Display, Part, Prose, Table
from eigenscope.explain.words import low, noun, percent, several

_SHOWN_TERMS = 6


def rank_and_lost_directions(solution: Solution) -> Iterator[Part]:
    """How many singular values aren't 0, and what the zeros mean."""
    m, n, rank = len(solution.matrix), len(solution.matrix[0]), solution.rank
    full = " It is as large as it can be." if rank == min(m, n) else ""
    counted = f"{noun(rank, 'singular value').capitalize()} {'is' if rank == 1 else 'are'} not 0"
    yield Prose(f"{counted}, so the rank is {rank}.{full}")
    if not solution.rank_exact:
        yield Prose("That is what double precision tells from 0: `2·10⁻¹⁶` of the largest for each row or column.")
    elif relations := tellable(solution.matrix):
        yield Prose(f"The rows show why: {'; '.join(relations)}.")
    if n > rank:
        yield Prose(f"The null space, the inputs that `A` sends to 0, is spanned by {several('v', rank + 1, n)}.")


def check(solution: Solution) -> Iterator[Part]:
    """UΣVᵀ − A."""
    u, v = _orthogonal(solution.u), _orthogonal(solution.v)
    for name, (sign, shown) in {"U": u, "V": v}.items():
        yield Display(row(name, sign, shown))
    yield Display(row("Σ", *_sigma(solution)))
    if solution.exact and "≈" in (u[0], v[0]):
        yield Prose(
            "Entries that are too long for the page are rounded here; the check below is made with the exact ones."
        )
    yield Prose("The columns of `U` are orthogonal and of length 1, and so are those of `V`: `UᵀU = I`, `VᵀV = I`.")
    if solution.exact:
        assert solution.reconstructs(), "exact terms must sum to the matrix"
        yield Display(row("UΣVᵀ − A = 0"))
        yield Prose("That holds exactly. Worked out in double precision, the largest entry of the difference is")
    else:
        yield Prose("In double precision, the largest entry of the difference is")
    found = row("= 0") if solution.residual == 0 else numbers.approximately(solution.residual, 1)
    yield Display(row('"max "|UΣVᵀ − A|', found))


def _orthogonal(columns: Sequence[Column]) -> tuple[str, Grid]:
    """The matrix with these columns: exact where all its entries are short."""
    values = np.array([column.numbers for column in columns]).T
    entries = [
        [numbers.unit_entry(entry, column.square) for entry in column.direction]
        for column in columns
        if column.direction is not None
    ]
    if len(entries) < len(columns):
        return "≈", numbers.rounded_matrix(values.tolist())
    exact = list(zip(*entries, strict=True))
    shown = numbers.grid(exact, values.tolist())
    return ("≈" if numbers.is_rounded(shown, exact) else "="), shown


def _sigma(solution: Solution) -> tuple[Formula, ...]:
    m, n = len(solution.matrix), len(solution.matrix[0])
    exact: list[list[Formula]] = [[Number("0")] * n for _ in range(m)]
    values = np.zeros((m, n))
    for i, (value, square) in enumerate(zip(solution.singular_values, solution.squares, strict=True)):
        exact[i][i] = numbers.rounded(value) if square is None else numbers.root_of(square)
        values[i, i] = value
    shown = numbers.grid(exact, values.tolist())
    rounded = numbers.is_rounded(shown, exact) or any(square is None for square in solution.squares)
    return row("≈" if rounded else "=", numbers.rounded_matrix(values.tolist()) if rounded else shown).items


def terms(solution: Solution) -> Iterator[Part]:
    """A as a sum of σᵢuᵢvᵢᵀ, and how much the first of them hold."""
    if not solution.rank:
        return
    parts = [f"σ{low(i)}u{low(i)}v{low(i)}ᵀ" for i in range(1, solution.rank + 1)]
    yield Display(row(f"A = {' + '.join(parts if len(parts) <= 4 else [*parts[:2], '…', parts[-1]])}"))
    for index in range(min(solution.rank, _SHOWN_TERMS)):
        yield Display(row(f"σ{low(index + 1)}u{low(index + 1)}v{low(index + 1)}ᵀ", _term(solution, index)))
    yield Prose(
        "The first `k` terms are the best approximation of rank `k` there is (Eckart and Young 1936). What they hold "
        "of `Σσ²`, and the most that they are wrong by in any direction, `σ` of the next term:"
    )
    yield _shares(np.array(solution.singular_values), solution.rank)


def _term(solution: Solution, index: int) -> Formula:
    if solution.exact:
        return numbers.equal_to(solution.term(index))
    u, v = solution.u[index].numbers, solution.v[index].numbers
    return row("≈", numbers.rounded_matrix((solution.singular_values[index] * np.outer(u, v)).tolist()))


def _shares(values: Floats, rank: int) -> Table:
    held = np.cumsum(values**2) / np.sum(values**2)
    after = [*values[1:], 0.0]
    rows = tuple(
        (str(k + 1), "100 %" if k + 1 == rank else percent(held[k]), numbers.rounded(float(after[k]), 4))
        for k in range(rank)
    )
    return Table((math("k"), "held", "error at most"), rows)

"""The steps that find the singular vectors: eigenvectors of the Gram matrix, their images, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from eigenscope.explain import numbers
from eigenscope.explain.formula import Formula, row
from eigenscope.explain.linear import times, transposed
from eigenscope.explain.solution import Column, Solution, floats
from eigenscope.explain.spectrum import Eigenspace
from eigenscope.explain.steps import Display, Part, Prose
from eigenscope.explain.surd import ZERO
from eigenscope.explain.text import inline, lines
from eigenscope.explain.words import in_words, low, noun, several

_SHOWN = 6  # vectors that are written one by one
_LONGEST_EQUATION, _WIDEST = 40, 60  # characters


def first_side(solution: Solution) -> Iterator[Part]:
    """(G − λI)v = 0 for each eigenvalue that isn't 0."""
    letter = "v" if solution.inputs else "u"
    if not solution.rank:
        return
    if not solution.spaces:
        yield from _numeric_first_side(solution, letter)
        return
    index = 1
    for space in solution.spaces:
        if space.value:
            yield from _eigenvectors(space, letter, index)
            index += len(space.vectors)


def _numeric_first_side(solution: Solution, letter: str) -> Iterator[Part]:
    columns = (solution.v if solution.inputs else solution.u)[: solution.rank]
    yield Prose(
        f"`(G − λI){letter} = 0` has a solution only where `λ` is exact to the last digit, so with rounded numbers "
        f"one doesn't solve it: NumPy's SVD finds `{letter}` from `A` itself, in double precision."
    )
    yield from _columns(columns, letter)
    vectors = np.array([column.numbers for column in columns]).T
    gram, squares = floats(solution.gram), np.array(solution.singular_values[: solution.rank]) ** 2
    worst = float(np.abs(gram @ vectors - vectors * squares).max())
    yield Prose(f"The largest entry of `G{letter} − λ{letter}` among them:")
    yield Display(row(f'"max "|G{letter} − λ{letter}|', numbers.approximately(worst, 1)))


def _columns(columns: tuple[Column, ...], letter: str, after: int = 0) -> Iterator[Part]:
    """Columns one by one from `after` on; where there are many, the rest is left to the check."""
    for index, column in enumerate(columns[after : after + _SHOWN], after + 1):
        yield Display(row(f"{letter}{low(index)}", numbers.unit_vector(column)))
    if len(columns) > after + _SHOWN:
        yield Prose(f"The others, up to `{letter}{low(len(columns))}`, stand in the check below.")


def _eigenvectors(space: Eigenspace, letter: str, index: int) -> Iterator[Part]:
    last = index + len(space.vectors) - 1
    names = " = ".join(f"λ{low(i)}" for i in range(index, last + 1))
    value = numbers.equals(numbers.surd(space.value), float(space.value))
    yield Prose(f"For `{names}{inline(value)}`, solve `(G − λI){letter} = 0` by elimination:")
    yield from _elimination(space, letter)
    yield from _lengths(space, letter, index)


def _elimination(space: Eigenspace, letter: str) -> Iterator[Part]:
    reduced = space.echelon + ((ZERO,) * len(space.matrix),) * (len(space.matrix) - len(space.echelon))
    if len(space.matrix) == 1:
        yield Prose(f"`G − λI` is 0, so every `{letter}` does.")
        return
    before, after = row("G − λI", numbers.equal_to(space.matrix)), numbers.equal_to(reduced, "→")
    wide = len(lines(row(before, after), _WIDEST)) > len(space.matrix)
    yield from (Display(formula) for formula in ((before, after) if wide else (row(before, after),)))
    equations = list(_equations(space))
    if not equations:
        yield Prose(f"Nothing is asked of `{letter}`: every direction is an eigenvector.")
    elif all(len(inline(equation)) <= _LONGEST_EQUATION for equation in equations):
        yield Prose(f"So {' and '.join(f'`{inline(equation)}`' for equation in equations)}.")


def _equations(space: Eigenspace) -> Iterator[Formula]:
    """What the rows of the echelon form say: each bound unknown in terms of the free ones."""
    size = len(space.matrix)
    for line, pivot in zip(space.echelon, space.pivots, strict=True):
        others = [(j, -line[j]) for j in range(size) if j != pivot and line[j]]
        yield row(f"x{low(pivot + 1)} = ", numbers.combination([(f"x{low(j + 1)}", share) for j, share in others]))


def _lengths(space: Eigenspace, letter: str, index: int) -> Iterator[Part]:
    if len(space.vectors) > 1:
        last = index + len(space.vectors) - 1
        yield Prose(
            f"{in_words(len(space.vectors)).capitalize()} unknowns are free, which gives as many directions. Made "
            f"orthogonal (Gram and Schmidt) and of length 1 they are {several(letter, index, last)}:"
        )
    else:
        yield Prose("One unknown is free. The solution, divided by its length:")
    for offset, vector in enumerate(space.vectors):
        yield Display(row(f"{letter}{low(index + offset)}", numbers.unit_vector(Column.along(vector))))


def second_side(solution: Solution) -> Iterator[Part]:
    """u = Av/σ, or v = Aᵀu/σ."""
    if not solution.rank:
        return
    matrix, first, second = ("A", "v", "u") if solution.inputs else ("Aᵀ", "u", "v")
    yield Prose(
        f"Each `{second}ᵢ` is where `{matrix}` sends `{first}ᵢ`, divided by its length, which is `σᵢ`: "
        f"`{second}ᵢ = {matrix}{first}ᵢ/σᵢ`."
    )
    columns = (solution.u if solution.inputs else solution.v)[: solution.rank]
    if not solution.spaces:
        yield from _columns(columns, second)
        return
    start = solution.v if solution.inputs else solution.u
    for index, column in enumerate(columns, 1):
        name = f"{matrix}{first}{low(index)}"
        yield Display(row(name, numbers.unit_vector(_image(solution, start[index - 1]))))
        yield Display(row(f"{second}{low(index)} = {name}/σ{low(index)}", numbers.unit_vector(column)))


def _image(solution: Solution, column: Column) -> Column:
    """A times a unit vector: as a direction over the same length."""
    assert column.direction is not None
    image = times(solution.matrix if solution.inputs else transposed(solution.matrix), column.direction)
    length = math.sqrt(float(column.square))
    return Column(tuple(float(entry) / length for entry in image), image, column.square)


def completion(solution: Solution) -> Iterator[Part]:
    """Bases of both spaces: what the zeros and the longer side leave open."""
    rank = solution.rank
    first, second = ("v", "u") if solution.inputs else ("u", "v")
    matrix, flipped = ("A", "Aᵀ") if solution.inputs else ("Aᵀ", "A")
    zeros, size = len(solution.gram) - rank, len(solution.other_gram)
    if zeros:
        names = several(first, rank + 1, rank + zeros)
        yield Prose(
            f"Where `σ = 0`, `{matrix}{first} = 0`, and `{matrix}{first}/σ` says nothing about a `{second}`. What "
            f"belongs to the eigenvalue 0, {names}, is found like the others, from `G{first} = 0`:"
        )
        if solution.spaces:
            yield from _elimination(solution.spaces[-1], first)
            yield from _lengths(solution.spaces[-1], first, rank + 1)
        else:
            yield from _columns(solution.v if solution.inputs else solution.u, first, rank)
    if size > rank:
        found = f"{in_words(rank)} {'is' if rank == 1 else 'are'} found"
        yield Prose(
            f"A basis of the other side has {noun(size, 'direction')}, of which {found}. For the rest, "
            f"{several(second, rank + 1, size)}, any orthonormal basis of the solutions of `{flipped}{second} = 0` "
            "will do: they are orthogonal to those found."
        )
        yield from _columns(solution.u if solution.inputs else solution.v, second, rank)

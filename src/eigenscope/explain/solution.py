"""A = UΣVᵀ: exactly where the eigenvalues of the Gram matrix can be written down, else in double precision."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from eigenscope.explain.linear import (
    Matrix,
    Vector,
    added,
    dot,
    echelon,
    exact,
    null_space,
    orthogonal,
    outer,
    primitive,
    product,
    times,
    transposed,
)
from eigenscope.explain.spectrum import Eigenspace, Factor, NotExact, eigenspaces, factors, longest_fraction, polynomial
from eigenscope.explain.surd import ZERO, Surd

EXACT_SIZE = 6  # rows and columns
EXACT_DIGITS = 12  # of a numerator or denominator in the Gram matrix: longer ones don't fit a line
SECONDS = 10.0
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """A column of U or V: a unit vector, `direction`/√`square` where it is known exactly."""

    numbers: tuple[float, ...]
    direction: Vector | None = None
    square: Surd = ZERO

    @staticmethod
    def along(direction: Vector, square: Surd | None = None) -> Column:
        """The unit vector in a direction, whose squared length may be known already."""
        square = dot(direction, direction) if square is None else square
        length = math.sqrt(float(square))
        return Column(tuple(float(entry) / length for entry in direction), direction, square)


@dataclass(frozen=True)
class Solution:
    """All that the steps tell of. The Gram matrix is that of the side with fewer dimensions."""

    matrix: Matrix  # m × n, rational
    inputs: bool  # the Gram matrix is AᵀA and gives V first; else AAᵀ, and U first
    gram: Matrix
    other_gram: Matrix
    polynomial: tuple[Fraction, ...]  # of det(λI − G), none where it isn't looked at
    factors: tuple[Factor, ...]
    spaces: tuple[Eigenspace, ...]  # none where not exact
    squares: tuple[Surd | None, ...]  # σ² = λ, min(m, n) of them, descending; None: not exact
    singular_values: tuple[float, ...]
    rank: int
    rank_exact: bool  # else it counts what double precision tells from 0
    u: tuple[Column, ...]  # m of them
    v: tuple[Column, ...]  # n of them
    reason: str  # why not exact, as a clause; "" where it is
    residual: float  # max |UΣVᵀ − A| in double precision

    @property
    def exact(self) -> bool:
        """Whether everything is."""
        return not self.reason

    def term(self, index: int) -> Matrix:
        """σᵢuᵢvᵢᵀ, exactly: A d dᵀ/‖d‖² with d in the direction of v (or d dᵀA/‖d‖² with that of u)."""
        column = (self.v if self.inputs else self.u)[index]
        assert column.direction is not None
        if self.inputs:
            return outer(times(self.matrix, column.direction), column.direction, column.square)
        return outer(column.direction, times(transposed(self.matrix), column.direction), column.square)

    def reconstructs(self) -> bool:
        """Whether the terms sum to A exactly. Terms of conjugate eigenvalues are added first: their roots cancel."""
        by_root: dict[int, Matrix] = {}
        for index, square in enumerate(self.squares[: self.rank]):
            assert square is not None
            term = self.term(index)
            by_root[square.d] = added(by_root[square.d], term) if square.d in by_root else term
        total = exact([[Fraction(0)] * len(self.matrix[0])] * len(self.matrix))
        for term in by_root.values():
            total = added(total, term)
        return total == self.matrix


def solve(
    rows: Sequence[Sequence[Fraction]], seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
) -> Solution:
    """Decompose a matrix; exact arithmetic that isn't done after `seconds` gives way to double precision."""
    matrix, until = exact(rows), clock() + seconds
    short = longest_fraction(matrix) <= EXACT_DIGITS

    def in_time() -> None:
        if clock() > until:
            raise NotExact(f"exact arithmetic was not done after {seconds:g} s")

    flipped = transposed(matrix)
    inputs = len(matrix) >= len(flipped)
    grams = product(flipped, matrix), product(matrix, flipped)
    gram, other = grams if inputs else grams[::-1]
    coefficients: tuple[Fraction, ...] = ()
    found: tuple[Factor, ...] = ()
    try:
        _check_size(matrix, gram)
        coefficients = polynomial(gram)
        in_time()
        found = factors(coefficients)
        spaces = eigenspaces(gram, found, in_time)
        parts = _exact(matrix if inputs else flipped, other, spaces, in_time)
        reason = ""
    except NotExact as given_up:
        reason, spaces = str(given_up), ()
        parts = _numeric(matrix if inputs else flipped, found, short)
    squares, values, first, second = parts
    u, v = (second, first) if inputs else (first, second)
    rank = len(echelon(matrix)[1]) if short else int(np.sum(np.array(values) > _noise(matrix, values)))
    residual = _residual(matrix, u, values, v)
    return Solution(
        matrix, inputs, gram, other, coefficients, found, spaces, squares, values, rank, short, u, v, reason, residual
    )  # fmt: skip


def _noise(matrix: Matrix, values: Sequence[float]) -> float:
    """The singular values that rounding alone may make (NumPy's `matrix_rank` draws the line there too)."""
    return max(len(matrix), len(matrix[0])) * float(np.finfo(np.float64).eps) * values[0]


_Parts = tuple[tuple[Surd | None, ...], tuple[float, ...], tuple[Column, ...], tuple[Column, ...]]


def _check_size(matrix: Matrix, gram: Matrix) -> None:
    rows, columns = len(matrix), len(matrix[0])
    if max(rows, columns) > EXACT_SIZE:
        raise NotExact(f"exact arithmetic is done up to {EXACT_SIZE} × {EXACT_SIZE}, and this is {rows} × {columns}")
    digits = longest_fraction(gram)
    if digits > EXACT_DIGITS:
        raise NotExact(f"exact fractions would have {digits} digits in the Gram matrix alone")


def _exact(tall: Matrix, other: Matrix, spaces: Sequence[Eigenspace], in_time: Callable[[], None]) -> _Parts:
    """`tall` is A or Aᵀ, whichever has at least as many rows; the Gram matrix is tallᵀ·tall, `other` tall·tallᵀ."""
    squares, first, second = list[Surd](), list[Column](), list[Column]()
    for space in spaces:
        for vector in space.vectors:
            in_time()
            column = Column.along(vector)
            squares.append(space.value)
            first.append(column)
            if space.value:
                image, unit = primitive(times(tall, vector))
                second.append(Column.along(image, space.value * column.square / Surd(unit * unit)))
    rest = null_space(*echelon(other), len(other))
    second += [Column.along(vector) for vector in orthogonal(rest)]
    values = tuple(math.sqrt(float(square)) for square in squares)
    return tuple(squares), values, tuple(first), tuple(second)


def _numeric(tall: Matrix, found: Sequence[Factor], short: bool) -> _Parts:
    """By NumPy; singular values that the polynomial gives more exactly, and the zeros, are taken from there."""
    left, values, right = np.linalg.svd(floats(tall))
    if short:
        values[len(echelon(tall)[1]) :] = 0.0
    known = sorted((pair for factor in found for pair in _roots(factor)), key=lambda pair: -pair[0])
    if known:
        values = np.sqrt([max(number, 0.0) for number, _ in known])
    squares = tuple(square for _, square in known) or (None,) * len(values)
    signs = np.array([_sign(row) for row in right])
    first = tuple(_column(row) for row in right * signs[:, None])
    left[:, : len(signs)] *= signs
    return squares, tuple(map(float, values)), first, tuple(_column(row) for row in left.T)


def _roots(factor: Factor) -> list[tuple[float, Surd | None]]:
    exactly: Sequence[Surd | None] = factor.roots or (None,) * factor.degree
    return list(zip(factor.values, exactly, strict=True)) * factor.multiplicity


def _sign(row: Floats) -> float:
    return math.copysign(1.0, next(entry for entry in row if abs(entry) > 1e-9))


def _column(entries: Floats) -> Column:
    return Column(tuple(map(float, entries)))


def floats(matrix: Matrix) -> Floats:
    """A rational matrix in double precision."""
    return np.array([[float(entry) for entry in row] for row in matrix])


def _residual(matrix: Matrix, u: Sequence[Column], values: Sequence[float], v: Sequence[Column]) -> float:
    left, right = (np.array([column.numbers for column in side[: len(values)]]).T for side in (u, v))
    return float(np.abs((left * values) @ right.T - floats(matrix)).max())

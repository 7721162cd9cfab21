"""Linear algebra over exact numbers: products, echelon forms, null spaces, orthogonal vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from eigenscope.explain.surd import ONE, ZERO, Surd

Vector = tuple[Surd, ...]
Matrix = tuple[Vector, ...]


def exact(rows: Sequence[Sequence[Fraction]]) -> Matrix:
    """Rational entries as numbers of the field."""
    return tuple(tuple(Surd(entry) for entry in row) for row in rows)


def transposed(matrix: Matrix) -> Matrix:
    """Rows as columns."""
    return tuple(zip(*matrix, strict=True))


def dot(x: Vector, y: Vector) -> Surd:
    """xᵀy."""
    return sum((a * b for a, b in zip(x, y, strict=True)), ZERO)


def times(matrix: Matrix, x: Vector) -> Vector:
    """A x."""
    return tuple(dot(row, x) for row in matrix)


def product(left: Matrix, right: Matrix) -> Matrix:
    """A B."""
    columns = transposed(right)
    return tuple(tuple(dot(row, column) for column in columns) for row in left)


def outer(x: Vector, y: Vector, divisor: Surd) -> Matrix:
    """x yᵀ/divisor."""
    return tuple(tuple(a * b / divisor for b in y) for a in x)


def added(left: Matrix, right: Matrix) -> Matrix:
    """A + B."""
    return tuple(tuple(a + b for a, b in zip(x, y, strict=True)) for x, y in zip(left, right, strict=True))


def shifted(matrix: Matrix, value: Surd) -> Matrix:
    """A − λI."""
    return tuple(
        tuple(entry - value if i == j else entry for j, entry in enumerate(row)) for i, row in enumerate(matrix)
    )


def echelon(matrix: Matrix) -> tuple[Matrix, tuple[int, ...]]:
    """The reduced row echelon form (without its rows of zeros), and the columns of its pivots."""
    rows, pivots = [list(row) for row in matrix], list[int]()
    for column in range(len(matrix[0])):
        at = len(pivots)
        found = next((i for i in range(at, len(rows)) if rows[i][column]), None)
        if found is None:
            continue
        rows[at], rows[found] = rows[found], rows[at]
        rows[at] = [entry / rows[at][column] for entry in rows[at]]
        for i, row in enumerate(rows):
            if i != at and (factor := row[column]):
                rows[i] = [entry - factor * base for entry, base in zip(row, rows[at], strict=True)]
        pivots.append(column)
    return tuple(tuple(row) for row in rows[: len(pivots)]), tuple(pivots)


def null_space(reduced: Matrix, pivots: Sequence[int], size: int) -> tuple[Vector, ...]:
    """One vector for each free column of an echelon form: 1 there, 0 in the other free columns."""
    return tuple(_solution(reduced, pivots, size, free) for free in range(size) if free not in pivots)


def _solution(reduced: Matrix, pivots: Sequence[int], size: int, free: int) -> Vector:
    bound = {pivot: -row[free] for row, pivot in zip(reduced, pivots, strict=True)}
    return tuple(ONE if i == free else bound.get(i, ZERO) for i in range(size))


def orthogonal(vectors: Sequence[Vector]) -> tuple[Vector, ...]:
    """Gram and Schmidt without the lengths: vectors that are orthogonal, with whole numbers where there can be."""
    done: list[Vector] = []
    for vector in vectors:
        for other in done:
            share = dot(other, vector) / dot(other, other)
            vector = tuple(x - share * y for x, y in zip(vector, other, strict=True))
        done.append(upright(primitive(vector)[0]))
    return tuple(done)


def primitive(vector: Vector) -> tuple[Vector, Fraction]:
    """The vector with whole numbers that have no common factor, and what it was divided by (positive)."""
    parts = [part for entry in vector for part in (entry.a, entry.b) if part]
    below = math.lcm(*(part.denominator for part in parts))
    unit = Fraction(math.gcd(*(int(part * below) for part in parts)), below)
    return tuple(Surd(entry.a / unit, entry.b / unit, entry.d) for entry in vector), unit


def upright(vector: Vector) -> Vector:
    """The vector or its opposite: the first entry that isn't 0 is positive."""
    first = next(entry for entry in vector if entry)
    return vector if float(first) > 0 else tuple(-entry for entry in vector)

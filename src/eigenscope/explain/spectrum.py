"""The eigenvalues of a small symmetric matrix with rational entries, as far as they can be written down."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from eigenscope.explain.linear import Matrix, Vector, echelon, null_space, orthogonal, shifted
from eigenscope.explain.surd import Surd


class NotExact(Exception):
    """Exact arithmetic is given up; the message says why, as a clause."""


@dataclass(frozen=True)
class Factor:
    """A factor of the characteristic polynomial that doesn't split further over the rationals."""

    coefficients: tuple[Fraction, ...]  # the highest power first, which has 1
    multiplicity: int
    roots: tuple[Surd, ...]  # exact; none where the degree is over 2
    values: tuple[float, ...]  # of all roots, descending

    @property
    def degree(self) -> int:
        """The number of its roots."""
        return len(self.values)


@dataclass(frozen=True)
class Eigenspace:
    """One eigenvalue λ of G and the solutions of (G − λI)v = 0."""

    value: Surd
    matrix: Matrix  # G − λI
    echelon: Matrix  # reduced, without rows of zeros
    pivots: tuple[int, ...]
    solutions: tuple[Vector, ...]  # as read off the echelon form
    vectors: tuple[Vector, ...]  # the same space: orthogonal, in whole numbers, not of length 1


def polynomial(matrix: Matrix) -> tuple[Fraction, ...]:
    """The coefficients of det(λI − G), the highest power first."""
    import sympy as sp  # type: ignore[import-untyped]  # half a second that no other command needs to wait

    rows = [[sp.Rational(entry.a.numerator, entry.a.denominator) for entry in row] for row in matrix]
    return tuple(_fraction(c) for c in sp.Matrix(rows).charpoly().all_coeffs())


def factors(coefficients: tuple[Fraction, ...]) -> tuple[Factor, ...]:
    """The polynomial's factors over the rationals, that with the largest root first."""
    import sympy as sp

    ours = [sp.Rational(c.numerator, c.denominator) for c in coefficients]
    _, found = sp.Poly(ours, sp.Symbol("x"), domain="QQ").factor_list()
    return tuple(sorted((_factor(f.monic(), k) for f, k in found), key=lambda factor: -factor.values[0]))


def _factor(poly: Any, multiplicity: int) -> Factor:
    coefficients = tuple(_fraction(c) for c in poly.all_coeffs())
    if len(coefficients) > 3:
        return Factor(coefficients, multiplicity, (), _numeric_roots(poly))
    roots = linear_or_quadratic_roots(coefficients)
    return Factor(coefficients, multiplicity, roots, tuple(map(float, roots)))


def _numeric_roots(poly: Any) -> tuple[float, ...]:
    """All real, as the matrix is symmetric; to 30 digits before they are rounded, as the small ones need them."""
    from mpmath.libmp import NoConvergence  # type: ignore[import-untyped]

    try:
        roots = poly.nroots(n=30, maxsteps=500)
    except NoConvergence:
        raise NotExact("the roots of the characteristic polynomial lie too near to each other") from None
    return tuple(sorted((float(root.as_real_imag()[0]) for root in roots), reverse=True))


def _fraction(number: Any) -> Fraction:
    return Fraction(int(number.p), int(number.q))


def linear_or_quadratic_roots(coefficients: tuple[Fraction, ...]) -> tuple[Surd, ...]:
    """The roots of x + c, or of x² + bx + c where they are real, the larger first."""
    if len(coefficients) == 2:
        return (Surd(-coefficients[1]),)
    _, b, c = coefficients
    under = b * b - 4 * c
    root = Fraction(1, 2 * under.denominator)  # √(p/q) = √(pq)/q
    inside = under.numerator * under.denominator
    return Surd.of(-b / 2, root, inside), Surd.of(-b / 2, -root, inside)


def eigenspaces(matrix: Matrix, found: tuple[Factor, ...], in_time: Callable[[], None]) -> tuple[Eigenspace, ...]:
    """The eigenspaces in descending order of the eigenvalue. Raises NotExact where a root can't be written down."""
    stubborn = [factor.degree for factor in found if not factor.roots]
    if stubborn:
        raise NotExact(f"the characteristic polynomial has a factor of degree {max(stubborn)} that does not split")
    values = sorted((root for factor in found for root in factor.roots), key=float, reverse=True)
    spaces = []
    for value in values:
        in_time()
        spaces.append(eigenspace(matrix, value))
    return tuple(spaces)


def eigenspace(matrix: Matrix, value: Surd) -> Eigenspace:
    """Solve (G − λI)v = 0."""
    moved = shifted(matrix, value)
    reduced, pivots = echelon(moved)
    solutions = null_space(reduced, pivots, len(matrix))
    return Eigenspace(value, moved, reduced, pivots, solutions, orthogonal(solutions))


def longest_fraction(matrix: Matrix) -> int:
    """Digits of the longest numerator or denominator in a matrix of rationals."""
    parts = [part for row in matrix for entry in row for part in entry.a.as_integer_ratio()]
    return max(1 + math.floor(math.log10(abs(part))) if part else 1 for part in parts)

"""Numbers a + b√d with rational a and b: an eigenvalue that is a root of a quadratic, and all that follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

_LARGEST_PRIME = 1000  # up to where squares are looked for under a root; what is left over stays there


@dataclass(frozen=True)
class Surd:
    """The number a + b√d. Two of them can be added or multiplied where d agrees, or where one is rational."""

    a: Fraction
    b: Fraction = Fraction(0)
    d: int = 1  # 1 where b is 0

    @staticmethod
    def of(a: Fraction, b: Fraction, d: int) -> Surd:
        """a + b√d in its one form: squares taken out of the root, and no root where there is nothing under it."""
        outside, d = without_squares(d)
        return Surd(a + b * outside) if d == 1 else _reduced(a, b * outside, d)

    @property
    def rational(self) -> bool:
        """Whether there is no root in it."""
        return self.b == 0

    @property
    def conjugate_product(self) -> Fraction:
        """(a + b√d)(a − b√d), a rational number."""
        return self.a**2 - self.b**2 * self.d

    def __bool__(self) -> bool:
        return bool(self.a or self.b)

    def __neg__(self) -> Surd:
        return Surd(-self.a, -self.b, self.d)

    def __add__(self, other: Surd) -> Surd:
        return _reduced(self.a + other.a, self.b + other.b, self._field(other))

    def __sub__(self, other: Surd) -> Surd:
        return self + -other

    def __mul__(self, other: Surd) -> Surd:
        d = self._field(other)
        return _reduced(self.a * other.a + self.b * other.b * d, self.a * other.b + self.b * other.a, d)

    def __truediv__(self, other: Surd) -> Surd:
        product = other.conjugate_product
        return self * Surd(other.a / product, -other.b / product, other.d)

    def __float__(self) -> float:
        """To the last digit, near enough: where a and b√d would cancel, the conjugate is divided by instead."""
        root = float(self.b) * math.sqrt(self.d)
        if self.a * self.b >= 0:
            return float(self.a) + root
        return float(self.conjugate_product) / (float(self.a) - root)

    def _field(self, other: Surd) -> int:
        if self.d != other.d and not (self.rational or other.rational):
            raise ValueError(f"√{self.d} and √{other.d} belong to different fields")
        return other.d if self.rational else self.d


def _reduced(a: Fraction, b: Fraction, d: int) -> Surd:
    return Surd(a, b, d) if b else Surd(a)


ZERO, ONE = Surd(Fraction(0)), Surd(Fraction(1))


def without_squares(number: int) -> tuple[int, int]:
    """`number` as (k, d) with number = k²·d. Squares of large primes are found where all that is left is a square."""
    if number == 0:
        return 0, 1
    outside, left = 1, number
    for prime in range(2, _LARGEST_PRIME):
        while left % prime**2 == 0:
            left //= prime**2
            outside *= prime
        if prime**2 > left:
            break
    whole = math.isqrt(left)
    return (outside * whole, 1) if whole * whole == left else (outside, left)


def square_root(number: Fraction) -> Surd:
    """√(p/q) as k√d, for p/q ≥ 0."""
    return Surd.of(Fraction(0), Fraction(1, number.denominator), number.numerator * number.denominator)


def denested(square: Surd) -> tuple[Surd, Surd] | None:
    """√(a + b√d) as a sum of two simple roots, where a² − b²d is the square of a rational; None where it isn't.

    With r its root: √(a + b√d) = √((a + r)/2) ± √((a − r)/2), the sign that of b.
    """
    if square.rational:
        return square_root(square.a), ZERO
    if square.conjugate_product < 0 or not (root := square_root(square.conjugate_product)).rational:
        return None
    second = square_root((square.a - root.a) / 2)
    return square_root((square.a + root.a) / 2), second if square.b > 0 else -second

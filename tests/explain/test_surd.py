"""Arithmetic with a + b√d is exact, and a root within a root is undone where it can be."""

import math
import random
from fractions import Fraction

import pytest

from eigenscope.explain.surd import Surd, denested, square_root, without_squares


def some(generator: random.Random, d: int = 7) -> Surd:
    return Surd.of(Fraction(generator.randint(-9, 9), 4), Fraction(generator.randint(-9, 9), 5), d)


@pytest.mark.parametrize("seed", range(50))
def test_it_is_a_field(seed):
    generator = random.Random(seed)
    x, y, z = (some(generator) for _ in range(3))
    assert x * (y + z) == x * y + x * z
    assert not z or (x / z) * z == x
    assert not (x - x)
    assert float(x * y) == pytest.approx(float(x) * float(y), rel=1e-12, abs=1e-12)


def test_different_roots_do_not_mix():
    with pytest.raises(ValueError, match="√2 and √3 belong to different fields"):
        Surd.of(Fraction(0), Fraction(1), 2) + Surd.of(Fraction(0), Fraction(1), 3)


def test_squares_come_out_of_the_root():
    assert Surd.of(Fraction(1), Fraction(1), 12) == Surd(Fraction(1), Fraction(2), 3)
    assert Surd.of(Fraction(1), Fraction(1), 9) == Surd(Fraction(4))
    assert square_root(Fraction(9, 4)) == Surd(Fraction(3, 2))
    assert without_squares(0) == (0, 1)
    large = 2**61 - 1
    assert without_squares(large * large) == (large, 1)


def test_what_nearly_cancels_keeps_all_its_digits():
    small = Surd.of(Fraction(10**8), Fraction(-1), 10**16 - 1)  # 10⁸ − √(10¹⁶ − 1)
    assert float(small) == pytest.approx(5e-9, rel=1e-12)


def test_a_root_within_a_root_is_undone():
    first, second = denested(Surd.of(Fraction(15), Fraction(1), 221))
    assert float(first) + float(second) == pytest.approx(math.sqrt(15 + math.sqrt(221)), rel=1e-14)
    assert denested(Surd.of(Fraction(325), Fraction(1), 103705)) is None

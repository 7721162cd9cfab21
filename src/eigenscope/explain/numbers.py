"""Exact and rounded numbers as formulas; what is too long to read is rounded, with ≈ before it where there is room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from eigenscope.explain.formula import Formula, Grid, Number, Operator, Over, Root, Row, Scripts, row
from eigenscope.explain.formula import math as math_of
from eigenscope.explain.linear import Matrix, Vector
from eigenscope.explain.solution import Column
from eigenscope.explain.surd import ONE, Surd, denested, square_root
from eigenscope.explain.text import inline

DIGITS = 10  # of a number that stands alone
ENTRY_DIGITS = 4  # of an entry of a matrix that is rounded
# Characters of an exact number: alone, in a matrix, as the length of a vector; and of all columns of a matrix together,
# which then may have longer ones.
_LONGEST, _LONGEST_ENTRY, _LONGEST_LENGTH, _WIDEST = 40, 12, 26, 48


def rational(number: Fraction) -> Formula:
    """p/q."""
    whole = Number(str(abs(number.numerator)))
    size = whole if number.denominator == 1 else Over(whole, Number(str(number.denominator)))
    return row(Operator("−", tight=True), size) if number < 0 else size


def surd(number: Surd) -> Formula:
    """a + b√d over one denominator."""
    if number.rational:
        return rational(number.a)
    below = math.lcm(number.a.denominator, number.b.denominator)
    a, b = int(number.a * below), int(number.b * below)
    root = _times(abs(b), Root(Number(str(number.d))))
    if a:
        above: Formula = row(rational(Fraction(a)), Operator("+" if b > 0 else "−"), root)
        return above if below == 1 else Over(above, Number(str(below)))
    size = root if below == 1 else Over(root, Number(str(below)))
    return size if b > 0 else row(Operator("−", tight=True), size)


def root_of(square: Surd) -> Formula:
    """√(a + b√d): a whole number or a fraction, a simple root, a sum of two, or one root within another."""
    parts = denested(square)
    if parts is None:
        return Root(surd(square))
    first, second = parts
    if not second:
        return surd(first)
    if first.rational or second.rational:
        return surd(Surd.of(first.a + second.a, first.b + second.b, first.d * second.d))
    below = math.lcm(first.b.denominator, second.b.denominator)
    roots = [_times(int(abs(part.b) * below), Root(Number(str(part.d)))) for part in parts]
    above = row(roots[0], Operator("+" if second.b > 0 else "−"), roots[1])
    return above if below == 1 else Over(above, Number(str(below)))


def rounded(number: float, digits: int = DIGITS) -> Formula:
    """To so many significant digits; with a power of ten where it is very large or small."""
    text = f"{number:.{digits}g}"
    mantissa, _, power = text.removeprefix("-").partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    size: Formula = Number(mantissa)
    if power:
        size = row(size, Operator("·"), Scripts(Number("10"), exponent=str(int(power))))
    return row(Operator("−", tight=True), size) if text.startswith("-") else size


def approximately(number: float, digits: int = DIGITS) -> Row:
    """≈ the number."""
    return row("≈", rounded(number, digits))


def equals(formula: Formula, number: float) -> Row:
    """= formula ≈ number, each where it says something: a whole number is not repeated, a long formula left out."""
    text = inline(formula)
    if len(text) > _LONGEST:
        return approximately(number)
    return row("=", formula, *(approximately(number).items if "√" in text or "/" in text else ()))


def combination(parts: Sequence[tuple[str, Surd]]) -> Row:
    """A sum of symbols with coefficients: 2x₂ − (1 + √5)x₃; 0 where there is none."""
    items: list[Formula] = []
    for name, share in parts:
        mixed = bool(share.a and share.b)
        size = share if mixed or float(share) > 0 else -share
        if items or size != share:
            items.append(Operator("+" if size == share else "−", tight=not items))
        if size != ONE:
            written = surd(size)
            if isinstance(written, Over):
                items += [written, Operator("·")]
            else:
                items += [Operator("("), written, Operator(")")] if mixed else [written]
        items.append(math_of(name))
    return row(*items) if items else row("0")


def bars(cells: Sequence[Sequence[Formula]]) -> Grid:
    """A determinant."""
    return Grid(tuple(map(tuple, cells)), bars=True)


def equal_to(entries: Matrix, sign: str = "=") -> Row:
    """= the matrix, or ≈ where its entries are rounded; after another sign, → ≈."""
    shown = matrix(entries)
    rounded = is_rounded(shown, [[surd(entry) for entry in line] for line in entries])
    return row(sign if not rounded else "≈" if sign == "=" else f"{sign} ≈", shown)


def matrix(entries: Matrix) -> Grid:
    """A matrix of exact numbers: as they are where all are short, else all rounded."""
    return grid([[surd(entry) for entry in line] for line in entries], [[*map(float, line)] for line in entries])


def grid(exact: Sequence[Sequence[Formula]], values: Sequence[Sequence[float]]) -> Grid:
    """The exact entries where all are short, else the values rounded."""
    widths = [max(len(inline(entry)) for entry in column) for column in zip(*exact, strict=True)]
    if max(widths) <= _LONGEST_ENTRY or (max(widths) <= 2 * _LONGEST_ENTRY and sum(widths) <= _WIDEST):
        return Grid(tuple(map(tuple, exact)))
    return rounded_matrix(values)


def is_rounded(shown: Grid, exact: Sequence[Sequence[Formula]]) -> bool:
    """Whether `grid` rounded."""
    return shown.rows != tuple(map(tuple, exact))


def rounded_matrix(values: Sequence[Sequence[float]]) -> Grid:
    """Entries to four digits; what is 10⁻¹² of the largest and less is 0."""
    largest = max((abs(entry) for line in values for entry in line), default=0.0)
    return Grid(tuple(tuple(_entry(entry, largest) for entry in line) for line in values))


def _entry(entry: float, largest: float) -> Formula:
    if abs(entry) <= 1e-12 * largest:
        return Number("0")
    if 1e-3 <= abs(entry) < 1e5:
        decimals = max(ENTRY_DIGITS - 1 - math.floor(math.log10(abs(entry))), 0)
        text = f"{abs(entry):.{0 if entry == round(entry) else decimals}f}"
        return row(Operator("−", tight=True), Number(text)) if entry < 0 else Number(text)
    return rounded(entry, ENTRY_DIGITS)


def vector(entries: Vector) -> Grid:
    """A column of exact numbers."""
    return matrix(tuple((entry,) for entry in entries))


def unit_vector(unit: Column) -> Row:
    """(1/length)·direction where it is known and short, else the entries rounded."""
    if unit.direction is not None:
        shown, length = vector(unit.direction), root_of(unit.square)
        short = len(inline(length)) <= _LONGEST_LENGTH
        if short and not is_rounded(shown, [[surd(entry)] for entry in unit.direction]):
            return row("=", shown) if length == Number("1") else row("=", Over(Number("1"), length), shown)
    return row("≈", rounded_matrix([[entry] for entry in unit.numbers]))


def unit_entry(entry: Surd, square: Surd) -> Formula:
    """entry/√square; of a rational entry in its lowest terms, as 1/√2 or 2/3."""
    if not entry:
        return Number("0")
    if not (entry.rational and square.rational):
        return row(surd(entry), "/", root_of(square)) if square != Surd(Fraction(1)) else surd(entry)
    length = square_root(square.a)  # k√d or k
    share = entry.a / (length.a or length.b)
    above = Number(str(abs(share.numerator)))
    below = _times(share.denominator, Root(Number(str(length.d)))) if length.b else Number(str(share.denominator))
    size = above if below == Number("1") else Over(above, below)
    return row(Operator("−", tight=True), size) if entry.a < 0 else size


def _times(factor: int, root: Formula) -> Formula:
    return root if factor == 1 else row(Number(str(factor)), root)

"""Which rows of a matrix are combinations of others, and how that is said."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from eigenscope.explain.linear import Matrix, echelon, transposed

Relation = tuple[int, dict[int, Fraction]]  # a row, and what it is made of: {other row: coefficient}


_LONGEST = 60  # characters of a relation that says something


def tellable(matrix: Matrix) -> tuple[str, ...]:
    """The relations of the rows in words; none where their coefficients are too long to say anything."""
    words = tuple(told(relation) for relation in row_relations(matrix))
    return words if all(len(sentence) <= _LONGEST for sentence in words) else ()


def row_relations(matrix: Matrix) -> tuple[Relation, ...]:
    """The rows that are combinations of rows before them, exactly."""
    reduced, pivots = echelon(transposed(matrix))
    found = []
    for index in set(range(len(matrix))) - set(pivots):
        share = {pivot: row[index].a for pivot, row in zip(pivots, reduced, strict=True) if row[index]}
        found.append((index, share))
    return tuple(sorted(found, key=lambda relation: relation[0]))


def told(relation: Relation) -> str:
    """A relation in words: "row 3 is the mean of rows 1 and 2", "row 2 is 2 × row 1"."""
    index, share = relation
    name = f"row {index + 1}"
    if not share:
        return f"{name} is 0"
    if len(share) > 1 and set(share.values()) == {Fraction(1, len(share))}:
        numbers = [str(other + 1) for other in share]
        return f"{name} is the mean of rows {', '.join(numbers[:-1])} and {numbers[-1]}"
    return f"{name} is {_combination(share)}"


def _combination(share: Mapping[int, Fraction]) -> str:
    words = ""
    for other, coefficient in sorted(share.items(), key=lambda item: item[1] < 0):  # not with a minus first
        sign = ("−" if coefficient < 0 else "") if not words else (" − " if coefficient < 0 else " + ")
        size = abs(coefficient)
        words += f"{sign}{'' if size == 1 else f'{size} × '}row {other + 1}"
    return words

"""Small matrices with known answers, each of which teaches one thing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A matrix by name, and what it shows."""

    rows: tuple[tuple[int, ...], ...]
    shows: str
    singular_values: str


EXAMPLES = {
    "symmetric": Example(((3, 2), (2, 3)), "singular values that are eigenvalues", "5, 1"),
    "diagonal": Example(((3, 0, 0, 0), (0, 2, 0, 0), (0, 0, 1, 0)), "a stretch along the axes", "3, 2, 1"),
    "rank-deficient": Example(((1, 2, 3), (2, 4, 6), (3, 6, 9)), "rows r, 2r, 3r: rank 1", "14, 0, 0"),
    "hidden-rank": Example(
        ((1, 2, 4), (1, 0, 2), (1, 1, 3)), "row 3 is the mean of rows 1 and 2: rank 2", "6, 1, 0"
    ),
    "power-law": Example(
        ((25, 7, 5, 11), (7, 25, 11, 5), (11, 5, 7, 25), (5, 11, 25, 7)),
        "full rank, singular values that fall like 1/i",
        "48, 24, 16, 12",
    ),
    "counting": Example(
        ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12)), "two spaces: 4 inputs, 3 outputs, rank 2", "25.44, 1.723, 0"
    ),
}  # fmt: skip

"""What a derivation is made of: steps, each of prose, formulas, tables and perhaps a picture."""

from __future__ import annotations

from dataclasses import dataclass

from eigenscope.explain.formula import Formula


@dataclass(frozen=True)
class Prose:
    """A paragraph; formulas in it stand between `backticks`, as `formula.math` reads them."""

    text: str


@dataclass(frozen=True)
class Display:
    """Formulas on lines of their own."""

    formula: Formula


@dataclass(frozen=True)
class Table:
    """Rows under a header; each cell is a formula or words."""

    header: tuple[Formula | str, ...]
    rows: tuple[tuple[Formula | str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """The unit circle and the ellipse that a 2 × 2 matrix makes of it; what is drawn is told in `words` too."""

    matrix: tuple[tuple[float, float], tuple[float, float]]
    inputs: tuple[tuple[float, ...], ...]  # v₁, v₂
    outputs: tuple[tuple[float, ...], ...]  # σ₁u₁, σ₂u₂
    words: str


Part = Prose | Display | Table | Picture


@dataclass(frozen=True)
class Step:
    """One step of a derivation."""

    title: str
    parts: tuple[Part, ...]

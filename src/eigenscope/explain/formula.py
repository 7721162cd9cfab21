"""Formulas as trees, the same for text, Markdown and HTML; and the way to them from what one would type.

`math("σ₁ = √(2 + √3)/2")` reads Unicode as it would be printed; matrices and exact numbers are put between by `row`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Symbol:
    """A variable."""

    name: str


@dataclass(frozen=True)
class Number:
    """A number as it is printed, without a sign."""

    digits: str


@dataclass(frozen=True)
class Words:
    """Words within a formula."""

    text: str


@dataclass(frozen=True)
class Operator:
    """A relation, a sign, a bracket or a comma; `tight` ones (a sign before a number) stand close."""

    sign: str
    tight: bool = False


@dataclass(frozen=True)
class Over:
    """A fraction."""

    above: Formula
    below: Formula


@dataclass(frozen=True)
class Root:
    """A square root."""

    inside: Formula


@dataclass(frozen=True)
class Scripts:
    """Something with an index or an exponent, each of one or two characters."""

    base: Formula
    index: str = ""
    exponent: str = ""


@dataclass(frozen=True)
class Row:
    """Things one after the other."""

    items: tuple[Formula, ...]


@dataclass(frozen=True)
class Grid:
    """A matrix in brackets, or between bars for a determinant."""

    rows: tuple[tuple[Formula, ...], ...]
    bars: bool = False


Formula = Symbol | Number | Words | Operator | Over | Root | Scripts | Row | Grid

SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉ᵢⱼₖₙₘ", "0123456789ijknm")
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ᵀ", "0123456789-T")
RELATIONS = "=≈→≥≤>"
SIGNS = "+−·×±"
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<words>\"[^\"]*\"|det|rank|max)|(?P<symbol>[A-Za-zα-ωΑ-Ω…⋯ℝ])"
    rf"|(?P<root>√)|(?P<open>\()|(?P<close>\))|(?P<operator>[{RELATIONS}{SIGNS}/,;:|‖?]))"
)
_SCRIPTS = re.compile(r"([₀-₉ᵢⱼₖₙₘ]*)([⁰¹²³⁴-⁹⁻ᵀ]*)")


def row(*parts: Formula | str) -> Row:
    """Formulas and strings that are read as formulas, one after the other."""
    items: list[Formula] = []
    for part in parts:
        found = math(part) if isinstance(part, str) else part
        items += found.items if isinstance(found, Row) else [found]
    return Row(tuple(items))


def column(entries: Sequence[Formula]) -> Grid:
    """A column vector."""
    return Grid(tuple((entry,) for entry in entries))


def math(text: str) -> Row:
    """Read a formula as it would be printed: letters, numbers, ₁, ², ᵀ, √x, √(…), signs and brackets."""
    reader = _Reader(text)
    items = reader.items()
    if reader.at < len(text.rstrip()):
        raise ValueError(f"can't read {text[reader.at :]!r} in the formula {text!r}")
    return Row(items)


class _Reader:
    """One pass over a formula."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def items(self) -> tuple[Formula, ...]:
        """Up to a bracket that closes, or to the end."""
        found: list[Formula] = []
        while (match := _TOKEN.match(self.text, self.at)) and match.lastgroup != "close":
            tight = match.lastgroup == "operator" and match["operator"] in "−±" and _begins(found)
            found += [Operator(self._take(match), True)] if tight else self._item(match)
        return tuple(found)

    def _take(self, match: re.Match[str]) -> str:
        self.at = match.end()
        return match[match.lastgroup or 0]

    def _item(self, match: re.Match[str]) -> list[Formula]:
        kind, text = match.lastgroup, self._take(match)
        if kind == "operator":
            return [self._scripted(Operator(text))]  # ‖v‖²
        if kind == "root":
            return [self._root()]
        if kind == "open":
            inside = self._inside()
            return [*inside[:-1], self._scripted(inside[-1])]
        if kind == "number":
            return [self._scripted(Number(text))]
        return [self._scripted(Words(text.strip('"')) if kind == "words" else Symbol(text))]

    def _inside(self) -> list[Formula]:
        """What is in brackets, with them."""
        items = self.items()
        if not self.text.startswith(")", self.at):
            raise ValueError(f"a bracket is not closed in the formula {self.text!r}")
        self.at += 1
        return [Operator("("), *items, Operator(")")]

    def _root(self) -> Root:
        match = _TOKEN.match(self.text, self.at)
        assert match is not None, f"nothing under the root in {self.text!r}"
        if match.lastgroup == "open":
            self.at = match.end()
            return Root(Row(tuple(self._inside()[1:-1])))
        (item,) = self._item(match)
        return Root(item)

    def _scripted(self, base: Formula) -> Formula:
        match = _SCRIPTS.match(self.text, self.at)
        if match is None or not match[0]:
            return base
        self.at = match.end()
        return Scripts(base, match[1].translate(SUBSCRIPTS), match[2].translate(SUPERSCRIPTS))


def _begins(found: Sequence[Formula]) -> bool:
    """Whether a sign that comes now belongs to what follows it alone."""
    last = found[-1] if found else Operator("=")
    return isinstance(last, Operator) and last.sign not in ")|‖"

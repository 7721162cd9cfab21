"""Indices and lists of symbols, as formulas want them."""

from __future__ import annotations

_LOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_SMALL = ("no", "one", "two", "three", "four", "five", "six")


def low(index: int) -> str:
    """A number as an index: 12 as ₁₂."""
    return str(index).translate(_LOW)


def several(letter: str, first: int, last: int) -> str:
    """Prose: "`v₂`", "`v₂` and `v₃`" or "`v₂` to `v₅`"."""
    if last <= first:
        return f"`{letter}{low(first)}`"
    return f"`{letter}{low(first)}` {'and' if last == first + 1 else 'to'} `{letter}{low(last)}`"


def total(letter: str, count: int) -> str:
    """A sum of symbols: "λ₁ + λ₂ + λ₃"."""
    if count > 4:
        return f"{letter}₁ + {letter}₂ + … + {letter}{low(count)}"
    return " + ".join(f"{letter}{low(index)}" for index in range(1, count + 1))


def in_words(number: int) -> str:
    """Small numbers as words."""
    return _SMALL[number] if number < len(_SMALL) else str(number)


def noun(number: int, word: str) -> str:
    """ "one direction", "two directions"."""
    return f"{in_words(number)} {word}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """A share under 1, never rounded to 100 %."""
    return f"{min(100 * share, 99.9999):.4g} %"

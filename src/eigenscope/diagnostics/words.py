"""How counts and misspelt names are put into words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def counted(number: float, noun: str) -> str:
    """A number with its noun, in the plural where it is one: "1 product", "2,410 parameters"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def few(names: Sequence[str]) -> str:
    """The first three of a list of names, and how many there are besides."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message on an unknown name: the one that is near, or all there are."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, 1)
    return f": did you mean {close[0]!r}?" if close else f": there are {', '.join(names)}"

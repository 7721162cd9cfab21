"""How counts and misspelt names are put into words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def counted(number: float, noun: str) -> str:
    """A number with its noun, in the plural where it is one: "1 product", "2,410 parameters"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def few(names: Sequence[str], most: int = 3) -> str:
    """The first of a list of names, and how many there are besides."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def percent(share: float, decimals: int = 0) -> str:
    """A share as people read it: "13 %"."""
    return f"{100 * share:.{decimals}f} %"


def did_you_mean(word: str, known: Iterable[str], *, most: int | None = None) -> str:
    """The end of a message on an unknown name: the one that is near, or all there are (of over `most` the first)."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, 1)
    if close or not names:
        return f": did you mean {close[0]!r}?" if close else ": there is none"
    return f": there are {', '.join(names) if most is None or len(names) <= most else few(names)}"

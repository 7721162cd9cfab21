"""A derivation as Markdown with LaTeX between dollar signs, as GitHub and notebooks show it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from eigenscope.explain.formula import Formula, math
from eigenscope.explain.latex import latex
from eigenscope.explain.steps import Display, Part, Picture, Prose, Step, Table


def document(title: str, steps: Sequence[Step]) -> str:
    """The whole of it, with a line break at the end."""
    parts = [f"# {_plain(title)}"]
    for number, step in enumerate(steps, 1):
        parts += [f"## {number}. {step.title}", *map(_part, step.parts)]
    return "\n\n".join(parts) + "\n"


def _part(part: Part) -> str:
    match part:
        case Prose(text) | Picture(words=text):
            return re.sub(r"`([^`]*)`", lambda found: f"${latex(math(found[1])).strip()}$", text)
        case Display(formula):
            return f"$$\n{latex(formula).strip()}\n$$"
        case Table(header, rows):
            lines = [_line(header), f"|{' ---: |' * len(header)}", *map(_line, rows)]
            return "\n".join(lines)


def _line(cells: Sequence[Formula | str]) -> str:
    return f"| {' | '.join(cell if isinstance(cell, str) else f'${latex(cell).strip()}$' for cell in cells)} |"


def _plain(text: str) -> str:
    """What somebody named a file is no markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|$])", r"\\\1", text)

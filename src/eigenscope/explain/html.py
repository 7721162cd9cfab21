"""A derivation as one HTML file: no script, nothing from elsewhere, formulas in MathML, light and dark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from eigenscope.explain import mathml
from eigenscope.explain.formula import Formula, math
from eigenscope.explain.picture import svg
from eigenscope.explain.steps import Display, Part, Picture, Prose, Step, Table


def document(title: str, steps: Sequence[Step]) -> str:
    """The whole page."""
    style = files("eigenscope.explain").joinpath("page.css").read_text(encoding="utf-8")
    contents = "".join(f'<li><a href="#step-{i}">{_prose(step.title)}</a></li>' for i, step in enumerate(steps, 1))
    sections = "\n".join(_section(number, step) for number, step in enumerate(steps, 1))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header><h1>{escape(title)}</h1><nav aria-label="Steps"><ol>{contents}</ol></nav></header>
<main>
{sections}
</main>
<footer>Made by <code>eigenscope explain</code>.</footer>
</body>
</html>
"""


def _section(number: int, step: Step) -> str:
    parts = "\n".join(map(_part, step.parts))
    last = ' class="lesson"' if step.title == "What it teaches" else ""
    return (
        f'<section id="step-{number}"{last}>\n<h2><span class="number">{number}</span> {_prose(step.title)}</h2>\n'
        f"{parts}\n</section>"
    )


def _part(part: Part) -> str:
    match part:
        case Prose(text):
            return f"<p>{_prose(text)}</p>"
        case Display(formula):
            return f'<div class="formula">{mathml.display(formula)}</div>'
        case Picture(words=words):
            return f"<figure>{svg(part)}<figcaption>{_prose(words)}</figcaption></figure>"
        case Table(header, rows):
            lines = "".join(f"<tr>{_cells(line, 'td')}</tr>" for line in rows)
            return f"<table><thead><tr>{_cells(header, 'th')}</tr></thead><tbody>{lines}</tbody></table>"


def _cells(cells: Sequence[Formula | str], tag: str) -> str:
    texts = (escape(cell) if isinstance(cell, str) else mathml.inline(cell) for cell in cells)
    return "".join(f"<{tag}>{text}</{tag}>" for text in texts)


def _prose(text: str) -> str:
    """A paragraph, with the formulas between its marks typeset."""
    pieces = re.split(r"`([^`]*)`", text)
    return "".join(mathml.inline(math(piece)) if i % 2 else escape(piece) for i, piece in enumerate(pieces))

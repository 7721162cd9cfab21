"""A derivation as plain text, 80 columns wide: matrices stand in brackets over several lines."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from eigenscope.explain.formula import (
    RELATIONS,
    SIGNS,
    Formula,
    Grid,
    Number,
    Operator,
    Over,
    Root,
    Row,
    Scripts,
    Symbol,
    Words,
    row,
)
from eigenscope.explain.steps import Display, Part, Picture, Prose, Step, Table

WIDTH = 80
_INDENT = "    "
_LOWER = str.maketrans("0123456789ijknm", "₀₁₂₃₄₅₆₇₈₉ᵢⱼₖₙₘ")
_RAISED = str.maketrans("0123456789-T", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻ᵀ")
_BRACKETS = ("⎡⎢⎣", "⎤⎥⎦"), ("│││", "│││")
_MATRIX_GAP = 2


def document(title: str, steps: Sequence[Step]) -> str:
    """The whole of it, with a line break at the end."""
    parts = [title, "═" * len(title), ""]
    for number, step in enumerate(steps, 1):
        heading = f"{number}. {step.title}"
        parts += [heading, "─" * len(heading), body(step), ""]
    return "\n".join(parts).rstrip() + "\n"


def body(step: Step) -> str:
    """A step without its heading. Formulas of one line that follow each other stand together."""
    parts: list[str] = []
    short = [isinstance(part, Display) and len(_part(part)) == 1 for part in step.parts]
    for part, together in zip(step.parts, [False, *(a and b for a, b in pairwise(short))], strict=True):
        parts += [*([] if together or not parts else [""]), *_part(part)]
    return "\n".join(line.rstrip() for line in parts)


def _part(part: Part) -> list[str]:
    match part:
        case Prose(text):
            return wrapped(text)
        case Picture(words=words):
            return wrapped(words)
        case Display(formula):
            return [_INDENT + line for line in lines(formula)]
        case Table(header, rows):
            return [_INDENT + line for line in _table([header, *rows])]


def wrapped(text: str) -> list[str]:
    """A paragraph, without the marks of its formulas; a formula is not broken at its spaces."""
    kept = re.sub(r"`([^`]*)`", lambda found: plain(found[1]).replace(" ", "\0"), text)
    return [line.replace("\0", " ") for line in textwrap.wrap(kept, WIDTH, break_on_hyphens=False)]


def plain(text: str) -> str:
    """Prose without the marks of its formulas."""
    return text.replace("`", "").replace('"', "")


def _table(rows: Sequence[Sequence[Formula | str]]) -> Iterator[str]:
    cells = [[cell if isinstance(cell, str) else inline(cell) for cell in line] for line in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "   ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))


# -- on one line ------------------------------------------------------------------------------------------------------


def inline(formula: Formula) -> str:
    """A formula on one line."""
    match formula:
        case Symbol(text) | Number(text) | Words(text):
            return text
        case Operator(sign, tight):
            if tight or sign not in f"{RELATIONS}{SIGNS},;:":
                return sign
            return f"{sign} " if sign in ",;:" else f" {sign} "
        case Over(above, below):
            return f"{_grouped(above, RELATIONS + SIGNS)}/{_grouped(below)}"
        case Root(inside):
            return f"√{_grouped(inside)}"
        case Scripts(base, index, exponent):
            return inline(base) + index.translate(_LOWER) + exponent.translate(_RAISED)
        case Row(items):
            return "".join(map(inline, items))
        case Grid(rows):
            return f"[{'; '.join('  '.join(map(inline, line)) for line in rows)}]"


def _grouped(formula: Formula, splitting: str = "") -> str:
    """In brackets where it would fall apart: at one of the signs `splitting`, or if it is more than one thing."""
    items = formula.items if isinstance(formula, Row) else (formula,)
    signs = {item.sign for item in items if isinstance(item, Operator) and not item.tight}
    loose = bool(signs & set(splitting)) if splitting else len(items) > 1 or isinstance(formula, Over)
    return f"({inline(formula)})" if loose else inline(formula)


# -- over several lines -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Box:
    """Lines of one width, and which of them is that of the text around it."""

    lines: tuple[str, ...]
    base: int = 0

    @property
    def width(self) -> int:
        return len(self.lines[0])


def lines(formula: Formula, width: int = WIDTH - len(_INDENT)) -> list[str]:
    """A formula over several lines; where it is too wide it is broken before a relation or a sign."""
    done, line = list[_Box](), list[_Box]()
    for piece in _pieces(row(formula).items):
        box = _beside([_boxed(list(group), width) for _, group in groupby(piece, _is_grid)])
        if line and sum(part.width for part in line) + box.width > width:
            done.append(_beside(line))
            line = []
        line.append(box)
    done.append(_beside(line))
    indent = " " * 4 if len(done) > 1 else ""
    return [(indent if index else "") + text.rstrip() for index, box in enumerate(done) for text in box.lines]


def _pieces(items: Sequence[Formula]) -> Iterator[list[Formula]]:
    piece: list[Formula] = []
    depth = 0
    for item in items:
        if isinstance(item, Operator):
            depth += {"(": 1, ")": -1}.get(item.sign, 0)
            if depth == 0 and piece and not item.tight and item.sign in RELATIONS + SIGNS:
                yield piece
                piece = []
        piece.append(item)
    yield piece


def _is_grid(item: Formula) -> bool:
    return isinstance(item, Grid)


def _boxed(items: Sequence[Formula], width: int) -> _Box:
    if isinstance(items[0], Grid):
        return _beside([_matrix(item, width) for item in items if isinstance(item, Grid)])
    return _Box(("".join(map(inline, items)).strip() + " ",))


def _beside(boxes: Sequence[_Box]) -> _Box:
    base = max(box.base for box in boxes)
    height = base + max(len(box.lines) - box.base for box in boxes)
    padded = []
    for box in boxes:
        above = base - box.base
        blank = (" " * box.width,)
        padded.append(blank * above + box.lines + blank * (height - above - len(box.lines)))
    return _Box(tuple("".join(parts) for parts in zip(*padded, strict=True)), base)


def _matrix(grid: Grid, width: int) -> _Box:
    cells = [[inline(entry) for entry in line] for line in grid.rows]
    columns = _narrowed([list(column) for column in zip(*cells, strict=True)], width - 10)
    widths = [max(map(len, column)) for column in columns]
    rows = [(" " * _MATRIX_GAP).join(map(str.rjust, line, widths)) for line in zip(*columns, strict=True)]
    left, right = _BRACKETS[grid.bars]
    if len(rows) == 1:
        left, right = ("│", "│") if grid.bars else ("[", "]")
    ends = [0, *[1] * (len(rows) - 2), -1][: len(rows)]
    sides = [(left[at], right[at]) for at in ends]
    return _Box(tuple(f"{a}{line}{b} " for (a, b), line in zip(sides, rows, strict=True)), (len(rows) - 1) // 2)


def _narrowed(columns: list[list[str]], width: int) -> list[list[str]]:
    """Columns from the middle give way to dots until the rest fits."""
    dots = ["⋯"] * len(columns[0])
    kept = columns
    while sum(max(map(len, column)) + _MATRIX_GAP for column in kept) > width and len(columns) > 2:
        columns = columns[: len(columns) - 2] + columns[-1:]
        kept = [*columns[:-1], dots, columns[-1]]
    return kept

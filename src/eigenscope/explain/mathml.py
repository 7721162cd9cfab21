"""Formulas in MathML Core, which browsers typeset by themselves."""

from __future__ import annotations

from html import escape

from eigenscope.explain.formula import (
    RELATIONS,
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
)


def inline(formula: Formula) -> str:
    """A formula within a paragraph."""
    return f"<math>{_node(formula)}</math>"


def display(formula: Formula) -> str:
    """A formula on a line of its own."""
    return f'<math display="block">{_node(formula)}</math>'


def _node(formula: Formula) -> str:
    match formula:
        case Symbol(name):
            return f"<mi>{escape(name)}</mi>"
        case Number(digits):
            return f"<mn>{digits}</mn>"
        case Words(text):
            return f"<mtext>{escape(text).replace(' ', '&#160;')}</mtext>"
        case Operator(sign, tight):
            return _operator(sign, tight)
        case Over(above, below):
            return f"<mfrac>{_node(above)}{_node(below)}</mfrac>"
        case Root(inside):
            return f"<msqrt>{_node(inside)}</msqrt>"
        case Scripts(base, index, exponent):
            return _scripts(_node(base), _script(index), _script(exponent))
        case Row(items):
            return f"<mrow>{''.join(map(_node, items))}</mrow>"
        case Grid(rows, bars):
            lines = "".join(f"<mtr>{''.join(f'<mtd>{_node(entry)}</mtd>' for entry in line)}</mtr>" for line in rows)
            return f'<mtable class="{"bars" if bars else "matrix"}">{lines}</mtable>'


def _operator(sign: str, tight: bool) -> str:
    if tight:
        return f'<mo form="prefix" lspace="0" rspace="0">{escape(sign)}</mo>'
    if sign in "()|‖/":
        return f'<mo stretchy="false" lspace="0" rspace="0">{escape(sign)}</mo>'
    if sign in RELATIONS:
        return f'<mo stretchy="false" lspace="0.28em" rspace="0.28em">{escape(sign)}</mo>'
    return f'<mo form="infix">{escape(sign)}</mo>'


def _script(text: str) -> str:
    if not text:
        return ""
    if text.isdigit():
        return f"<mn>{text}</mn>"
    if text.startswith("-"):
        return f"<mrow><mo>−</mo><mn>{text[1:]}</mn></mrow>"
    return f'<mi mathvariant="normal">{text}</mi>' if text == "T" else f"<mi>{text}</mi>"


def _scripts(base: str, index: str, exponent: str) -> str:
    if index and exponent:
        return f"<msubsup>{base}{index}{exponent}</msubsup>"
    return f"<msub>{base}{index}</msub>" if index else f"<msup>{base}{exponent}</msup>"

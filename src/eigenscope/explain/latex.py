"""Formulas in LaTeX, as Markdown pages show them."""

from __future__ import annotations

from eigenscope.explain.formula import Formula, Grid, Number, Operator, Over, Root, Row, Scripts, Symbol, Words

_SIGNS = {
    "−": "-", "·": r"\cdot ", "×": r"\times ", "±": r"\pm ", "≈": r"\approx ", "→": r"\to ",
    "‖": r"\Vert ", "|": r"\vert ",
}  # fmt: skip
_LETTERS = {"λ": r"\lambda ", "σ": r"\sigma ", "Σ": r"\Sigma ", "…": r"\dots "}
_NAMES = {"det": r"\det ", "max": r"\max "}


def latex(formula: Formula) -> str:
    """A formula."""
    match formula:
        case Symbol(name):
            return _LETTERS.get(name, name)
        case Number(digits):
            return digits
        case Words(text):
            return _NAMES.get(text.strip()) or rf"\text{{{text}}}"
        case Operator(sign):
            return _SIGNS.get(sign, sign)
        case Over(above, below):
            return rf"\frac{{{latex(above)}}}{{{latex(below)}}}"
        case Root(inside):
            return rf"\sqrt{{{latex(inside)}}}"
        case Scripts(base, index, exponent):
            low = f"_{{{index}}}" if index else ""
            high = f"^{{{exponent.replace('T', chr(92) + 'top')}}}" if exponent else ""
            return f"{latex(base).strip()}{low}{high}"
        case Row(items):
            return "".join(map(latex, items))
        case Grid(rows, bars):
            kind = "vmatrix" if bars else "bmatrix"
            lines = r" \\ ".join(" & ".join(map(latex, line)) for line in rows)
            return rf"\begin{{{kind}}} {lines} \end{{{kind}}}"

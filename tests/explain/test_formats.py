"""One derivation in three formats: text fits 80 columns, Markdown balances, HTML parses and needs nothing else."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from eigenscope.explain import html, markdown, text
from eigenscope.explain.derivation import derive
from eigenscope.explain.examples import EXAMPLES
from eigenscope.explain.formula import math, row
from eigenscope.explain.latex import latex

MATRICES = {name: example.rows for name, example in EXAMPLES.items()} | {
    "nested roots": [[1, 2], [3, 4]],
    "fractions": [["1.37", "2.21"], ["0.5", "1/3"]],
    "cubic": [[1, 1, 0], [0, 1, 1], [1, 0, 2]],
    "degree 6": [[(3 * i * i + 5 * j + i * j) % 11 for j in range(6)] for i in range(6)],
    "large": [[(i * j) % 7 + 0.123 * i for j in range(10)] for i in range(12)],
    "extreme": [["1e-20", 1], [1, "1e20"]],
    "zero": [[0, 0], [0, 0]],
    "row": [[3, 4]],
    "number": [[-2]],
    "mirror": [[0, 1], [1, 0]],
}


@pytest.fixture(params=MATRICES)
def derivation(request):
    return derive(MATRICES[request.param], name="<b>a & b</b>")


def test_text_fits_80_columns(derivation):
    written = text.document(derivation.title, derivation.steps)
    assert max(map(len, written.splitlines())) <= 80
    assert not re.search(r"[`\0]| $", written, re.MULTILINE)


def test_each_step_is_there_in_every_format(derivation):
    for write in (text.document, markdown.document, html.document):
        written = write(derivation.title, derivation.steps)
        places = [written.rfind(step.title) for step in derivation.steps]
        assert -1 not in places
        assert places == sorted(places)


def test_markdown_balances(derivation):
    written = markdown.document(derivation.title, derivation.steps)
    assert written.count("$") % 2 == 0
    assert written.count("{") == written.count("}")
    assert not re.search(r"[₀-₉ᵀ√σλΣ·≈`]", re.sub(r"\n#.*", "", written))
    assert "<b>" not in written.replace(r"\<b\>", "")


class _Balanced(HTMLParser):
    """Complains about what isn't closed in turn; keeps what points elsewhere."""

    VOID = ("meta", "link", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "link", "img", "iframe", "object"), tag
        self.references += [value for name, value in attributes if name in ("href", "src", "xlink:href", "action")]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_one_file_that_needs_nothing_else(derivation):
    page = html.document(derivation.title, derivation.steps)
    found = _Balanced(page)
    assert found.open == []
    assert all(reference.startswith("#step-") for reference in found.references)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|@font-face", page)
    assert "<b>" not in page


def test_formulas_in_html_are_well_formed_mathml(derivation):
    found = re.findall(r"<math.*?</math>", html.document(derivation.title, derivation.steps))
    for formula in found:
        tree = ElementTree.fromstring(formula)
        for node in tree.iter():
            wanted = {"mfrac": 2, "msub": 2, "msup": 2, "msubsup": 3}.get(node.tag)
            assert wanted is None or len(node) == wanted


def test_only_a_2_by_2_matrix_has_a_picture():
    pages = {name: html.document("", derive(MATRICES[name]).steps) for name in ("symmetric", "counting", "zero")}
    assert {name: "<svg" in page for name, page in pages.items()} == {
        "symmetric": True,
        "counting": False,
        "zero": False,
    }
    svg = re.search(r"<svg.*?</svg>", pages["symmetric"], re.DOTALL)[0]
    assert 'aria-label="A sends the unit circle to an ellipse' in svg
    ElementTree.fromstring(svg)


@pytest.mark.parametrize(("written", "tex"), [
    ("σ₁ = √(2 + √3)/2", r"\sigma_{1}=\sqrt{2+\sqrt{3}}/2"),
    ("λ² − 26λ + 25", r"\lambda^{2}-26\lambda +25"),
    ("‖Av₁₂‖²", r"\Vert Av_{12}\Vert^{2}"),
    ("A = σ₁u₁v₁ᵀ", r"A=\sigma_{1}u_{1}v_{1}^{\top}"),
    ("det(λI − G)", r"\det (\lambda I-G)"),
])  # fmt: skip
def test_a_formula_is_read_as_it_is_printed(written, tex):
    assert latex(math(written)) == tex
    assert text.inline(math(written)) == written


@pytest.mark.parametrize(("written", "why"), [("(a + b", "not closed"), ("a # b", "can't read"), ("a)", "can't read")])
def test_a_formula_that_can_not_be_read_is_an_error(written, why):
    with pytest.raises(ValueError, match=why):
        row(written)


def test_the_text_of_the_first_example():
    derivation = derive(EXAMPLES["symmetric"].rows)
    written = text.document(derivation.title, derivation.steps)
    for expected in (
        "    A = ⎡3  2⎤\n        ⎣2  3⎦\n",
        "det(λI − G) = λ² − 26λ + 25\n",
        "det(λI − G) = (λ − 1)(λ − 25)\n",
        "    λ₁ = 25\n    λ₂ = 1\n",
        "    σ₁ = 5\n    σ₂ = 1\n",
        "    v₁ = 1/√2 ⎡1⎤\n              ⎣1⎦\n",
        "    U = ⎡1/√2   1/√2⎤\n        ⎣1/√2  −1/√2⎦\n",
        "UΣVᵀ − A = 0\n",
    ):
        assert expected in written, expected

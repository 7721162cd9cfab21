"""The report of a scan is one file: nothing is fetched, nothing in a name is markup, the data is all there."""

import io
import json
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from eigenscope.reports.scan_html import write_html
from eigenscope.scanning.result import Scan
from eigenscope.scanning.scan import scan as scan_of
from reports.scans import EVIL, deep_scan, matrix, odd_scan


def html_of(scan):
    out = io.StringIO()
    write_html(out, scan)
    return out.getvalue()


class Elements(HTMLParser):
    """All elements with their attributes, and the text that is no script."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.inside = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside = tag

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text.append(data)


@pytest.fixture(scope="module")
def scan():
    return odd_scan()


@pytest.fixture(scope="module")
def page(scan):
    return html_of(scan)


@pytest.fixture(scope="module")
def data(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_nothing_points_out_of_the_file(page):
    for tag, attributes in Elements(page).elements:
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            assert re.match(r"#|data:,$", attributes.get(name, "#")), (tag, attributes)
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_a_name_that_is_markup_stays_a_name(page, data):
    elements = Elements(page).elements
    assert [tag for tag, _ in elements].count("script") == 2
    assert "img" not in {tag for tag, _ in elements}
    assert EVIL in {row["title"] for row in data["rows"]}
    assert EVIL in "".join(Elements(page).text)


def test_no_element_has_a_style_or_a_handler_which_the_policy_would_refuse(page):
    for _, attributes in Elements(page).elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


def test_every_matrix_has_its_row_its_curves_and_its_sentence(scan, data):
    assert [row["title"] for row in data["rows"]] == [row.title for row in scan.matrices]
    for row, shown in zip(scan.matrices, data["rows"], strict=True):
        if row.reading is None:
            assert shown["problem"] == row.problem
            continue
        assert shown["sentence"] == f"{row.reading.sentence}."
        assert len(shown["numbers"]) == len(data["definitions"])
        curves = shown["curves"]
        places = np.array(data["places"][str(curves["count"])]) - 1
        np.testing.assert_allclose(curves["sigma"], row.reading.singular_values[places], rtol=1e-3)
        assert curves["ranks"] == [row.reading.rank_at_90, row.reading.rank_at_95, row.reading.rank_at_99]


def test_the_ledger_names_every_tensor_that_was_left_out_with_its_reason(scan, page):
    text = "".join(Elements(page).text)
    for item in scan.skipped:
        assert item.name in text
        assert item.reason in text


def test_what_is_not_finite_stands_before_everything_else(page):
    text = "".join(Elements(page).text)
    assert text.index("broken.weight: 20 NaN and 0 infinite entries of 20") < text.index("layer by layer")


def test_five_hundred_matrices_are_written_in_seconds_and_a_few_megabytes():
    scan = deep_scan(84)
    start = time.perf_counter()
    page = html_of(scan)
    assert len(scan.matrices) == 504
    assert time.perf_counter() - start < 10
    assert len(page) < 4e6


def look_of(state):
    page = html_of(scan_of(state))
    return "".join(Elements(page).text).partition("Look first at ")[2].partition("\n")[0]


def test_the_report_looks_first_at_what_is_broken_then_at_odd_spectra_then_at_the_worst_stretch():
    plain = {"a": matrix(30, 30), "b": matrix(30, 30, 1, 3.0)}
    worst = max(scan_of(plain), key=lambda row: row.reading.condition_number.value)
    assert look_of(plain).startswith(f"{worst.name}: it has the worst κ, ")
    low = plain | {"low": matrix(30, 2) @ matrix(2, 30)}
    assert look_of(low).startswith("low: rank 2 of 30")
    assert look_of(low | {"bad": torch.full((3, 3), torch.nan)}) == "bad: 9 NaN and 0 infinite entries of 9."
    assert "Look first" not in html_of(Scan("nothing", "npz", (), (), 0.0))


def test_a_checkpoint_without_matrices_is_a_page_too():
    page = html_of(Scan("nothing", "npz", (), (), 0.0))
    assert "0 matrices with 0 entries" in page

"""The page of a compression: nothing is fetched, names are no markup, every number of the records stands in it."""

import io
import json
import re
from html.parser import HTMLParser

import pytest
from playwright.sync_api import expect

from dashboard.browser.conftest import chromium, contexts, visit  # noqa: F401
from eigenscope.reports.compress_html import write_compression_html, write_trade_off_html
from eigenscope.reports.compress_words import break_even, share
from reports.compressions import report, spectra, trade_off, uncalibrated, uncalibrated_trade_off
from reports.scans import EVIL


def written(writer, found, **options):
    out = io.StringIO()
    writer(out, found, "model", **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def pages():
    """A compression with all there can be, one without data, a dry run, a dry run without data."""
    return {
        "full": written(
            write_compression_html, report(), spectra=spectra(), trade_off=trade_off(), metric="accuracy <b>"
        ),
        "blind": written(write_compression_html, uncalibrated()),
        "dry": written(write_trade_off_html, trade_off(), metric="accuracy"),
        "dry blind": written(write_trade_off_html, uncalibrated_trade_off()),
    }


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


class Elements(HTMLParser):
    """All elements with their attributes, and the text that is no script."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text, self.inside = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside = tag

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text.append(data)


@pytest.mark.parametrize("name", ["full", "blind", "dry", "dry blind"])
def test_nothing_points_out_of_the_file_and_names_stay_names(pages, name):
    page = Elements(pages[name])
    for tag, attributes in page.elements:
        assert re.match(r"#|data:,$", attributes.get("href", attributes.get("src", "#"))), (tag, attributes)
        assert "style" not in attributes, "the policy of the page refuses inline styles"
    assert {"img", "b"}.isdisjoint(tag for tag, _ in page.elements)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert "default-src 'none'" in pages[name]


def test_every_layer_is_a_row_with_its_numbers(pages):
    rows = data_of(pages["full"])["rows"]
    assert [row["title"] for row in rows] == [layer.name for layer in report().layers]
    text = "".join(Elements(pages["full"]).text)
    for layer in report().layers:
        assert layer.name in text
        assert share(layer.kept) in text
    cuts = [row["curves"]["cut"] for row in rows]
    assert cuts == [{"rank": layer.rank, "even": break_even(layer)} for layer in report().layers]


def test_a_layer_says_what_it_loses_or_why_it_was_left(pages):
    sentences = {row["title"]: row["sentence"] for row in data_of(pages["full"])["rows"]}
    # an output error of 5 % is 0.25 % of the variance, to one decimal
    assert sentences["encoder.layer.0.mlp.up"] == (
        "Rank 6 of 24 takes 40.0 % of the parameters and loses 0.3 % of the variance of the layer's output."
    )
    assert sentences["encoder.layer.5.attention.query"].startswith("Left as it is: two thin layers would be no smaller")


def test_the_curves_end_with_the_model_as_it_is(pages):
    budgets = data_of(pages["full"])["budgets"]
    assert [curve["title"] for curve in budgets["curves"]] == ["output error", "accuracy <b>", "latency, ms"]
    for curve, whole in zip(budgets["curves"], (0.0, 0.912, 1.2), strict=True):
        assert curve["x"] == sorted(curve["x"])
        assert (curve["x"][-1], curve["y"][-1]) == (1.0, whole)
        assert len(curve["x"]) == len(curve["y"]) == 8
    assert budgets["at"] == pytest.approx(report().kept, rel=1e-3)
    assert data_of(pages["dry"])["budgets"]["at"] is None
    assert [curve["title"] for curve in data_of(pages["dry blind"])["budgets"]["curves"]] == ["weight error"]


def test_without_data_there_is_no_word_of_outputs_but_why_nothing_was_counted(pages):
    text = "".join(Elements(pages["blind"]).text)
    assert "FLOPs: counted on a calibration batch, and there is none" in text
    assert "latency" not in text
    assert data_of(pages["blind"])["budgets"] is None


def test_the_written_file_is_the_same_each_time(pages):
    assert written(write_trade_off_html, trade_off(), metric="accuracy") == pages["dry"]


# -- in a real Chromium -----------------------------------------------------------------------------------------------


@pytest.fixture
def opened(pages, visit, tmp_path):  # noqa: F811
    """Open a page from a file; the visit fails on console errors and on violations of the policy."""

    def open_page(name, **options):
        path = tmp_path / "page.html"
        path.write_text(pages[name], encoding="utf-8")
        return visit(path.as_uri(), **options)

    return open_page


@pytest.mark.browser
def test_a_layer_is_shown_with_the_part_of_its_spectrum_that_was_kept(opened):
    page = opened("full")
    page.locator("#rows a", has_text="encoder.layer.3.mlp.up").click()
    expect(page.locator("#title")).to_have_text("encoder.layer.3.mlp.up")
    expect(page.locator("#figures path.kept")).to_have_count(2)
    expect(page.locator("#figures .at-label").first).to_have_text("rank 9 kept")
    page.locator("#rows a", has_text="encoder.layer.5.attention.query").click()
    expect(page.locator("#figures path.kept")).to_have_count(0)
    expect(page.locator("#figures .edge-label").first).to_have_text("no gain from 12 on")


@pytest.mark.browser
@pytest.mark.parametrize("name", ["full", "blind", "dry", "dry blind"])
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1440, "dark")])
def test_every_page_fits_a_phone_and_a_desk_in_both_themes(opened, name, width, scheme):
    page = opened(name, width=width, color_scheme=scheme)
    drawn = len((data_of(page.content())["budgets"] or {"curves": []})["curves"])
    expect(page.locator("#budgets figure svg path.line")).to_have_count(drawn)
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.browser
def test_layers_are_filtered_by_what_became_of_them_and_sorted(opened):
    page = opened("full")
    page.locator("#word").select_option("left as it is")
    expect(page.locator("#shown")).to_have_text("1 of 13")
    page.locator("#word").select_option("")
    page.get_by_role("button", name="output error").click()
    expect(page.locator("#rows tbody tr").first).to_contain_text(EVIL[:20])  # 30 %, the largest

"""The report in a real Chromium, from a file: no console errors, no requests."""

import contextlib
import io

import pytest
import torch
from playwright.sync_api import expect

from dashboard.browser.conftest import chromium, contexts, visit  # noqa: F401
from eigenscope.reports.compare_html import write_comparison_html
from eigenscope.reports.scan_html import write_html
from eigenscope.scanning.compare import compare
from eigenscope.scanning.scan import scan
from reports.scans import EVIL, deep_scan, matrix, odd_scan

pytestmark = pytest.mark.browser


_BRIGHTNESS = """shade => {
  const paper = document.createElement('canvas').getContext('2d');
  paper.fillStyle = shade;
  paper.fillRect(0, 0, 1, 1);
  const [red, green, blue] = paper.getImageData(0, 0, 1, 1).data;
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Three files: an odd scan, a deep one, a comparison."""
    folder = tmp_path_factory.mktemp("reports")
    base = {"h.0.proj.weight": matrix(30, 40), "h.1.proj.weight": matrix(30, 40, 1), "same.weight": matrix(5, 5)}
    tuned = base | {f"h.{i}.proj.weight": base[f"h.{i}.proj.weight"] + 0.1 * torch.ones(30, 40) for i in range(2)}
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.html").open("w", encoding="utf-8")) for name in "odct"}
        write_html(files["o"], odd_scan())
        write_html(files["d"], deep_scan(84))
        write_html(files["t"], scan({"w": matrix(2, 5)}))
        write_comparison_html(files["c"], compare(base, tuned))
    return {name: (folder / f"{name}.html").as_uri() for name in "odct"}


@pytest.fixture
def opened(pages, visit):  # noqa: F811
    """A page that may fetch nothing but itself."""
    fetched = []

    def open_page(name, **options):
        def listen(page):
            page.on("request", lambda request: fetched.append(request.url))

        return visit(pages[name], before=listen, **options)

    yield open_page
    assert {url for url in fetched if not url.startswith("data:,")} <= set(pages.values())


def test_a_click_in_the_map_shows_that_matrix_with_its_three_plots(opened):
    page = opened("o")
    page.locator("#map a[aria-label^='model.layers.3.mlp.up_proj.weight']").click()
    expect(page.locator("#title")).to_have_text("model.layers.3.mlp.up_proj.weight")
    expect(page.locator("#figures svg")).to_have_count(3)
    expect(page.locator("#figures svg path.line").first).to_be_visible()
    expect(page.locator("#map a[aria-current]")).to_have_count(1)
    page.go_back()
    expect(page.locator("#title")).to_have_text("broken.weight")


def test_the_map_is_coloured_by_the_chosen_quantity_and_walked_by_arrow_keys(opened):
    page = opened("o")
    cell = page.locator("#map a[aria-label^='model.layers.3.mlp.up_proj.weight']")
    before = cell.get_attribute("aria-label")
    page.locator("#quantity").select_option(label="condition number κ")
    expect(cell).not_to_have_attribute("aria-label", before)
    cell.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#readout")).to_contain_text("model.layers.2.attn.q_proj.weight")
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_have_text("model.layers.2.attn.q_proj.weight")


def test_the_table_is_sorted_by_a_click_and_unknown_values_come_last(opened):
    page = opened("o")
    head = page.locator("#rows th", has=page.get_by_role("button", name="eff. rank"))
    column = head.evaluate("cell => cell.cellIndex")
    shown = f"rows => rows.map(row => parseFloat(row.cells[{column}].dataset.v ?? 'NaN'))"
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    values = page.locator("#rows tbody tr").evaluate_all(shown)
    known = [value for value in values if value == value]
    assert known == sorted(known, reverse=True)
    assert values[-1] != values[-1]
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert [value for value in page.locator("#rows tbody tr").evaluate_all(shown) if value == value] == sorted(known)


def test_the_table_is_filtered_by_name_and_by_spectrum(opened):
    page = opened("o")
    page.locator("#filter").fill("layers.*mlp")
    expect(page.locator("#shown")).to_have_text("6 of 17")
    page.locator("#filter").fill("?*[(\\")
    expect(page.locator("#shown")).to_have_text("0 of 17")
    page.locator("#filter").fill("")
    page.locator("#word").select_option("rank deficient")
    expect(page.locator("#rows tbody tr:visible")).to_have_count(2)


def test_a_filter_that_fits_nothing_says_so(opened):
    page = opened("o")
    expect(page.locator("#nothing")).to_be_hidden()
    page.locator("#filter").fill("nowhere")
    expect(page.locator("#nothing")).to_have_text("None of the 17 fits “nowhere”: clear the filter to see all.")
    page.locator("#filter").fill("")
    expect(page.locator("#nothing")).to_be_hidden()


def test_what_is_only_bounded_sorts_above_every_known_condition_number(opened):
    page = opened("o")
    page.locator("#rows th button", has_text="κ").click()
    first = page.locator("#rows tbody tr th").all_inner_texts()[:2]
    assert first == ["zero.weight", "low.weight"]


def test_the_report_opens_on_the_most_telling_matrix_and_says_why(opened, pages):
    page = opened("o")
    expect(page.locator(".look")).to_have_text("Look first at broken.weight: 20 NaN and 0 infinite entries of 20.")
    expect(page.locator("#title")).to_have_text("broken.weight")
    page = opened("c")
    expect(page.locator(".look")).to_contain_text("Look first at h.")
    assert page.locator(".look a").inner_text() == page.locator("#title").inner_text()


def test_axes_that_count_have_whole_ticks_and_exponents_are_raised(opened):
    page = opened("t")
    ticks = page.locator("#figures figure:nth-child(-n+2) svg g text[text-anchor=middle]").all_text_contents()
    assert ticks == ["1", "2", "0", "1", "2"]
    raised = page.evaluate("raised('falls as λ^−3.9; more').map(part => part.outerHTML ?? part).join('')")
    assert raised == "falls as λ<sup>−3.9</sup>; more"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_least_value_of_the_map_is_no_gap(opened, scheme):
    page = opened("o", color_scheme=scheme)
    colour = "element => getComputedStyle(element).backgroundColor"
    cell = page.locator("#map a[aria-label^='zero.weight']").evaluate(
        f"element => {{ const panel = element.closest('section'); return [({colour})(element), ({colour})(panel)]; }}"
    )
    shades = [page.evaluate(_BRIGHTNESS, shade) for shade in cell]
    assert abs(shades[0] - shades[1]) > 25, cell


def test_a_phone_shows_effective_rank_and_condition_number_and_that_there_is_more(opened):
    page = opened("o", width=390, height=800)
    expect(page.locator("#sideways")).to_be_visible()
    heads = page.locator("#rows thead th")
    assert heads.all_inner_texts()[:3] == ["matrix", "eff. rank", "κ"]
    assert heads.nth(2).evaluate("cell => cell.getBoundingClientRect().right") <= 390
    page.locator("#rows").evaluate("table => { table.parentElement.scrollLeft = 2000; }")
    expect(page.locator("#sideways")).to_be_hidden()
    expect(opened("o").locator("#sideways")).to_be_hidden()


def test_dark_and_light_follow_the_system_and_the_button(opened):
    colour = "() => getComputedStyle(document.body).backgroundColor"
    page = opened("o", color_scheme="dark")
    dark = page.evaluate(colour)
    page.locator("#theme").click()
    light = page.evaluate(colour)
    assert (dark, light) == ("rgb(12, 15, 19)", "rgb(238, 240, 243)")


def test_nothing_is_wider_than_a_phone(opened):
    page = opened("d", width=390, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    expect(page.locator("#figures svg")).to_have_count(3)


def test_behind_every_plot_there_is_a_table(opened):
    page = opened("d")
    for figure in page.locator("#figures figure").all():
        figure.locator("summary").click()
        expect(figure.locator("tbody tr").nth(5)).to_be_attached()


def test_a_name_that_is_markup_neither_runs_nor_makes_elements(opened):
    page = opened("o")
    page.locator("#rows a", has_text="taken").click()
    expect(page.locator("#title")).to_have_text(EVIL)
    assert "eigenscope" in page.title()
    assert page.locator("main img").count() == 0


def test_odd_matrices_are_shown_as_what_they_are(opened):
    page = opened("o")
    page.locator("#rows a", has_text="broken.weight").click()
    expect(page.locator("#sentence")).to_have_text("20 NaN and 0 infinite entries of 20")
    expect(page.locator("#figures svg")).to_have_count(0)
    page.locator("#rows a", has_text="zero.weight").click()
    expect(page.locator("#sentence")).to_contain_text("all entries are zero")
    expect(page.locator("#figures svg")).to_have_count(0)
    page.locator("#rows a", has_text="low.weight").click()
    expect(page.locator("#sentence")).to_contain_text("rank 3 of 30")


def test_five_hundred_matrices_open_at_once(opened):
    page = opened("d")
    expect(page.locator("#map a")).to_have_count(504)
    assert page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd") < 3000


def test_a_comparison_is_shown_in_the_same_way(opened):
    page = opened("c")
    expect(page.locator("header")).to_contain_text("ΔW has rank exactly 1 in both")
    page.locator("#map a[aria-label^='h.1.proj.weight']").click()
    expect(page.locator("#figures h3").first).to_have_text("Singular values of ΔW, log axis")


def test_the_written_file_is_the_same_each_time():
    scan = odd_scan()
    once, again = io.StringIO(), io.StringIO()
    write_html(once, scan)
    write_html(again, scan)
    assert once.getvalue() == again.getvalue()

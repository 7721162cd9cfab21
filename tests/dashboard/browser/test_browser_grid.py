"""The grid of panels: those that apply to the run, in rows without a hole."""

import re

import pytest
from playwright.sync_api import expect

# Panels that come into the places 4 and 6 where the run has something for them, as `applies` says.
MORE = """
for (const [place, applies] of Object.entries(%s))
  PANELS.push({ ...extremes, name: `extra${place}`, title: `Extra ${place}`, place, applies: () => applies });
PANELS.sort((a, b) => a.place - b.place);
"""
ROWS = """() => {
  const grid = document.getElementById("panels").getBoundingClientRect();
  const rows = {};
  for (const panel of document.querySelectorAll("#panels > .panel:not([hidden])")) {
    const { top, left, right } = panel.getBoundingClientRect();
    (rows[Math.round(top)] ??= []).push([left - grid.left, grid.right - right]);
  }
  return Object.values(rows);
}"""


@pytest.fixture
def opened(visit, site):
    """`opened("{4: true, 6: false}", width)`: the page with further panels, of which some apply."""

    def open_page(more, width):
        def answer(route):
            response = route.fetch()
            route.fulfill(response=response, body=response.text() + MORE % more)

        page = visit(
            f"{site}/?run=edge", width=width, before=lambda page: page.route("**/js/panels/registry.js", answer)
        )
        expect(page.locator("[data-panel=extremes] [data-figure=lambda_max]")).to_contain_text("±")
        return page

    return open_page


@pytest.mark.parametrize("width", [390, 1000, 1280, 1600])
@pytest.mark.parametrize("more", ["{}", "{4: true, 6: false}", "{4: true, 6: true}"])
def test_every_row_is_full_whatever_applies(opened, more, width):
    page = opened(more, width)
    count = 7 + more.count("true")
    expect(page.locator("#panels > .panel:visible")).to_have_count(count)
    for row in page.evaluate(ROWS):
        assert abs(row[0][0]) < 1
        assert abs(row[-1][1]) < 1


def test_panels_are_numbered_without_a_gap_and_keys_follow(opened):
    page = opened("{4: true, 6: false}", 1280)
    titles = page.locator("#panels > .panel:visible h2").all_inner_texts()
    assert [re.match(r"\d", title)[0] for title in titles] == [*"12345678"]
    assert "Extra 4" in titles[3]
    page.keyboard.press("6")
    expect(page.locator("[data-panel=extremes]")).to_be_focused()
    expect(page.locator("[data-panel=extra6]")).to_be_hidden()

"""For everyone: keyboard, screen reader, small screens, dark rooms, weak contrast vision."""

import re

import pytest
from playwright.sync_api import expect

from dashboard.browser.conftest import figure

CHARTED = (
    "condition", "density", "saddle", "flow", "extremes", "sharpness", "lipschitz", "measurement", "timeline"
)  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_follows_the_system_and_the_toggle_wins(visit, site, theme):
    page = visit(f"{site}/?run=edge", color_scheme=theme)
    background = "() => getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    assert before == {"light": "rgb(238, 240, 243)", "dark": "rgb(12, 15, 19)"}[theme]
    page.get_by_role("button", name="Switch to the").click()
    assert page.evaluate(background) != before
    page.reload()
    assert page.evaluate(background) != before


CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixel = (name) => {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(--${name})`;
    canvas.fillStyle = getComputedStyle(probe).color;
    probe.remove();
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => {
    const [high, low] = [light(pixel(a)), light(pixel(b))].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const pairs = [];
  const inks = ["ink", "ink-2", "run-b", "ok", "warning", "critical"];
  for (const paper of ["page", "panel", "raised"]) for (const ink of inks)
    pairs.push([ink, paper, ratio(ink, paper)]);
  for (const level of ["ok", "warning", "critical"]) for (const ink of ["ink", "ink-2", level])
    pairs.push([ink, `${level}-wash`, ratio(ink, `${level}-wash`)]);
  return pairs;
}"""


RAMP = """async () => {
    const { ramp } = await import("/js/colormap.js");
    const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    const light = (p) => 0.2126 * linear(p & 255) + 0.7152 * linear((p >> 8) & 255) + 0.0722 * linear((p >> 16) & 255);
    return [...ramp()].map(light);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa_and_the_colour_map_an_order(visit, site, theme):
    page = visit(f"{site}/?run=edge", color_scheme=theme)
    assert [pair for pair in page.evaluate(CONTRASTS) if pair[2] < 4.5] == []
    lights = page.evaluate(RAMP)
    assert lights == sorted(lights, reverse=theme == "light")
    assert abs(lights[-1] - lights[0]) > 0.4


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
def test_no_width_needs_sideways_scrolling(visit, site, width):
    page = visit(f"{site}/?run=saddle&with=canyon", width=width, height=800)
    expect(figure(page, "lambda_max", "extremes")).to_contain_text("±")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = page.evaluate("""() => [...document.querySelectorAll(".panel .value, .panel h2, .facts dd, .status p")]
        .filter((n) => n.getBoundingClientRect().right > n.closest(".panel, .status").getBoundingClientRect().right)
        .map((n) => n.textContent)""")
    assert cut == []
    assert page.locator(".facts").evaluate("n => n.scrollHeight <= n.clientHeight")


def test_the_keyboard_alone_reaches_a_definition_and_comes_back(shown):
    page = shown("edge")
    expect(figure(page, "lambda_max", "extremes")).to_contain_text("±")
    page.keyboard.press("5")
    expect(page.locator("[data-panel=extremes]")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    term = page.locator("[data-panel=extremes] .term").first
    expect(term).to_be_focused()
    page.keyboard.press("Enter")
    definition = page.get_by_role("dialog", name="λmax")
    expect(definition).to_be_visible()
    expect(definition).to_contain_text("The largest eigenvalue of the Hessian")
    expect(definition).to_contain_text("loss / parameter²")
    page.keyboard.press("Escape")
    expect(definition).to_be_hidden()
    expect(term).to_be_focused()


@pytest.mark.parametrize("run", ["edge", "exploding", "vanishing"])
def test_every_label_has_a_definition(shown, run):
    page = shown(run)
    expect(figure(page, "lambda_max", "extremes")).to_contain_text("±")
    names = page.locator(".term").evaluate_all("all => [...new Set(all.map((t) => t.dataset.term))]")
    known = page.request.get("/api/session").json()["definitions"]
    assert len(names) >= 20
    assert [name for name in names if name not in known] == []


def test_a_table_lies_behind_each_chart(shown):
    page = shown("healthy")
    expect(figure(page, "lambda_max", "extremes")).to_contain_text("±")
    for panel in CHARTED:
        section = page.locator(f"[data-panel={panel}]")
        charts = section.locator(".plot:visible").count()
        switch = section.get_by_role("button", name="tables behind the charts")
        switch.press("Enter")
        expect(section.locator(".plot:visible")).to_have_count(0)
        assert section.locator("table:visible").count() >= charts
        expect(section.locator("tbody td").last).not_to_be_empty()
        switch.press("Enter")
        expect(section.locator(".plot:visible")).to_have_count(charts)


def test_charts_have_words_and_answer_keys(shown):
    page = shown("edge")
    chart = page.get_by_role("img", name=re.compile(r"^Sharpness\. score: .* at step 0, .* at step 590"))
    expect(chart).to_be_visible()
    chart.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-panel=sharpness] .at")).to_have_text("step 590")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-panel=sharpness] .at")).to_have_text("step 580")
    expect(page.locator("[data-panel=sharpness] .readout")).to_have_attribute("aria-live", "polite")
    page.keyboard.press("+")
    expect(page.locator("[data-panel=timeline] .span")).not_to_have_text("steps 0 – 599")
    page.keyboard.press("Escape")
    expect(page.locator("[data-panel=timeline] .span")).to_have_text("steps 0 – 599")


def test_controls_have_names_and_landmarks_are_there(shown):
    page = shown("edge")
    expect(figure(page, "lambda_max", "extremes")).to_contain_text("±")
    named = "all => all.every((b) => (b.getAttribute('aria-label') || b.textContent).trim())"
    assert page.locator("button:visible").evaluate_all(named)
    for region in ("Status", "Alert history", "Condition number", "Sharpness"):
        expect(page.get_by_role("region", name=region, exact=True)).to_be_visible()
    expect(page.get_by_role("main")).to_be_visible()


def test_motion_is_left_out_where_it_is_not_wanted(visit, site):
    page = visit(f"{site}/?run=edge", reduced_motion="reduce")
    expect(figure(page, "lambda_max", "extremes")).to_contain_text("±")
    assert page.locator(".needle").evaluate("n => getComputedStyle(n).transitionDuration") == "0s"


def test_help_opens_with_a_key(shown):
    page = shown("edge")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys and marks")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys and marks")).to_be_hidden()

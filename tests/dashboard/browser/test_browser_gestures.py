"""Zoom, pan, overlay, choosing runs, acknowledging: what a hand does to the page."""

import re
import shutil

import pytest
from playwright.sync_api import expect

from dashboard.browser.conftest import figure
from dashboard.conftest import serving
from eigenscope.runs import RunWriter, load_run
from runs.sample import Sample, make_sample_run, sample_config, sample_environment, scalars_of

SPAN = "[data-panel=timeline] .span"
MILLION = 1_000_000


def drag(page, chart, start, end, modifier=None):
    """Across a chart, from one share of its width to another."""
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    y = box["y"] + box["height"] / 2
    if modifier:
        page.keyboard.down(modifier)
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + (start + end) / 2 * box["width"], y)
    page.mouse.move(box["x"] + end * box["width"], y)
    page.mouse.up()
    if modifier:
        page.keyboard.up(modifier)


def settle(page):
    """Until what was done is drawn: two frames."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def span(page):
    settle(page)
    text = page.locator(SPAN).inner_text().replace(",", "")
    return tuple(int(n) for n in re.findall(r"\d+", text))


def loss_chart(page):
    return page.locator("[data-panel=timeline] .u-over").first


def test_a_drag_zooms_all_trends_a_shift_drag_pans_and_a_double_click_resets(visit, site):
    page = visit(f"{site}/?run=healthy")
    expect(page.locator(SPAN)).to_have_text("steps 0 – 599")
    drag(page, loss_chart(page), 0.25, 0.5)
    expect(page.locator(SPAN)).not_to_have_text("steps 0 – 599")
    first, last = span(page)
    assert (first, last) == (pytest.approx(147, abs=5), pytest.approx(300, abs=5))
    drag(page, loss_chart(page), 0.5, 0.25, "Shift")
    assert span(page)[0] == pytest.approx(first + (last - first) / 4, abs=3)
    page.locator("[data-panel=condition] .u-over").dblclick()
    expect(page.locator(SPAN)).to_have_text("steps 0 – 599")


def test_the_cursor_reads_all_trends_at_one_step(visit, site):
    page = visit(f"{site}/?run=healthy")
    expect(page.locator(SPAN)).to_have_text("steps 0 – 599")
    loss_chart(page).hover()
    settle(page)
    steps = page.locator(".panel:not([data-panel=density], [data-panel=flow]) .readout .at")
    for text in steps.all_inner_texts():
        assert abs(int(re.sub(r"\D", "", text)) - 299) <= 10


def test_two_runs_are_told_apart(visit, site):
    page = visit(f"{site}/?run=canyon")
    page.get_by_role("button", name="Runs").click()
    page.get_by_role("button", name="Lay healthy over the shown run").click()
    expect(page.locator(".other")).to_contain_text("with healthy")
    entry = page.locator("[data-panel=condition] .readout .entry").nth(1)
    expect(entry.locator(".v")).to_have_count(2)
    expect(entry.locator(".v").nth(1)).to_contain_text("±")
    looks = entry.locator(".swatch").evaluate_all("all => all.map((s) => getComputedStyle(s).borderTop)")
    assert "solid" in looks[0]
    assert "dashed" in looks[1]
    marks = page.locator("[data-panel=density] .readout .entry").all_inner_texts()
    assert "outlier, canyon" in marks
    assert "density, outlier, healthy" in marks
    expect(page.locator("[data-panel=density] .legend")).to_contain_text("history of canyon")
    assert page.url.endswith("?run=canyon&with=healthy")
    page.get_by_role("button", name="Take healthy away").click()
    expect(page.locator(".other")).to_be_hidden()


def test_another_run_is_chosen_from_the_list(visit, site):
    page = visit(f"{site}/?run=canyon")
    page.get_by_role("button", name="Runs").click()
    rows = page.locator("#runs li")
    expect(rows).to_have_count(12)
    expect(rows.filter(has_text="saddle")).to_contain_text("▲ critical")
    rows.filter(has_text="saddle").get_by_role("button").first.click()
    expect(page.locator(".run-name")).to_have_text("saddle")
    expect(page.locator("#status .action")).to_have_text("PAUSE & PERTURB")


@pytest.fixture
def alarmed(tmp_path, site):
    make_sample_run(tmp_path / "edge", "edge", 300)
    with serving(tmp_path) as browser:
        yield browser, tmp_path / "edge"


def test_an_alert_is_acknowledged_with_the_token(alarmed, visit):
    browser, path = alarmed
    page = visit(f"{browser.origin}/#token={browser.token}")
    page.locator("#alerts").get_by_role("button", name="Acknowledge").first.click()
    expect(page.locator("#alerts .seen")).to_have_text("acknowledged")
    expect(page.locator("#status")).to_contain_text("Acknowledged.")
    assert "token" not in page.url
    with load_run(path) as run:
        assert run.alerts[-1]["acknowledged"]


def test_without_the_token_nothing_is_acknowledged_and_the_page_says_why(alarmed, visit):
    browser, path = alarmed
    page = visit(browser.origin, allow="403")
    page.locator("#alerts").get_by_role("button", name="Acknowledge").first.click()
    expect(page.locator("#alerts .foot")).to_contain_text("this page lacks the token")
    with load_run(path) as run:
        assert not run.alerts[-1]["acknowledged"]


@pytest.fixture(scope="module")
def million(tmp_path_factory):
    """A million losses with one spike, and a thousand readings."""
    folder = tmp_path_factory.mktemp("million")
    writer = RunWriter(folder / "million", config=sample_config("healthy"), environment=sample_environment())
    sample = Sample("healthy")
    for step in range(MILLION):
        writer.scalar("loss", step, 500.0 if step == 654_321 else 1.0 + step % 7)
        if step % 1000 == 0:
            reading = sample.reading(step // 1000, 1.0)
            writer.reading(step, {**reading, "step": step})
            writer.scalars(step, scalars_of(reading))
        if step % 50_000 == 0:
            writer.flush(60)
    writer.close()
    assert writer.dropped == 0
    with serving(folder) as browser:
        yield browser.origin
    shutil.rmtree(folder)


def test_a_million_steps_open_and_pan_with_the_spike_in_sight(visit, million):
    page = visit(million)
    expect(page.locator(SPAN)).to_have_text("steps 0 – 999,999")
    expect(figure(page, "last_step")).to_have_text("999,999")
    with page.expect_response(re.compile("/series.*first=")) as answer:
        drag(page, loss_chart(page), 0.62, 0.68)
    points = answer.value.json()["loss"]
    assert max(points["values"]) == 500.0
    assert len(points["steps"]) < 5000
    first, last = span(page)
    assert first < 654_321 < last
    for share in (0.3, 0.3, 0.3):
        drag(page, loss_chart(page), 0.3 + share, 0.3, "Shift")
    assert span(page)[0] == pytest.approx(first + 0.9 * (last - first), rel=0.02)
    frames = page.evaluate("""() => new Promise((done) => {
        const times = [];
        const chart = document.querySelector("[data-panel=timeline] .plot");
        const next = (now) => {
            times.push(now);
            chart.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", shiftKey: true }));
            if (times.length < 20) requestAnimationFrame(next);
            else done((times.at(-1) - times[0]) / 19);
        };
        requestAnimationFrame(next);
    })""")
    assert frames < 250  # ms a frame; about 17 on an idle machine


def test_a_step_in_the_alerts_shows_its_surroundings(visit, site):
    page = visit(f"{site}/?run=edge")
    page.locator("#alerts").get_by_role("button", name="step 160", exact=True).click()
    first, last = span(page)
    assert (first, last) == (pytest.approx(130, abs=2), pytest.approx(190, abs=2))

"""Panel 4: σ of every block around 1, its history, the layers at fault; there only where a run has it."""

import re

import pytest
from playwright.sync_api import expect

from dashboard.browser.conftest import figure, numbers
from dashboard.conftest import serving
from eigenscope.dashboard.feeds import ListFeed
from eigenscope.runs import RunWriter
from runs.sample import ACTIONS, sample_config, sample_environment
from runs.sample_measurements import INTEGERS, flow_of, sample_block, sample_flow

FLOW = "[data-panel=flow]"


def latest(page, run):
    return page.request.get(f"/api/runs/{run}").json()["measurements"]["flow"]


def test_a_run_without_it_has_no_such_panel(shown):
    page = shown("edge")
    expect(figure(page, "lambda_max", "extremes")).to_contain_text("±")
    expect(page.locator(FLOW)).to_be_hidden()
    expect(page.locator("[data-panel=lipschitz]")).to_be_hidden()


@pytest.mark.parametrize(
    ("run", "chip"), [("healthy", "● healthy"), ("exploding", "▲ exploding"), ("vanishing", "◆ vanishing")]
)
def test_the_verdict_and_its_numbers_are_the_latest(shown, run, chip):
    page = shown(run)
    panel = page.locator(FLOW)
    expect(panel.locator(".chip")).to_have_text(chip)
    expect(panel.locator("h2")).to_have_text("4Jacobian σ by layer")
    flow = latest(page, run)
    for name in ("growth", "depth_factor"):
        assert numbers(figure(page, name, "flow").inner_text())[0] == pytest.approx(flow[name], rel=6e-3)
    known = [b["sigma_max"] for b in flow["blocks"] if b["reason"] is None]
    worst = (min if run == "vanishing" else max)(known, key=lambda sigma: sigma["value"])
    value, error = numbers(figure(page, "sigma_max", "flow").inner_text())
    assert (value, error) == (pytest.approx(worst["value"], rel=6e-3), pytest.approx(worst["error"], rel=0.2))
    expect(panel.locator(".foot")).to_contain_text(flow["verdict_reason"])


def test_the_alert_names_the_action_and_two_remedies_stand_in_words(shown):
    page = shown("exploding")
    panel = page.locator(FLOW)
    expect(panel.locator(".aside")).to_have_text("RE-INITIALIZE")
    remedies = panel.locator(".remarks li")
    expect(remedies).to_have_count(2)
    expect(remedies.first).to_contain_text("orthogonal init: start again from orthogonal weights")
    expect(remedies.first).to_contain_text("On a copy: 1.4× over the depth, healthy.")
    expect(shown("healthy").locator(f"{FLOW} .remarks")).to_be_hidden()


def test_the_chart_has_words_for_who_can_not_see_it(shown):
    page = shown("exploding")
    chart = page.get_by_role("img", name=re.compile(r"^Jacobian σ of 30 blocks at step 550: exploding; worst σmax"))
    expect(chart).to_be_visible()
    expect(chart).to_have_attribute("aria-label", re.compile(r"at fault: net\.\d+, "))


def test_keys_go_from_block_to_block_and_from_check_to_check(shown):
    page = shown("vanishing")
    panel = page.locator(FLOW)
    panel.locator(".plot").first.focus()
    page.keyboard.press("ArrowRight")
    expect(panel.locator(".pointed")).to_have_text(f"transformer.wte, block 1 of 18: not measured, {INTEGERS}")
    expect(panel.locator(".pointed")).to_have_attribute("aria-live", "polite")
    page.keyboard.press("ArrowRight")
    expect(panel.locator(".pointed")).to_contain_text("transformer.h.0, block 2 of 18, Linear + Tanh: gradient ×")
    expect(panel.locator(".readout .v").first).to_contain_text("±")
    panel.locator(".history").focus()
    page.keyboard.press("ArrowRight")
    expect(panel.locator(".pointed")).to_contain_text("transformer.h.1, block 3 of 18")
    page.keyboard.press("ArrowDown")
    expect(figure(page, "flow_step", "flow")).to_have_text("step 500")
    page.keyboard.press("Escape")
    expect(figure(page, "flow_step", "flow")).to_have_text("step 550")


def test_the_pointer_reads_a_block_at_an_earlier_step_and_a_click_draws_it(shown):
    page = shown("exploding")
    panel = page.locator(FLOW)
    picture = panel.locator(".history .u-over")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    page.mouse.move(box["x"] + 6, box["y"] + box["height"] - 2)
    expect(panel.locator(".pointed")).to_contain_text("net.0, block 1 of 30")
    expect(figure(page, "flow_step", "flow")).to_have_text("step 0")
    page.mouse.click(box["x"] + 6, box["y"] + box["height"] - 2)
    panel.get_by_role("button", name="Latest").click()
    page.mouse.move(0, 0)
    expect(figure(page, "flow_step", "flow")).to_have_text("step 550")


PAINT = """() => {
  const canvas = document.querySelector("[data-panel=flow] .history canvas");
  const { width, height } = canvas;
  const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const at = (x, y) => [...pixels.slice(4 * (y * width + x), 4 * (y * width + x) + 3)].join();
  return new Set(Array.from({ length: 40 }, (_, i) => at(60 + i * 6, Math.round(height / 2)))).size;
}"""


def test_the_picture_shows_max_or_rms(visit, site):
    page = visit(f"{site}/?run=exploding")
    panel = page.locator(FLOW)
    expect(panel.locator(".legend")).to_contain_text("σmax by step")
    assert page.evaluate(PAINT) > 5
    panel.get_by_role("button", name="show σrms").press("Enter")
    expect(panel.locator(".legend")).to_contain_text("σrms by step")
    expect(panel.get_by_role("button", name="show σmax")).to_be_visible()


def test_the_table_has_every_block_its_reason_and_all_remedies(visit, site):
    page = visit(f"{site}/?run=vanishing")
    panel = page.locator(FLOW)
    panel.get_by_role("button", name="tables behind the charts").press("Enter")
    expect(panel.locator("table")).to_have_count(3)
    expect(panel.locator("table").first.locator("tbody tr")).to_have_count(18)
    expect(panel.locator("tr", has=page.get_by_role("rowheader", name="transformer.wte"))).to_contain_text(INTEGERS)
    expect(panel.locator("table").nth(1)).to_contain_text("normalize each layer's output")
    expect(panel.locator("table").nth(2).locator("tbody tr")).to_have_count(12)
    faults = [block.removeprefix("▲ ") for block in panel.locator(".fault").all_inner_texts()]
    assert faults == sample_flow("vanishing", 550)["layers_at_fault"]


@pytest.mark.parametrize(("run", "blocks"), [("shallow", 3), ("deep", 200)])
@pytest.mark.parametrize("width", [390, 1440])
def test_few_blocks_or_many_with_long_names_fit(visit, site, run, blocks, width):
    page = visit(f"{site}/?run={run}", width=width)
    expect(page.locator(FLOW)).to_contain_text(f"{blocks} blocks")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = """n => [...n.querySelectorAll(".note, .value, .legend, .readout")].filter((e) =>
        e.getBoundingClientRect().right > n.getBoundingClientRect().right).map((e) => e.textContent)"""
    assert page.locator(FLOW).evaluate(cut) == []


def test_a_sigma_that_is_no_number_is_shown_as_it_is(visit, site):
    page = visit(f"{site}/?run=deep")
    expect(figure(page, "sigma_max", "flow")).to_have_text("∞")
    panel = page.locator(FLOW)
    panel.get_by_role("button", name="tables behind the charts").press("Enter")
    for block, sigma in ((40, "∞"), (41, "NaN"), (90, "0 ± 0")):
        row = panel.locator("tr", has=page.get_by_role("rowheader", name=f"layers.{block}.feed_forward")).first
        expect(row.locator("td").first).to_have_text(sigma)


def test_it_comes_live_with_its_alert(visit, tmp_path, monkeypatch):
    monkeypatch.setattr(ListFeed, "seconds", 0.1)
    writer = RunWriter(tmp_path / "live", config=sample_config("exploding"), environment=sample_environment())
    writer.scalar("loss", 0, 1.0)
    writer.flush()
    with serving(tmp_path) as browser:
        page = visit(browser.origin)
        expect(page.locator("#connection")).to_have_text("● live")
        expect(page.locator(FLOW)).to_be_hidden()
        for step, growth in ((10, 1.0), (20, 2.0)):
            blocks = [sample_block(f"net.{i}", 2.5, 1.0, growth) for i in range(10)]
            writer.measurement("flow", step, flow_of(blocks, step))
            expect(figure(page, "flow_step", "flow")).to_have_text(f"step {step}")
        expect(figure(page, "depth_factor", "flow")).to_have_text("1,020×")
        expect(page.locator(f"{FLOW} .chip")).to_have_text("◆ exploding")
        writer.alert(20, {**ACTIONS["exploding"], "level": "critical", "step": 20, "message": "the gradient explodes"})
        expect(page.locator(f"{FLOW} .chip")).to_have_text("▲ exploding")
        history = page.get_by_role("img", name=re.compile("^History of σ by layer: 2 checks from step 10 to 20"))
        expect(history).to_be_visible()
        writer.close()
        page.close()


def test_a_second_run_lies_over_the_first(visit, site):
    page = visit(f"{site}/?run=healthy&with=exploding")
    panel = page.locator(FLOW)
    expect(panel.locator(".readout")).to_contain_text("exploding")
    expect(panel.locator(".chip")).to_have_text("● healthy")
    page = visit(f"{site}/?run=edge&with=exploding")
    expect(page.locator(f"{FLOW} .chip")).to_have_text("○ no check")
    expect(figure(page, "growth", "flow")).to_have_text("not measured")


COLOURS = """async () => {
    const { diverging } = await import("/js/colormap.js");
    const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    const light = (p) => 0.2126 * linear(p & 255) + 0.7152 * linear((p >> 8) & 255) + 0.0722 * linear((p >> 16) & 255);
    return [...diverging()].map((pixel) => light(pixel));
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_sides_of_1_leave_the_paper_alike(visit, site, theme):
    page = visit(f"{site}/?run=healthy", color_scheme=theme)
    lights = page.evaluate(COLOURS)
    below, above = lights[128::-1], lights[128:]
    for side in (below, above):
        assert side == sorted(side, reverse=theme == "light")
    assert abs(below[-1] - above[-1]) < 0.1
    assert abs(below[-1] - below[0]) > 0.4

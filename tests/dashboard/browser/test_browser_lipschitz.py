"""Panel 6: what is proven and what is certified, the radii, the risk in words; honest where nothing is certified."""

import math
import re

import pytest
from playwright.sync_api import expect

from dashboard.browser.conftest import figure, numbers
from dashboard.conftest import serving
from eigenscope.dashboard.feeds import ListFeed
from eigenscope.runs import RunWriter
from runs.sample import sample_config, sample_environment
from runs.sample_measurements import ATTENTION, lipschitz_scalars, sample_lipschitz

PANEL = "[data-panel=lipschitz]"


def test_bounds_ratio_and_radii_are_the_latest(shown):
    page = shown("healthy")
    panel = page.locator(PANEL)
    expect(panel.locator("h2")).to_have_text("6End-to-end Lipschitz")
    expect(panel.locator(".chip")).to_have_text("○ certified")
    found = page.request.get("/api/runs/healthy").json()["measurements"]["lipschitz"]
    for name in ("lipschitz_lower", "lipschitz_upper", "lipschitz_product"):
        assert numbers(figure(page, name, "lipschitz").inner_text())[0] == pytest.approx(found[name]["value"], rel=5e-3)
    for name in ("certified_radius", "attacked_radius", "ratio"):
        text = figure(page, "lipschitz_ratio" if name == "ratio" else name, "lipschitz").inner_text()
        assert numbers(text)[0] == pytest.approx(found[name], rel=5e-3)
    expect(panel).to_contain_text("at most, ECLipsE-Fast")
    expect(panel.locator(".remarks li")).to_have_text([f"Risk: {found['risk']}"])


def test_the_product_is_drawn_as_itself_and_called_loose(shown):
    page = shown("healthy")
    product = page.request.get("/api/runs/healthy").json()["measurements"]["lipschitz"]["lipschitz_product"]
    chart = page.get_by_role("img", name=re.compile(r"^Lipschitz bounds\. certified: "))
    chart.focus()
    page.keyboard.press("ArrowLeft")
    entry = page.locator(f"{PANEL} .entry", has_text="product, loose")
    expect(entry.locator(".v").first).to_have_text(re.compile(r"\d"))
    assert numbers(entry.locator(".v").first.inner_text())[0] == pytest.approx(product["value"], rel=1e-3)


def test_where_nothing_is_certified_the_panel_says_why(shown):
    page = shown("vanishing")
    panel = page.locator(PANEL)
    expect(panel.locator(".chip")).to_have_text("○ not certified")
    expect(figure(page, "lipschitz_upper", "lipschitz")).to_have_text("none")
    expect(figure(page, "certified_radius", "lipschitz")).to_have_text("—")
    expect(panel).to_contain_text("nothing is certified")
    expect(panel.locator(".remarks li").first).to_have_text(f"No global bound: {ATTENTION}.")
    expect(panel.locator(".remarks li").last).to_contain_text("This rests on the attack alone")
    expect(figure(page, "lipschitz_lower", "lipschitz")).to_have_text(re.compile(r"0\.05"))
    panel.get_by_role("button", name="No global bound").click()
    expect(page.get_by_role("dialog")).to_contain_text("dot-product attention is such a layer")
    page.keyboard.press("Escape")


def test_layers_and_samples_lie_behind_the_table_button(visit, site):
    page = visit(f"{site}/?run=healthy")
    panel = page.locator(PANEL)
    panel.get_by_role("button", name="tables behind the charts").press("Enter")
    tables = panel.locator("table:visible")
    expect(tables).to_have_count(3)
    expect(tables.nth(0)).to_contain_text("Lipschitz bounds: 12 points")
    layer = tables.nth(1).locator("tbody tr").first
    expect(layer).to_have_text(re.compile(r"layers\.0\s*Linear\s*1\.93\s*gram \(fp64\)\s*1 × 64"))
    expect(tables.nth(2).locator("tbody tr")).to_have_count(16)


def test_a_bound_beyond_the_range_of_numbers_is_drawn_by_its_logarithm(visit, tmp_path, monkeypatch):
    monkeypatch.setattr(ListFeed, "seconds", 0.1)
    writer = RunWriter(tmp_path / "live", config=sample_config("exploding"), environment=sample_environment())
    writer.scalar("loss", 0, 1.0)
    writer.flush()
    with serving(tmp_path) as browser:
        page = visit(browser.origin)
        expect(page.locator("#connection")).to_have_text("● live")
        expect(page.locator(PANEL)).to_be_hidden()
        found = sample_lipschitz("exploding", 10) | {"lipschitz_product": {"value": math.inf, "log10": 290.5}}
        found |= {"attacked_radius": None}
        writer.measurement("lipschitz", 10, found)
        writer.scalars(10, lipschitz_scalars(found))
        expect(figure(page, "lipschitz_product", "lipschitz")).to_have_text("3.16·10²⁹⁰")
        expect(figure(page, "attacked_radius", "lipschitz")).to_have_text("—")
        expect(page.locator(PANEL)).to_contain_text("half or more withstood it")
        writer.close()
        page.close()


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_in_either_theme(visit, site, width, theme):
    page = visit(f"{site}/?run=vanishing", width=width, color_scheme=theme)
    expect(figure(page, "lipschitz_lower", "lipschitz")).to_have_text(re.compile(r"\d"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(f"{PANEL} .uplot").evaluate("n => n.querySelector('canvas').width > 100")

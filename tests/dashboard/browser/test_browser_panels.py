"""Each panel shows the figures of the run file, and says why where there is none."""

import math

import pytest
from playwright.sync_api import expect

from dashboard.browser.conftest import figure, numbers

PANEL_OF = {
    "lambda_max": "extremes", "lambda_min": "extremes", "negative_share": "extremes", "trace": "extremes",
    "noise_floor": "extremes", "condition_mean": "condition", "negative_count_certified": "saddle",
    "negative_count_estimate": "saddle", "gradient_norm": "saddle", "sharpness_score": "sharpness",
    "stability_ratio": "sharpness", "num_matvecs": "measurement", "cost_in_gradients": "measurement",
    "probe_samples": "measurement",
}  # fmt: skip
SCENARIOS = ("healthy", "canyon", "saddle", "edge")


def last_reading(page, run):
    return page.request.get(f"/api/runs/{run}").json()["reading"]


@pytest.mark.parametrize("run", SCENARIOS)
def test_every_figure_is_the_last_reading_with_its_error(shown, run):
    page = shown(run)
    expect(figure(page, "lambda_max", "extremes")).to_contain_text("±")
    reading = last_reading(page, run)
    for name, panel in PANEL_OF.items():
        entry = reading[name] if isinstance(reading[name], dict) else {"value": reading[name]}
        error = entry.get("error", entry.get("standard_error")) or 0.0
        shown = numbers(figure(page, name, panel).inner_text())
        assert math.isclose(shown[0], entry["value"], rel_tol=2e-3, abs_tol=0.5 * error), name
        if error:
            assert math.isclose(shown[1], error, rel_tol=0.2), name


def test_a_definite_hessian_shows_kappa(shown):
    page = shown("canyon")
    kappa = figure(page, "condition_number", "condition")
    expect(kappa).to_contain_text("±")
    assert numbers(kappa.inner_text())[0] == pytest.approx(
        last_reading(page, "canyon")["condition_number"]["value"], rel=1e-3
    )
    expect(page.locator("[data-panel=condition] .foot")).to_contain_text("Definite")


@pytest.mark.parametrize(("run", "word"), [("healthy", "indefinite"), ("bare", "singular")])
def test_kappa_of_any_other_hessian_is_a_word_and_a_reason(shown, run, word):
    page = shown(run)
    expect(figure(page, "condition_number", "condition")).to_have_text(word)
    expect(figure(page, "iterations_to_halve", "condition")).to_have_text("none: κ is null")
    expect(page.locator("[data-panel=condition] .foot")).to_contain_text(word.capitalize())
    assert numbers(figure(page, "condition_mean", "condition").inner_text())[0] > 0


def test_without_an_optimizer_sharpness_says_so(shown):
    page = shown("bare")
    expect(figure(page, "sharpness_score", "sharpness")).to_have_text("not defined")
    expect(page.locator("[data-panel=sharpness] .foot")).to_contain_text("No optimizer was given")
    expect(page.locator("[data-panel=sharpness] .needle")).to_be_hidden()


def test_sharpness_marks_the_edge_and_names_the_formula(shown):
    page = shown("edge")
    panel = page.locator("[data-panel=sharpness]")
    expect(panel).to_contain_text("SGD: λmax·η / 2")
    expect(panel).to_contain_text("past the edge")
    expect(panel.locator(".foot")).to_contain_text("evidence that flat minima generalize better is mixed")
    score = last_reading(page, "edge")["sharpness_score"]["value"]
    assert float(panel.get_by_role("meter").get_attribute("aria-valuenow")) == pytest.approx(score, abs=0.05)


def test_the_saddle_names_its_verdict_and_the_escape(shown):
    page = shown("saddle")
    panel = page.locator("[data-panel=saddle]")
    expect(panel.locator(".chip")).to_have_text("▲ at a saddle")
    expect(figure(page, "negative_count_certified", "saddle")).to_have_text("3")
    expect(figure(page, "escape", "saddle")).to_have_text("−0.018")
    expect(panel).to_contain_text("predicted −0.02")


def test_the_status_bar_has_the_worst_alert_its_reason_and_the_action(shown):
    page = shown("saddle")
    status = page.locator("#status")
    expect(status).to_contain_text("critical")
    expect(status).to_contain_text("At a saddle: 3 certified negative eigenvalues")
    expect(status).to_contain_text("the gradient vanishes while the loss still falls")
    expect(status.locator(".action")).to_have_text("PAUSE & PERTURB")
    expect(page).to_have_title("▲ saddle · eigenscope")


def test_a_quiet_run_says_that_no_rule_is_raised(shown):
    page = shown("healthy")
    expect(page.locator("#status")).to_contain_text("No rule is raised")
    expect(page.locator("#connection")).to_have_text("■ finished")
    expect(figure(page, "measuring_share")).to_have_text("1.6 % of the time")
    expect(figure(page, "probe_samples")).to_have_text("512 samples")


def test_an_older_density_says_its_step(shown):
    page = shown("healthy")
    foot = page.locator("[data-panel=density] .foot")
    expect(foot).to_have_text("Density from step 550; the other numbers are from step 590.")
    expect(page.locator("[data-panel=extremes]")).to_contain_text("from step 550")


def test_an_earlier_spectrum_can_be_chosen_in_the_history(shown):
    page = shown("healthy")
    panel = page.locator("[data-panel=density]")
    expect(panel.locator(".foot")).to_contain_text("step 550")
    panel.locator(".history").focus()
    page.keyboard.press("ArrowDown")
    expect(panel.locator(".foot")).to_have_text("Density from step 500, chosen in the history.")
    panel.get_by_role("button", name="Latest").click()
    expect(panel.locator(".foot")).to_contain_text("step 550")


def test_a_run_without_a_reading_says_so_and_draws_the_loss(shown):
    page = shown("waiting")
    expect(page.locator("#status")).to_contain_text("This run ended without a check")
    expect(page.locator("#status")).to_contain_text("every=N")
    expect(page.locator("#ended")).to_contain_text("The training ended with an error at step 29")
    expect(page.locator("[data-panel=condition] .chip")).to_have_text("○ no check")
    expect(figure(page, "lambda_max", "extremes")).to_have_text("not measured")
    expect(page.locator("[data-panel=timeline] .readout .v").first).to_have_text("2.01")


def test_a_run_in_a_folder_with_an_odd_name_is_found(visit, site):
    page = visit(f"{site}/?run=sweep%2Flr+0.1+%25+%C3%BC")
    expect(page.locator(".run-name")).to_have_text("lr 0.1 % ü")
    expect(figure(page, "lambda_max", "extremes")).to_contain_text("±")


@pytest.mark.parametrize("address", ["?run=nobody", "#run=nobody"])
def test_an_unknown_run_is_told_once_beside_the_runs_there_are(visit, site, address):
    asked, sockets = [], []

    def listen(page):
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: sockets.append(socket.url))

    page = visit(f"{site}/{address}", allow="404", before=listen)
    missing = page.locator("#missing")
    expect(missing).to_contain_text("There is no run 'nobody'")
    expect(missing.locator("li")).to_have_count(12)
    for other in ("#status", "#lost", "#panels", "#ended", "#empty"):
        expect(page.locator(other)).to_be_hidden()
    assert len([url for url in asked if "nobody" in url and "/api/" in url]) == 1
    assert [url for url in sockets if "nobody" in url] == []
    missing.get_by_role("button", name="canyon", exact=True).click()
    expect(figure(page, "lambda_max", "extremes")).to_contain_text("±")
    expect(missing).to_be_hidden()


def test_an_unknown_run_is_not_laid_over_another(visit, site):
    page = visit(f"{site}/?run=edge&with=nobody", allow="404")
    expect(figure(page, "lambda_max", "extremes")).to_contain_text("±")
    expect(page.locator(".other")).to_be_hidden()
    assert page.url.endswith("?run=edge")


def test_an_interrupted_run_is_no_failure(shown):
    page = shown("halted")
    expect(page.locator("#connection")).to_have_text("■ interrupted")
    expect(page.locator("#ended")).to_be_hidden()
    neutral = page.locator(".run-facts").evaluate("n => getComputedStyle(n).color")
    assert page.locator("#connection").evaluate("n => getComputedStyle(n).color") == neutral


def test_a_share_is_written_in_per_cent(shown):
    page = shown("healthy")
    expect(page.locator("[data-panel=measurement] .readout .v").first).to_have_text("1.6 %")


def test_a_loss_that_is_not_a_number_is_shown_as_such(shown):
    page = shown("bare")
    panel = page.locator("[data-panel=timeline]")
    panel.get_by_role("button", name="tables behind the charts").click()
    row = panel.locator("table").first.locator("tr", has=page.get_by_role("rowheader", name="40", exact=True))
    expect(row.locator("td")).to_have_text("NaN")

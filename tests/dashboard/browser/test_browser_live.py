"""What is written reaches every open page; a lost server is told and found again."""

import time

import pytest
from playwright.sync_api import expect

from dashboard.browser.conftest import figure
from dashboard.conftest import serving
from eigenscope.dashboard import Server
from eigenscope.dashboard.feeds import ListFeed
from eigenscope.runs import RunWriter
from runs.sample import ACTIONS, Sample, sample_config, sample_environment, scalars_of

TABS = 10


class Training:
    """A run that is being written, a step at a call."""

    def __init__(self, folder, name="live"):
        self.writer = RunWriter(folder / name, config=sample_config("saddle"), environment=sample_environment())
        self.sample = Sample("healthy")
        self.sample.spectrum = self.sample.density(0)
        self.last = -1

    def step(self):
        self.last += 1
        self.writer.scalars(self.last, {"loss": 1.0 + self.last, "learning_rate": 0.1})

    def reading(self, **changes):
        """A reading at the present step."""
        reading = {**self.sample.reading(self.last, 1.0), "step": self.last, **changes}
        self.writer.reading(self.last, reading)
        self.writer.scalars(self.last, scalars_of(reading))

    def alert(self, level="critical"):
        message = "at a saddle: 3 certified negative eigenvalues" if level != "ok" else "over"
        self.writer.alert(self.last, {**ACTIONS["saddle"], "level": level, "step": self.last, "message": message})


@pytest.fixture
def training(tmp_path):
    training = Training(tmp_path)
    for _ in range(20):
        training.step()
    training.reading()
    training.writer.flush()
    yield training
    training.writer.close()


@pytest.fixture
def origin(tmp_path, training, monkeypatch):
    monkeypatch.setattr(ListFeed, "seconds", 0.1)
    with serving(tmp_path) as browser:
        yield browser.origin


def loss(page):
    return page.locator("[data-panel=timeline] .readout .v").first


def test_a_reading_and_a_loss_reach_the_page(origin, training, visit):
    page = visit(origin)
    expect(page.locator("#connection")).to_have_text("● live")
    expect(loss(page)).to_have_text("20")
    training.step()
    training.reading(lambda_max={"value": 77.25, "error": 0.25})
    expect(figure(page, "lambda_max", "extremes")).to_have_text("77.25 ± 0.25")
    expect(loss(page)).to_have_text("21")
    expect(figure(page, "last_step")).to_have_text("20")


def test_before_the_first_check_the_page_says_what_it_waits_for(visit, tmp_path, monkeypatch):
    monkeypatch.setattr(ListFeed, "seconds", 0.1)
    with serving(tmp_path) as browser:
        training = Training(tmp_path)
        training.step()
        training.writer.flush()
        page = visit(browser.origin)
        expect(page.locator("#status")).to_contain_text("No check yet")
        expect(page.locator("#status")).to_contain_text("until the training has earned its budget, 2 % of the time")
        training.writer.close("interrupted")
        expect(page.locator("#status")).to_contain_text("This run ended without a check")
        expect(page.locator("[data-panel=condition] .chip")).to_have_text("○ no check")
        page.close()


def test_a_density_reaches_the_page(origin, training, visit):
    page = visit(origin)
    expect(page.locator("[data-panel=density] .foot")).to_have_text(
        "Density from step 0; the other numbers are from step 19."
    )
    for _ in range(31):
        training.step()
    training.reading(density=training.sample.density(50))
    expect(page.locator("[data-panel=density] .foot")).to_have_text("Density from step 50.")


def test_an_alert_is_shown_announced_and_cleared(origin, training, visit):
    page = visit(origin)
    expect(page.locator("#status")).to_contain_text("No rule is raised")
    training.alert()
    expect(page.locator("#status .action")).to_have_text("PAUSE & PERTURB")
    expect(page.locator("#announce")).to_have_text(
        "critical: at a saddle: 3 certified negative eigenvalues. Recommended: PAUSE & PERTURB"
    )
    expect(page.locator("[data-panel=saddle] .aside")).to_have_text("PAUSE & PERTURB")
    training.alert("ok")
    expect(page.locator("#status")).to_contain_text("No rule is raised")
    expect(page.locator("#alerts li")).to_have_count(2)


def test_ten_tabs_at_once_stay_live(origin, training, visit):
    pages = [visit(origin, width=800, height=500) for _ in range(TABS)]
    for page in pages:
        expect(page.locator("#connection")).to_have_text("● live")
    training.step()
    training.reading(lambda_max={"value": 55.5, "error": 0.5})
    for page in pages:
        expect(figure(page, "lambda_max", "extremes")).to_have_text("55.5 ± 0.5")


def test_the_end_of_a_run_is_shown(origin, training, visit):
    page = visit(origin)
    expect(page.locator("#connection")).to_have_text("● live")
    training.writer.close("failed")
    expect(page.locator("#connection")).to_have_text("✕ failed")
    expect(page.locator("#ended")).to_contain_text("ended with an error at step 19")


def test_an_empty_folder_fills_by_itself(visit, tmp_path, monkeypatch):
    monkeypatch.setattr(ListFeed, "seconds", 0.1)
    with serving(tmp_path) as browser:
        page = visit(browser.origin)
        expect(page.locator("#empty")).to_be_visible()
        expect(page.locator("#panels")).to_be_hidden()
        training = Training(tmp_path, "first")
        training.step()
        expect(page.locator(".run-name")).to_have_text("first")
        expect(loss(page)).to_have_text("1")
        training.writer.close()
        page.close()


def test_a_run_that_starts_elsewhere_is_told_beside_one_that_is_over(visit, tmp_path, monkeypatch):
    monkeypatch.setattr(ListFeed, "seconds", 0.1)
    first = Training(tmp_path, "first")
    first.step()
    first.writer.close()
    with serving(tmp_path) as browser:
        page = visit(browser.origin)
        expect(page.locator(".run-name")).to_have_text("first")
        expect(page.locator("#elsewhere")).to_be_empty()
        second = Training(tmp_path, "second")
        second.step()
        expect(page.locator("#elsewhere")).to_have_text("● Another run is live: second")
        page.locator("#elsewhere button").click()
        expect(page.locator(".run-name")).to_have_text("second")
        expect(page.locator("#elsewhere")).to_be_empty()
        second.writer.close()
        page.close()


def test_a_lost_server_is_told_and_found_again(visit, tmp_path, training):
    server = Server(tmp_path, port=0)
    server.start()
    page = visit(server.url, allow="WebSocket|ERR_CONNECTION_REFUSED")
    expect(loss(page)).to_have_text("20")
    server.stop()
    expect(page.locator("#lost")).to_contain_text("The server does not answer. What you see is as of step 19.")
    expect(page.locator("#connection")).to_have_text("○ reconnecting")
    training.step()
    training.writer.flush()
    again = Server(tmp_path, port=server.port)
    again.start()
    expect(page.locator("#lost")).to_be_hidden()
    expect(loss(page)).to_have_text("21")
    page.close()
    again.stop()


def test_a_run_that_is_gone_is_told_and_not_asked_for_again(visit, tmp_path, training):
    training.writer.close()
    server = Server(tmp_path, port=0)
    server.start()
    page = visit(server.url, allow="WebSocket|ERR_CONNECTION_REFUSED|404")
    expect(loss(page)).to_have_text("20")
    server.stop()
    expect(page.locator("#connection")).to_have_text("○ reconnecting")
    training.writer.path.unlink()
    again = Server(tmp_path, port=server.port)
    again.start()
    expect(page.locator("#ended")).to_contain_text("There is no run 'live'")
    expect(page.locator("#lost")).to_be_hidden()
    expect(loss(page)).to_have_text("20")
    page.close()
    again.stop()


def test_a_reading_is_drawn_soon_after_it_is_written(origin, training, visit):
    """The whole way, writer to pixels, measured in the page; the bound leaves room for a busy machine."""
    page = visit(origin)
    expect(loss(page)).to_have_text("20")
    page.evaluate("""() => {
        window.seen = {};
        const node = document.querySelector("[data-panel=timeline] .readout .v");
        new MutationObserver(() => (window.seen[node.textContent] ??= Date.now())).observe(node, {childList: true});
    }""")
    delays = []
    for value in range(30, 40):
        written = time.time() * 1000
        training.last += 1
        training.writer.scalar("loss", training.last, float(value))
        expect(loss(page)).to_have_text(str(value))
        delays.append(page.evaluate("(value) => window.seen[value]", str(value)) - written)
    assert sorted(delays)[len(delays) // 2] < 500


def test_memory_stays_bounded_in_a_long_run(origin, training, visit):
    page = visit(origin)
    expect(loss(page)).to_have_text("20")
    points = page.evaluate("""async () => {
        const { Track } = await import("/js/track.js");
        const track = new Track();
        for (let step = 0; step < 200_000; step++) track.put(step, step === 77_777 ? 1e9 : Math.sin(step), null);
        return [track.length, Math.max(...track.values), track.steps[track.length - 1]];
    }""")
    assert points[0] < 25_000
    assert points[1:] == [1e9, 199_999]

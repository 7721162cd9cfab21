"""Apply and Dismiss in a real browser, on a network that really trains; what was done is drawn and listed."""

import re
import threading

import pytest
from playwright.sync_api import expect

from dashboard.conftest import serving
from eigenscope.runs import RunWriter, load_run
from monitor.acting_loop import LEARNING_RATE, Halve, Loop
from runs.sample import Sample, sample_config, sample_environment
from runs.sample_actions import sample_action

LIST = "#actions li"


class Training:
    """A real loop on a thread of its own; it trains until the test ends."""

    def __init__(self, folder, *actions):
        self.loop = Loop(*actions, act="ask", run=folder / "live", cool_down=10**6)
        self.over = threading.Event()
        self.loop.steps(5)
        self.thread = threading.Thread(target=self.go_on)
        self.thread.start()

    def go_on(self):
        while not self.over.wait(0.002):
            self.loop.train()

    def end(self):
        self.over.set()
        self.thread.join()
        self.loop.monitor.close()


@pytest.fixture
def training(tmp_path):
    training = Training(tmp_path, Halve())
    yield training
    training.end()


@pytest.fixture
def browser(tmp_path, training):
    with serving(tmp_path) as browser:
        yield browser


def address(browser):
    return f"{browser.origin}/#token={browser.token}"


def test_apply_pressed_in_two_pages_at_once_is_applied_once(browser, training, visit):
    pages = [visit(address(browser), allow="409") for _ in range(2)]
    for page in pages:
        expect(page.locator(".proposal")).to_contain_text("HALVE THE STEP SIZE")
        expect(page.locator(".proposal")).to_contain_text(
            "it helps if the test says so, and is undone by itself if not"
        )
    seen = training.loop.monitor.step_count
    for page in pages:  # neither waits for the other's answer
        page.evaluate("document.querySelector('.proposal .solid').click()")
    for page in pages:
        expect(page.locator(LIST)).to_contain_text("kept")
        expect(page.locator(".proposal")).to_have_count(0)
        expect(page.locator(LIST)).to_contain_text(f"lr {LEARNING_RATE} → {LEARNING_RATE / 2}")
        expect(page.locator(f"{LIST} .sides")).to_contain_text("loss")
        expect(page.locator(f"{LIST} .end")).to_have_text("It helped: the test says so.")
    training.end()
    assert training.loop.monitor.step_count > seen, "training went on"
    assert training.loop.rate == LEARNING_RATE / 2
    with load_run(training.loop.monitor.run_path) as run:
        assert [entry["state"] for entry in run.actions[0]["log"]] == ["proposed", "applied", "kept"]


def test_dismiss_by_keyboard_takes_the_card_away_and_focus_is_not_lost(browser, training, visit):
    page = visit(address(browser))
    page.get_by_role("button", name="Dismiss: HALVE THE STEP SIZE").focus()
    page.keyboard.press("Enter")
    expect(page.locator(LIST)).to_contain_text("dismissed")
    expect(page.locator("#proposals")).to_be_hidden()
    expect(page.locator("#actions")).to_be_focused()
    training.end()
    assert training.loop.rate == LEARNING_RATE


def test_without_the_token_nothing_is_applied_and_the_page_says_why(browser, training, visit):
    page = visit(browser.origin, allow="403")
    page.get_by_role("button", name="Apply: HALVE THE STEP SIZE").click()
    expect(page.locator(".proposal .note")).to_have_text(
        "Not applied: this page lacks the token. Open the address that eigenscope printed when it started."
    )
    expect(page.get_by_role("button", name="Apply: HALVE THE STEP SIZE")).to_be_enabled()
    training.end()
    assert training.loop.rate == LEARNING_RATE


# -- made-up runs, each state at will ----------------------------------------------------------------------------------


@pytest.fixture
def writer(tmp_path):
    writer = RunWriter(tmp_path / "edge", config=sample_config("edge"), environment=sample_environment())
    sample = Sample("edge")
    for step in range(186):
        sample.write(writer, step)
    assert writer.flush()
    yield writer
    writer.close()


@pytest.fixture
def site_of(tmp_path, writer):
    with serving(tmp_path) as browser:
        yield browser


def test_a_proposal_is_announced_and_stands_in_for_the_recommendation(site_of, writer, visit):
    page = visit(address(site_of))
    expect(page.locator("#status .action")).to_have_text("LOWER THE STEP SIZE")
    expect(page.locator("#actions")).to_be_hidden()
    writer.action(185, sample_action("proposed", 1, 185))
    expect(page.locator("#announce-actions")).to_have_text(
        "Proposed: LOWER THE STEP SIZE. Answer with the buttons Apply and Dismiss below the status."
    )
    expect(page.locator("#status .action")).to_be_hidden()
    expect(page.locator(".proposal")).to_contain_text("Proposed at step 185 as action 1")


def test_the_buttons_rest_once_either_was_pressed_anywhere(site_of, writer, visit):
    writer.action(185, sample_action("proposed", 1, 185))
    writer.flush()
    one, other = (visit(address(site_of)) for _ in range(2))
    for page in (one, other):
        expect(page.locator(".proposal button")).to_have_count(2)
    one.get_by_role("button", name="Apply: LOWER THE STEP SIZE").click()
    for page in (one, other):
        expect(page.locator(".proposal .note")).to_have_text(
            "Apply was pressed: it is applied between the next two steps."
        )
        for button in page.locator(".proposal button").all():
            expect(button).to_be_disabled()


def test_what_is_to_be_applied_waits_for_the_action_on_trial(site_of, writer, visit):
    writer.action(185, sample_action("applied", 1, 180))
    writer.action(185, sample_action("proposed", 2, 185))
    writer.flush()
    page = visit(address(site_of))
    page.locator(".proposal").get_by_role("button", name="Apply: LOWER THE STEP SIZE").click()
    note = page.locator(".proposal .note")
    expect(note).to_have_text("Apply was pressed: it is applied once action 1 has been judged.")
    writer.action(190, sample_action("kept", 1, 190))
    writer.flush()
    expect(note).to_have_text("Apply was pressed: it is applied between the next two steps.")


def test_nobody_answers_a_run_that_has_ended(site_of, writer, visit):
    writer.action(185, sample_action("proposed", 1, 185))
    page = visit(address(site_of))
    expect(page.locator(".proposal")).to_have_count(1)
    writer.close()
    expect(page.locator(".proposal")).to_have_count(0)
    expect(page.locator(LIST)).to_contain_text("proposed")


@pytest.mark.parametrize(
    ("state", "chip", "words"),
    [
        ("applied", "○ on trial", "lr 0.4 → 0.2"),
        ("kept", "● kept", "It helped: the stability ratio is under 1."),
        ("undone", "◆ undone", "It did not help; the loss rose from 0.42 to 1.3"),
        ("failed", "▲ failed", "RuntimeError: the optimizer has no group 3: everything is as it was before"),
        ("refused", "○ refused", "The optimizer was swapped meanwhile."),
    ],
)
def test_each_end_is_told_in_a_shape_a_word_and_a_sentence(site_of, writer, visit, state, chip, words):
    page = visit(address(site_of))
    expect(page.locator("#connection")).to_have_text("● live")
    writer.action(150, sample_action(state, 1, 150))
    expect(page.locator(f"{LIST} .chip")).to_have_text(chip)
    expect(page.locator(LIST)).to_contain_text(words)
    expect(page.locator("#announce-actions")).to_contain_text("LOWER THE STEP SIZE")
    if state in ("kept", "undone"):
        sides = page.locator(f"{LIST} .sides div").filter(has_text="stability")
        expect(sides).to_contain_text("1.6 → 0.8" if state == "kept" else "1.6 → 2.4")


MARKED = """() => {
  const canvas = document.querySelector("[data-panel=timeline] .plot canvas");
  const { width } = canvas;
  const row = canvas.getContext("2d").getImageData(0, Math.round(10 * devicePixelRatio), width, 1).data;
  return [...Array(width).keys()].map((i) => row[4 * i + 3]).join(",");
}"""


def test_an_action_is_marked_on_every_chart_and_its_note_opens_under_the_cursor(site_of, writer, visit):
    page = visit(address(site_of), allow="willReadFrequently")
    expect(page.locator("[data-panel=timeline] .readout .v").first).not_to_be_empty()
    before = page.evaluate(MARKED)
    writer.action(100, sample_action("kept", 1, 100))
    expect(page.locator(LIST)).to_contain_text("kept")
    page.wait_for_function(f"before => ({MARKED})() !== before", arg=before)
    plot = page.locator("[data-panel=timeline] .plot").first
    plot.scroll_into_view_if_needed()
    over = plot.locator(".u-over").bounding_box()
    page.mouse.move(over["x"] + over["width"] * (100 + 1.85) / 188.7, over["y"] + 50)
    tip = plot.locator(".tip")
    expect(tip).to_be_visible()
    expect(tip).to_contain_text("step 100: lr 0.4 → 0.2")
    expect(tip).to_contain_text("because 1.6× the stability threshold of SGD")
    expect(tip).to_contain_text(re.compile("● kept it helped"))
    expect(page.locator(".tip:visible")).to_have_count(1)
    page.mouse.move(over["x"] + over["width"] * 0.9, over["y"] + 50)
    expect(tip).to_be_hidden()


@pytest.mark.parametrize("width", [360, 390, 1440])
def test_proposals_and_the_list_fit_any_width(site_of, writer, visit, width):
    for key, state in enumerate(("kept", "undone", "failed", "proposed"), 1):
        writer.action(150, sample_action(state, key, 150))
    page = visit(address(site_of), width=width, height=800)
    expect(page.locator(LIST)).to_have_count(4)
    expect(page.locator(".proposal")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.locator(".proposal button").evaluate_all("all => all.map((n) => n.getBoundingClientRect().height)")
    assert min(sizes) >= 30

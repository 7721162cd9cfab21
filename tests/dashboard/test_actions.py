"""Actions through the server: read with the run, pushed as they change, answered once and only with the token."""

import pytest

from dashboard.conftest import receive, serving
from eigenscope.runs import RunWriter
from runs.sample_actions import sample_action


@pytest.fixture
def writer(tmp_path):
    writer = RunWriter(tmp_path / "live")
    writer.scalar("loss", 0, 1.0)
    writer.action(100, sample_action("proposed", 1))
    assert writer.flush()
    yield writer
    writer.close()


@pytest.fixture
def browser(tmp_path, writer):
    with serving(tmp_path) as browser:
        yield browser


def press(browser, verb="apply", key=1, run="live", **headers):
    sent = {"origin": browser.origin, "x-eigenscope-token": browser.token, **headers}
    return browser.http.post(f"/api/runs/{run}/actions/{key}/{verb}", headers=sent)


def test_a_run_comes_with_its_actions(browser, writer):
    (action,) = browser.json("/api/runs/live")["actions"]
    assert (action["key"], action["state"], action["asked"]) == (1, "proposed", None)
    assert [entry["state"] for entry in action["log"]] == ["proposed"]


@pytest.mark.parametrize("verb", ["apply", "dismiss"])
def test_an_answer_is_handed_to_the_training_program(browser, writer, verb):
    requests = writer.await_requests([1])
    with browser.listen("live") as page:
        assert press(browser, verb).status_code == 204
        assert receive(page, "action")["action"]["asked"] == verb, "every other page is told"
    assert browser.json("/api/runs/live")["actions"][0]["asked"] == verb
    for _ in range(200):
        if requests:
            break
        writer.flush()
    assert list(requests) in ([(1, verb)], []), "it comes within a quarter of a second"


def test_the_second_answer_is_too_late(browser):
    assert press(browser, "apply").status_code == 204
    for verb in ("apply", "dismiss"):
        response = press(browser, verb)
        assert response.status_code == 409
        assert response.json() == {"error": "action 1 was answered already: it is to be applied"}


def test_what_is_over_can_not_be_answered(browser, writer):
    writer.action(110, sample_action("kept", 1))
    assert writer.flush()
    assert (press(browser).status_code, press(browser).json()) == (409, {"error": "action 1 is kept already"})
    writer.action(120, sample_action("proposed", 2))
    writer.close()
    response = press(browser, key=2)
    assert response.status_code == 409
    assert response.json() == {"error": "the run 'live' has ended: nothing can be applied to it any more"}


@pytest.mark.parametrize(
    ("path", "status"),
    [("live/actions/9/apply", 400), ("live/actions/1/postpone", 400), ("nobody/actions/1/apply", 404)],
)
def test_what_is_not_there_is_one_line(browser, path, status):
    headers = {"origin": browser.origin, "x-eigenscope-token": browser.token}
    response = browser.http.post(f"/api/runs/{path}", headers=headers)
    assert response.status_code == status
    assert list(response.json()) == ["error"]


@pytest.mark.parametrize(
    "headers", [{"x-eigenscope-token": ""}, {"x-eigenscope-token": "wrong"}, {"origin": "http://evil.example"}]
)
def test_without_the_token_of_this_page_nothing_is_answered(browser, writer, headers):
    assert press(browser, **headers).status_code == 403
    assert browser.json("/api/runs/live")["actions"][0]["asked"] is None


def test_a_link_can_not_press_it(browser):
    assert browser.get("/api/runs/live/actions/1/apply").status_code == 404
    assert browser.json("/api/runs/live")["actions"][0]["asked"] is None


def test_each_state_is_pushed_to_every_page(browser, writer):
    with browser.listen("live") as one, browser.listen("live") as other:
        for state, step in (("applied", 120), ("undone", 140)):
            writer.action(step, sample_action(state, 1, step))
            for page in (one, other):
                action = receive(page, "action")["action"]
                assert (action["state"], action["log"][-1]["step"]) == (state, step)

"""What a writer writes reaches every page that listens, at once, and nobody looks when nobody listens."""

import asyncio
import json
import math
import socket
import threading
import time
from contextlib import ExitStack

import pytest
from websockets.exceptions import InvalidStatus

from dashboard.conftest import receive, serving
from eigenscope.dashboard.feeds import ListFeed
from eigenscope.dashboard.live import MAX_BACKLOG, RESYNC, Listener
from eigenscope.runs import RunWriter
from runs.sample import Sample, make_sample_run


@pytest.fixture
def writer(tmp_path):
    writer = RunWriter(tmp_path / "live")
    writer.scalar("loss", 0, 1.0)
    writer.flush()
    yield writer
    writer.close()


@pytest.fixture
def browser(tmp_path, writer, monkeypatch):
    monkeypatch.setattr(ListFeed, "seconds", 0.05)
    with serving(tmp_path) as browser:
        yield browser


def feed_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "eigenscope-feed"]


def test_numbers_arrive(browser, writer):
    with browser.listen("live") as page:
        writer.scalars(1, {"loss": math.nan, "lambda_max": (12.5, 0.25)})
        rows = receive(page, "scalars")["rows"]
        assert rows == {"loss": [[1, "NaN", None]], "lambda_max": [[1, 12.5, 0.25]]}


def test_a_reading_arrives_with_its_density(browser, writer):
    reading = Sample("healthy").reading(0, 2.3)
    with browser.listen("live") as page:
        writer.reading(0, reading)
        assert receive(page, "reading")["reading"] == reading


def test_an_alert_arrives(browser, writer):
    with browser.listen("live") as page:
        writer.alert(3, {"rule": "edge_of_stability", "level": "critical", "message": "past the edge"})
        alert = receive(page, "alert")["alert"]
        assert (alert["rule"], alert["level"], alert["id"], alert["acknowledged"]) == (
            "edge_of_stability",
            "critical",
            1,
            False,
        )


def test_an_alert_in_other_words_arrives_again(browser, writer):
    with browser.listen("live") as page:
        for tell, message in ((lambda a: writer.alert(3, a), "1.1×"), (writer.reword_alert, "1.3×")):
            tell({"rule": "edge_of_stability", "level": "warning", "message": message})
            alert = receive(page, "alert")["alert"]
            assert (alert["id"], alert["message"]) == (1, message)


def test_the_end_of_a_run_arrives(browser, writer):
    with browser.listen("live") as page:
        writer.scalars(7, {"loss": 1.0, "measuring_share": 0.02})
        state = receive(page, "status")
        assert (state["status"], state["last_step"], state["measuring_share"]) == ("live", 7, 0.02)
        writer.close("failed")
        assert receive(page, "status")["status"] == "failed"


def test_a_reading_is_in_the_page_soon(browser, writer):
    """The bound is generous, for a busy machine; benchmarks/run_file.py measures the 250 ms."""
    with browser.listen("live") as page:
        delays = []
        for step in range(1, 11):
            said = time.perf_counter()
            writer.reading(step, {"step": step})
            assert receive(page, "reading")["reading"]["step"] == step
            delays.append(time.perf_counter() - said)
    assert min(delays) < 1.0


def test_ten_pages_stay_live(browser, writer):
    with ExitStack() as stack:
        pages = [stack.enter_context(browser.listen("live")) for _ in range(10)]
        for step in range(1, 6):
            writer.reading(step, {"step": step})
            assert [receive(page, "reading")["reading"]["step"] for page in pages] == [step] * 10
        assert len(feed_threads()) == 2  # one for the run, one for the list: however many listen


def test_nobody_looks_when_nobody_listens(browser, writer):
    with browser.listen("live"):
        watching = feed_threads()
        assert len(watching) == 2
    for thread in watching:
        thread.join(timeout=20)
        assert not thread.is_alive()
    with browser.listen("live") as page:
        writer.scalar("loss", 5, 1.0)
        assert receive(page, "scalars")["rows"] == {"loss": [[5, 1.0, None]]}


def test_a_page_hears_only_of_its_run_and_of_the_list(browser, writer, tmp_path):
    make_sample_run(tmp_path / "other", steps=10)
    with browser.listen("other") as other, browser.listen("live") as page, browser.listen() as list_only:
        writer.scalar("loss", 1, 1.0)
        receive(page, "scalars")
        make_sample_run(tmp_path / "third", steps=10)
        heard = {json.loads(other.recv(timeout=20))["type"], json.loads(list_only.recv(timeout=20))["type"]}
        assert heard == {"runs"}


def test_a_run_that_appears_or_changes_its_state_is_told(browser, writer, tmp_path):
    with browser.listen() as page:
        path = make_sample_run(tmp_path / "new", steps=10)
        receive(page, "runs")
        path.unlink()
        receive(page, "runs")
        writer.alert(1, {"rule": "a", "level": "warning"})
        receive(page, "runs")


def test_a_step_back_makes_pages_start_over(browser, writer):
    writer.scalar("loss", 10, 1.0)
    writer.flush()
    with browser.listen("live") as page:
        writer.scalar("loss", 5, 1.0)
        receive(page, "resync")


def test_a_file_that_takes_the_runs_place_is_followed(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("eigenscope.dashboard.feeds.LIST_SECONDS", 0.05)
    path = make_sample_run(tmp_path / "again", steps=10)
    with browser.listen("again") as page:
        path.unlink()
        writer = RunWriter(tmp_path / "again")
        receive(page, "resync")
        writer.scalar("loss", 1, 1.0)
        assert receive(page, "scalars")["rows"] == {"loss": [[1, 1.0, None]]}
        writer.close()


def test_a_page_that_lags_is_told_to_start_over(browser, writer):
    """It reads nothing while 15 MB are pushed, more than the kernel's buffers hold."""
    big = {"density": {"grid": [0.123456789] * 5_000, "values": [0.987654321] * 5_000}}
    with browser.listen("live", max_queue=1, close_timeout=0) as lagging, browser.listen("live") as page:
        for step in range(2 * MAX_BACKLOG):
            big["density"]["step"] = step
            writer.reading(step, big | {"step": step})
            assert receive(page, "reading")["reading"]["step"] == step
        receive(lagging, "resync")
        writer.scalar("loss", 1, 2.0)
        assert receive(lagging, "scalars")["rows"] == {"loss": [[1, 2.0, None]]}


def test_a_backlog_never_grows_beyond_its_bound():
    listener = Listener()
    for number in range(10 * MAX_BACKLOG + 1):
        listener.put(str(number))
    assert asyncio.run(listener.get()) == RESYNC
    assert listener._queue.qsize() < MAX_BACKLOG


def test_what_a_page_sends_is_ignored(browser, writer):
    with browser.listen("live") as page:
        page.send("hello")
        page.send(b"\x00")
        writer.scalar("loss", 1, 1.0)
        receive(page, "scalars")


def test_a_run_that_is_not_there_is_refused(browser):
    for run_id in ("nobody", "../live", ""):
        with pytest.raises(InvalidStatus, match="HTTP 404"), browser.listen(run_id):
            pass


def test_a_page_that_leaves_at_once_does_no_harm(browser, writer):
    for _ in range(5):
        with browser.listen("live") as page:
            page.socket.shutdown(socket.SHUT_RDWR)
    with browser.listen("live") as page:
        writer.scalar("loss", 1, 1.0)
        receive(page, "scalars")

"""Actions are kept as they were said, answered once, followed live, and absent from older files."""

import math
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from eigenscope.actions import ACTIONS
from eigenscope.errors import InputError
from eigenscope.monitor.alerts import Alert
from eigenscope.monitor.records import ActionRecord
from eigenscope.runs import RunWriter, load_run
from eigenscope.runs.actions import TooLateError, answer
from eigenscope.runs.queues import REQUEST_SECONDS
from eigenscope.runs.tail import Tail
from runs.sample_actions import sample_action

TESTS = Path(__file__).parents[1]


@pytest.fixture
def writer(tmp_path):
    writer = RunWriter(tmp_path / "live")
    yield writer
    writer.close()


@pytest.fixture
def run(writer):
    with load_run(writer.path) as run:
        yield run


def propose(writer, key=1):
    writer.action(100, sample_action("proposed", key))
    assert writer.flush()
    return writer.await_requests([key])


def wait_for(condition, seconds=10.0):
    """Until another thread has done it."""
    ended = threading.Event()
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        ended.wait(0.01)
    return bool(condition())


def test_the_samples_have_the_shape_of_real_records():
    action = ACTIONS["control_step"]()
    alert = Alert("edge_of_stability", "critical", 100, "sharpness", "stability_ratio", 1.6, 1.5, "1.6×", "", "")
    real = ActionRecord.proposed(1, action, alert, 100, "auto").to_dict()
    assert real.keys() == sample_action().keys()
    assert real["alert"].keys() == sample_action()["alert"].keys()


def test_an_action_is_its_last_state_with_all_of_them_in_a_log(writer, run):
    for state, step in (("proposed", 100), ("applied", 120), ("kept", 140)):
        writer.action(step, sample_action(state, step=step))
    writer.action(150, sample_action("proposed", 2, step=150))
    assert writer.flush()
    first, second = run.actions
    assert (first["key"], first["state"], first["helped"], first["asked"]) == (1, "kept", True, None)
    assert [(entry["state"], entry["step"]) for entry in first["log"]] == [
        ("proposed", 100), ("applied", 120), ("kept", 140)
    ]  # fmt: skip
    assert first["before"]["stability_ratio"] > first["after"]["stability_ratio"]
    assert (second["key"], second["state"]) == (2, "proposed")


def test_an_answer_reaches_the_program_that_trains(writer):
    requests = propose(writer)
    answer(writer.path, 1, "apply")
    assert wait_for(lambda: requests)
    assert list(requests) == [(1, "apply")]
    assert not wait_for(lambda: len(requests) > 1, seconds=3 * REQUEST_SECONDS), "handed on once"


@pytest.mark.parametrize("second", ["apply", "dismiss"])
def test_the_first_answer_counts(writer, second):
    propose(writer)
    answer(writer.path, 1, "apply")
    with pytest.raises(TooLateError, match="action 1 was answered already: it is to be applied"):
        answer(writer.path, 1, second)
    with load_run(writer.path) as run:
        assert run.actions[0]["asked"] == "apply"


def test_of_many_who_answer_at_once_one_is_first(writer):
    propose(writer)
    late: list[Exception] = []
    barrier = threading.Barrier(12)

    def press(verb):
        barrier.wait()
        try:
            answer(writer.path, 1, verb)
        except TooLateError as error:
            late.append(error)

    threads = [threading.Thread(target=press, args=(verb,)) for verb in ["apply", "dismiss"] * 6]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(late) == 11
    with load_run(writer.path) as run:
        assert run.query("SELECT count(*) FROM requests") == [(1,)]


@pytest.mark.parametrize(
    ("key", "verb", "kind", "words"),
    [
        (7, "apply", InputError, "the run 'live' has no action 7"),
        (1, "postpone", InputError, "'postpone' is no answer: there are apply and dismiss"),
        (2, "apply", TooLateError, "action 2 is kept already"),
    ],
)
def test_what_can_not_be_answered_says_why(writer, key, verb, kind, words):
    propose(writer)
    writer.action(100, sample_action("kept", 2))
    assert writer.flush()
    with pytest.raises(kind, match=words):
        answer(writer.path, key, verb)


@pytest.mark.parametrize("ending", ["closed", "silent"])
def test_a_run_that_is_over_takes_no_answer(writer, ending, monkeypatch):
    propose(writer)
    if ending == "closed":
        writer.close()
    else:
        monkeypatch.setattr("eigenscope.runs.status.HEARTBEAT_TIMEOUT_SECONDS", -1.0)
    with pytest.raises(TooLateError, match="the run 'live' has ended: nothing can be applied"):
        answer(writer.path, 1, "apply")


def test_nothing_is_read_from_the_file_while_nothing_is_awaited(writer, monkeypatch):
    asked = []
    monkeypatch.setattr(writer._queues.store, "requests", lambda: asked.append(1) or [])
    assert not wait_for(lambda: asked, seconds=2 * REQUEST_SECONDS)
    propose(writer)
    assert wait_for(lambda: asked)
    assert len(asked) <= 2
    writer.await_requests([])
    before = len(asked)
    assert not wait_for(lambda: len(asked) > before + 1, seconds=2 * REQUEST_SECONDS)


def test_a_tail_tells_each_state_and_each_answer_once(writer):
    writer._queues.next_heartbeat = math.inf
    tail = Tail(writer.path)
    writer.action(100, sample_action())
    writer.flush()
    (told,) = tail.changes().actions
    assert (told["state"], told["asked"]) == ("proposed", None)
    with sqlite3.connect(writer.path) as other:
        other.execute("INSERT INTO requests VALUES (1, 'apply', 0)")
    other.close()
    (told,) = tail.changes().actions
    assert (told["state"], told["asked"]) == ("proposed", "apply")
    assert tail.changes() is None
    writer.scalar("loss", 1, 1.0)
    writer.flush()
    assert tail.changes().actions == []
    tail.close()


def test_what_can_not_be_stored_is_counted_and_named(writer):
    writer.action(10, {"name": "control_step"})
    assert writer.dropped == 1
    assert "the action at step 10 can't be stored" in writer.problem


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_run_has_none_and_stays_as_it_is(tmp_path, version):
    writer = RunWriter(tmp_path / "old")
    writer.scalar("loss", 3, 1.0)
    writer.close()
    with sqlite3.connect(writer.path) as connection:
        for table in ("actions", "requests", *(["measurements"] if version == 1 else [])):
            connection.execute(f"DROP TABLE {table}")
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = writer.path.read_bytes()
    with load_run(writer.path) as run:
        assert run.actions == []
        assert run.last_step == 3
    assert writer.path.read_bytes() == before
    with pytest.raises(InputError, match="has no action 1"):
        answer(writer.path, 1, "apply")
    with load_run(writer.path) as run:
        assert (run.query("PRAGMA user_version"), len(run["loss"])) == ([(3,)], 1), "upgraded in place, nothing lost"


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_kill_9_leaves_the_actions_and_the_answers_that_were_given(tmp_path):
    script = """
        import sys, time
        from eigenscope.runs import RunWriter
        from runs.sample_actions import sample_action
        writer = RunWriter(sys.argv[1])
        writer.action(10, sample_action("applied", 1, step=10))
        writer.action(20, sample_action("proposed", 2, step=20))
        writer.flush()
        requests = writer.await_requests([2])
        print("go", flush=True)
        while not requests:
            time.sleep(0.001)
        print(requests[0], flush=True)
        while True:
            writer.scalar("time", 1, time.time())
            time.sleep(1e-4)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TESTS) as process:
        assert process.stdout.readline() == b"go\n"
        answer(tmp_path / "killed", 2, "apply")
        assert process.stdout.readline() == b"(2, 'apply')\n"
        process.send_signal(signal.SIGKILL)
    with load_run(tmp_path / "killed") as run:
        assert run.query("PRAGMA quick_check") == [("ok",)]
        assert [(a["key"], a["state"], a["asked"]) for a in run.actions] == [
            (1, "applied", None),
            (2, "proposed", "apply"),
        ]

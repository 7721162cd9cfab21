"""A tail tells what was written since the last look: all of it, once."""

import math

import pytest

from eigenscope.errors import RunFileError
from eigenscope.runs import RunWriter
from eigenscope.runs.tail import MAX_ROWS, Tail
from runs.sample import make_sample_run


@pytest.fixture
def writer(tmp_path):
    writer = RunWriter(tmp_path / "live")
    writer._queues.next_heartbeat = math.inf  # only what the test writes
    writer.scalars(0, {"loss": 1.0, "lambda_max": (2.0, 0.5)})
    writer.flush()
    yield writer
    writer.close()


@pytest.fixture
def tail(writer):
    tail = Tail(writer.path)
    yield tail
    tail.close()


def test_nothing_new_is_none(tail):
    assert tail.changes() is None


def test_new_rows_come_once(writer, tail):
    writer.scalar("loss", 1, math.nan)
    writer.scalar("lambda_max", 1, math.inf, 0.25)
    writer.scalar("trace", 1, 3.0)
    writer.flush()
    assert tail.changes().scalars == {
        "loss": [(1, None, None)],
        "lambda_max": [(1, math.inf, 0.25)],
        "trace": [(1, 3.0, None)],
    }
    assert tail.changes() is None


def test_the_last_value_replaced_comes_again(writer, tail):
    writer.scalar("loss", 0, 7.0)
    writer.flush()
    changes = tail.changes()
    assert changes.scalars == {"loss": [(0, 7.0, None)]}
    assert not changes.rewound


def test_a_step_back_is_told(writer, tail):
    writer.scalar("loss", 5, 1.0)
    writer.flush()
    assert not tail.changes().rewound
    writer.scalar("loss", 3, 1.0)
    writer.flush()
    assert tail.changes().rewound


def test_more_than_a_page_can_take_is_told(writer, tail):
    for step in range(1, 2 * MAX_ROWS):
        writer.scalar("loss", step, 1.0)
    writer.flush()
    changes = tail.changes()
    assert changes.rewound
    assert len(changes.scalars["loss"]) <= MAX_ROWS + 1


def test_readings_and_alerts_come_once(writer, tail):
    writer.reading(1, {"step": 1, "density": {"grid": [0.0], "values": [1.0], "step": 1}})
    writer.alert(1, {"rule": "a", "level": "warning"})
    writer.flush()
    changes = tail.changes()
    assert [reading["density"]["grid"] for reading in changes.readings] == [[0.0]]
    assert [alert["rule"] for alert in changes.alerts] == ["a"]
    writer.alert(2, {"rule": "a", "level": "ok"})
    writer.flush()
    changes = tail.changes()
    assert [alert["level"] for alert in changes.alerts] == ["ok"]
    assert changes.readings == []


def test_an_alert_in_other_words_comes_again_with_its_id(writer, tail):
    writer.alert(1, {"rule": "a", "level": "warning", "message": "1.1×"})
    writer.alert(1, {"rule": "b", "level": "warning"})
    writer.flush()
    tail.changes()
    writer.reword_alert({"rule": "a", "level": "warning", "message": "1.3×"})
    writer.flush()
    assert [(alert["id"], alert["message"]) for alert in tail.changes().alerts] == [(1, "1.3×")]
    writer.reword_alert({"rule": "a", "level": "warning", "message": "1.4×"})
    writer.alert(2, {"rule": "a", "level": "ok"})
    writer.flush()
    assert [(alert["id"], alert["level"]) for alert in tail.changes().alerts][-1] == (3, "ok")
    assert tail.changes() is None


def test_a_file_that_is_gone_or_replaced_is_told(tmp_path):
    path = make_sample_run(tmp_path / "run", steps=20)
    tail = Tail(path)
    path.unlink()
    with pytest.raises(RunFileError, match=r"is gone \(No such file or directory\)"):
        tail.changes()
    make_sample_run(tmp_path / "other", steps=20).rename(path)
    with pytest.raises(RunFileError, match="was replaced by another file"):
        tail.changes()
    tail.close()

"""A run answers what was written to it, and a file that is no run is refused in one clear line."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from eigenscope.errors import InputError, RunFileError
from eigenscope.runs import RunWriter, load_run
from eigenscope.runs.opening import acknowledge
from runs.sample import make_sample_run


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return make_sample_run(tmp_path_factory.mktemp("runs") / "saddle", "saddle", 500)


def test_a_run_says_what_it_is(sample):
    with load_run(sample) as run:
        assert run.name == "saddle"
        assert run.config["scenario"] == "saddle"
        assert run.environment["device"] == "cpu"
        assert run.status == "finished"
        assert run.last_step == 499
        assert run.names[:3] == ["loss", "learning_rate", "lambda_max"]
        assert "lambda_max" in run
        assert "lambda" not in run


def test_the_ending_may_be_left_out(sample):
    with load_run(sample.with_suffix("")) as run:
        assert run.path == sample


def test_series_show_their_size_and_end(sample):
    with load_run(sample) as run:
        assert len(run["loss"]) == 500
        assert repr(run["loss"]).startswith("Series('loss', 500 values, steps 0 to 499, last 0.")


def test_a_misspelt_metric_is_told_the_close_ones(sample):
    with (
        load_run(sample) as run,
        pytest.raises(InputError, match=r"no metric 'lamda_max'; it has lambda_max"),
    ):
        run["lamda_max"]


def test_a_run_of_nothing_is_empty(tmp_path):
    writer = RunWriter(tmp_path / "nothing")
    writer.close()
    with load_run(writer.path) as run:
        assert (run.names, run.last_step, run.readings, run.alerts, run.densities) == ([], None, [], [], [])
        assert run.reading_at() is None
        assert run.to_pandas().empty
        with pytest.raises(InputError, match="it has none yet"):
            run["loss"]


def test_the_last_reading_comes_with_or_without_its_density(sample):
    with load_run(sample) as run:
        assert run.reading_at()["density"]["step"] == 450
        assert len(run.reading_at()["density"]["grid"]) == 400
        assert run.reading_at(density=False)["density"] == {"step": 450}
        assert run.reading_at(120)["step"] == 120
        assert run.reading_at(121) is None


def test_thinned_densities_keep_both_ends(sample):
    with load_run(sample) as run:
        assert [density["step"] for density in run.thinned_densities(4)] == [0, 150, 300, 450]
        assert [density["step"] for density in run.thinned_densities(1)] == [450]
        assert len(run.densities) == 10


def test_pandas_gets_a_row_a_step_and_errors_where_there_are_any(sample):
    with load_run(sample) as run:
        table = run.to_pandas()
    assert table.index.name == "step"
    assert len(table) == 500
    assert "lambda_max_error" in table
    assert "loss_error" not in table
    assert table["lambda_max"].count() == 50


def test_without_pandas_the_error_says_how_to_get_it(sample, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with load_run(sample) as run, pytest.raises(InputError, match=r"pip install 'eigenscope\[pandas\]'"):
        run.to_pandas()


def test_the_last_word_of_a_rule_is_its_state(tmp_path):
    writer = RunWriter(tmp_path / "alerts")
    for rule, level in [("a", "warning"), ("b", "critical"), ("c", "warning"), ("a", "ok"), ("d", "warning")]:
        writer.alert(5, {"rule": rule, "level": level, "message": rule})
    writer.close()
    with load_run(writer.path) as run:
        assert [alert["rule"] for alert in run.active_alerts] == ["b", "d", "c"]
        assert [alert["id"] for alert in run.alerts] == [1, 2, 3, 4, 5]


def test_an_acknowledged_alert_stays_so(tmp_path):
    writer = RunWriter(tmp_path / "alerts")
    writer.alert(5, {"rule": "a", "level": "warning"})
    writer.flush()
    acknowledge(writer.path, 1)
    acknowledge(writer.path, 1)
    writer.close()
    with load_run(writer.path) as run:
        assert run.alerts[0]["acknowledged"] is True
    with pytest.raises(InputError, match="the run 'alerts' has no alert 2"):
        acknowledge(writer.path, 2)


def test_the_version_changes_when_somebody_wrote_and_only_then(tmp_path):
    writer = RunWriter(tmp_path / "live")
    writer._queues.next_heartbeat = float("inf")
    with load_run(writer.path) as run:
        before = run.version()
        assert run.version() == before
        writer.scalar("loss", 0, 1.0)
        writer.flush()
        assert run.version() != before
        assert run["loss"].values.tolist() == [1.0]
    writer.close()


@pytest.mark.parametrize(
    ("meta", "status"),
    [
        ({"status": "running", "heartbeat": 0.0}, "live"),
        ({"status": "running", "heartbeat": -6.0}, "stopped"),
        ({"status": "finished", "heartbeat": -6.0}, "finished"),
        ({"status": "failed", "heartbeat": 0.0}, "failed"),
        ({}, "stopped"),
    ],
)
def test_a_run_whose_heart_is_silent_for_five_seconds_has_stopped(tmp_path, meta, status):
    writer = RunWriter(tmp_path / "run")
    writer.close()
    with sqlite3.connect(writer.path) as file:
        file.execute("DELETE FROM meta WHERE key IN ('status', 'heartbeat')")
        for key, value in meta.items():
            text = f"{time.time() + value}" if key == "heartbeat" else f'"{value}"'
            file.execute("INSERT INTO meta VALUES (?, ?)", (key, text))
    file.close()
    with load_run(writer.path) as run:
        assert run.status == status


def test_reading_leaves_no_trace(sample):
    before = sample.read_bytes()
    with load_run(sample) as run:
        _ = run.readings, run["loss"], run.version()
        assert [path.name for path in sample.parent.iterdir()] == ["saddle.eigenscope"]
    assert sample.read_bytes() == before


def test_a_run_in_a_read_only_folder_opens(sample):
    """In WAL mode without its WAL, as a copy of a watched run; as nobody, since root may write anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        copy = Path(folder) / "copy.eigenscope"
        copy.write_bytes(sample.read_bytes())
        connection = sqlite3.connect(copy)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        os.chmod(copy, 0o444)
        os.chmod(folder, 0o555)
        code = """
import os, sys
from eigenscope.runs import load_run
if os.geteuid() == 0:
    os.setuid(65534)
print(load_run(sys.argv[1]).last_step)
"""
        answer = subprocess.run([sys.executable, "-c", code, copy], capture_output=True, text=True)
        left = [path.name for path in Path(folder).iterdir()]
        os.chmod(folder, 0o755)
    assert answer.stderr == ""
    assert answer.stdout == "499\n"
    assert left == ["copy.eigenscope"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda _: b"", "is empty"),
        (lambda _: b"step,loss\n0,1.0\n" * 100, "is not a run of eigenscope"),
        (lambda run: run[:10], "is not a run of eigenscope"),
        (lambda run: run[:50], "damaged or truncated"),
        (lambda run: run[: len(run) // 2], "damaged or truncated"),
        (lambda run: run[:-4096], "damaged or truncated"),
        (lambda run: run[:100] + b"\xff" * 4000 + run[4100:], "damaged or truncated"),
    ],
    ids=["empty", "text", "10 bytes", "50 bytes", "half", "without the last page", "overwritten"],
)
def test_a_file_that_is_no_run_is_refused(sample, tmp_path, content, message):
    broken = tmp_path / "broken.eigenscope"
    broken.write_bytes(content(sample.read_bytes()))
    with pytest.raises(RunFileError, match=message) as refused:
        load_run(broken)
    assert str(broken) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_run_that_is_not_there_or_a_folder_is_refused(tmp_path):
    with pytest.raises(RunFileError, match=r"there is no run .*first"):
        load_run(tmp_path / "first")
    with pytest.raises(RunFileError, match="is a folder: name one run in it"):
        load_run(tmp_path)


def test_another_programs_database_is_refused(tmp_path):
    connection = sqlite3.connect(tmp_path / "other.eigenscope")
    connection.execute("CREATE TABLE scalars (a)")
    connection.close()
    with pytest.raises(RunFileError, match="is a database, but not a run of eigenscope"):
        load_run(tmp_path / "other.eigenscope")


def test_damage_deep_in_the_file_is_named_when_it_is_met(sample, tmp_path):
    data = bytearray(sample.read_bytes())
    data[20 * 4096 : -4096] = np.random.default_rng(0).bytes(len(data) - 21 * 4096)
    broken = tmp_path / "broken.eigenscope"
    broken.write_bytes(data)
    with load_run(broken) as run, pytest.raises(RunFileError, match="damaged or truncated"):
        _ = run.readings, run["loss"], run["lambda_max"], run.densities


def test_a_run_whose_json_is_damaged_is_named_not_a_traceback(tmp_path: Path) -> None:
    path = make_sample_run(tmp_path / "run", "healthy", 20)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE meta SET value = '{' WHERE key = 'config'")
    with load_run(path) as run, pytest.raises(RunFileError, match=r"run\.eigenscope"):
        run.config  # noqa: B018


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM scalars", "a run is only read: give query() a SELECT, not 'DELETE FROM scalars'"),
        ("SELECT loss FROM absent", "can't answer 'SELECT loss FROM absent': no such table: absent"),
        ("SELECT 1; SELECT 2", "You can only execute one statement at a time"),
    ],
)
def test_a_query_that_fails_says_what_is_wrong_with_it(tmp_path, sql, words):
    with load_run(make_sample_run(tmp_path / "run", steps=10)) as run:
        with pytest.raises(RunFileError) as caught:
            run.query(sql)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_run_that_was_interrupted_says_so(tmp_path):
    writer = RunWriter(tmp_path / "run")
    writer.close("interrupted")
    with load_run(writer.path) as run:
        assert run.status == "interrupted"

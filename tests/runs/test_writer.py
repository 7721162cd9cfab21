"""What is handed to a writer is in the file, or counted as dropped; and the caller never notices."""

import gc
import math
import sqlite3
import threading
import time
from collections import UserList
from pathlib import Path

import numpy as np
import pytest
import torch

from eigenscope.errors import InputError, RunFileError
from eigenscope.runs import RunWriter, load_run
from runs.sample import Sample, scalars_of


@pytest.fixture
def writer(tmp_path):
    writer = RunWriter(tmp_path / "first", config={"model": "MLP"}, environment={"device": "cpu"})
    yield writer
    writer.close()


def test_a_series_comes_back_as_it_was_given(writer):
    for step in range(100):
        writer.scalar("lambda_max", step, step / 3, 0.5)
    assert writer.flush()
    with load_run(writer.path) as run:
        series = run["lambda_max"]
        np.testing.assert_array_equal(series.steps, np.arange(100))
        np.testing.assert_array_equal(series.values, np.arange(100) / 3)
        np.testing.assert_array_equal(series.errors, np.full(100, 0.5))


def test_nan_and_infinity_survive(writer):
    values = [math.nan, math.inf, -math.inf, 1.0]
    errors = [None, math.nan, math.inf, 0.0]
    for step, (value, error) in enumerate(zip(values, errors, strict=True)):
        writer.scalar("loss", step, value, error)
    writer.close()
    with load_run(writer.path) as run:
        np.testing.assert_array_equal(run["loss"].values, values)
        np.testing.assert_array_equal(run["loss"].errors, [math.nan, math.inf, math.inf, 0.0])


def test_a_reading_comes_back_as_it_was_given(writer):
    reading = Sample("saddle").reading(0, 2.3) | {"gradient_norm": math.nan, "trace": {"value": -math.inf}}
    writer.reading(0, reading)
    writer.close()
    with load_run(writer.path) as run:
        np.testing.assert_equal(run.readings, [reading])
        np.testing.assert_equal(run.densities, [reading["density"]])


def test_a_density_that_several_readings_share_is_stored_once(writer):
    sample = Sample("healthy")
    for step in (0, 10, 20):
        writer.reading(step, sample.reading(step, 1.0))
    writer.close()
    with load_run(writer.path) as run:
        assert [reading["step"] for reading in run.readings] == [0, 10, 20]
        assert [density["step"] for density in run.densities] == [0]
        assert run.readings[2]["density"] == run.densities[0]


@pytest.mark.parametrize("value", [torch.tensor(0.5, requires_grad=True), np.float32(0.5), np.array(0.5), 0.5])
def test_a_loss_may_be_a_tensor_an_array_or_a_number(writer, value):
    writer.scalar("loss", 0, value)
    writer.close()
    with load_run(writer.path) as run:
        assert run["loss"].values.tolist() == [0.5]


def test_a_waiting_tensor_lets_its_graph_go(writer, monkeypatch):
    waiting = []
    monkeypatch.setattr(writer, "_scalars", UserList())
    monkeypatch.setattr(writer._scalars, "append", waiting.append)
    writer.scalar("loss", 0, torch.ones(3, requires_grad=True).sum())
    assert waiting[0][2].grad_fn is None


def test_a_repeated_step_replaces(writer):
    writer.scalar("loss", 7, 1.0)
    writer.scalar("loss", 7, 2.0)
    writer.flush()
    writer.scalar("loss", 7, 3.0)
    writer.close()
    with load_run(writer.path) as run:
        assert run["loss"].values.tolist() == [3.0]
        assert run.decimated("loss").values.tolist() == [3.0]


def test_values_come_with_or_without_an_error(writer):
    writer.scalars(3, scalars_of(Sample("healthy").reading(0, 1.0)))
    writer.close()
    with load_run(writer.path) as run:
        assert run["lambda_max"].errors[0] > 0
        assert np.isnan(run["num_matvecs"].errors[0])


@pytest.mark.parametrize("value", ["high", None, object(), torch.ones(2)], ids=lambda value: type(value).__name__)
def test_what_is_no_number_is_dropped_and_counted(writer, value):
    writer.scalar("loss", 0, value)
    writer.scalar("loss", 2**70, 1.0)
    writer.scalar("loss", 1, 1.0)
    writer.close()
    assert writer.dropped == 2
    with load_run(writer.path) as run:
        assert run["loss"].steps.tolist() == [1]


def test_what_is_no_alert_is_dropped_with_its_reason(writer):
    writer.alert(0, {"level": "ok"})
    writer.reading(2**70, {})
    assert writer.dropped == 2
    assert "64 bits" in str(writer.problem)


def test_a_reworded_alert_keeps_its_row_and_those_of_others_and_before_stay(writer):
    for step, (rule, level) in enumerate([("a", "warning"), ("a", "ok"), ("a", "critical"), ("b", "warning")]):
        writer.alert(step, {"rule": rule, "level": level, "message": f"said at {step}"})
    writer.reword_alert({"rule": "a", "level": "critical", "message": "said now"})
    writer.reword_alert({"level": "ok"})
    writer.close()
    with load_run(writer.path) as run:
        words = [(alert["id"], alert["message"]) for alert in run.alerts]
        assert words == [(1, "said at 0"), (2, "said at 1"), (3, "said now"), (4, "said at 3")]
    assert writer.dropped == 1
    assert "an alert's new words can't be stored" in str(writer.problem)


def test_writers_that_nobody_holds_are_closed_and_their_threads_end(tmp_path):
    for number in range(5):
        RunWriter(tmp_path / "dropped").scalar("loss", number, 1.0)
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("eigenscope-dropped")]
    with load_run(tmp_path / "dropped-5") as run:
        assert (run.status, run["loss"].steps.tolist()) == ("finished", [4])


def test_what_can_not_even_be_looked_at_costs_its_batch_and_not_the_thread(writer, monkeypatch):
    class Broken(Exception):
        pass

    def rows(records):
        monkeypatch.undo()
        raise Broken("no rows today")

    monkeypatch.setattr(writer._queues.store, "rows", rows)
    writer.scalar("loss", 0, 1.0)
    writer.meta("summary", "a statement in the same batch")
    writer.flush()
    writer.scalar("loss", 1, 1.0)
    writer.close()
    assert writer.dropped >= 1
    with load_run(writer.path) as run:
        assert run["loss"].steps.tolist()[-1] == 1


@pytest.mark.parametrize("path", [3, None, 1.5])
def test_what_is_no_path_is_told(path):
    with pytest.raises(InputError, match=f"run={path}: a path is needed, such as 'runs/first'"):
        RunWriter(path)


def test_a_name_that_no_file_can_hold_costs_its_batch_and_not_the_run(writer):
    writer.scalar("\ud800", 0, 1.0)
    writer.flush()
    writer.scalar("loss", 1, 1.0)
    writer.close()
    assert writer.dropped == 1
    assert "can't be stored" in str(writer.problem)
    with load_run(writer.path) as run:
        assert run.names == ["loss"]


def test_the_unstorable_inside_a_reading_becomes_words(writer):
    writer.reading(0, {"method": object, "shape": torch.ones(2), "notes": {"a": np.int64(3)}})
    writer.close()
    with load_run(writer.path) as run:
        assert run.readings == [{"method": "<class 'object'>", "shape": [1.0, 1.0], "notes": {"a": 3}}]


def test_everything_is_in_the_file_or_counted_when_the_queue_runs_over(writer):
    """Another program locks the file, so that nothing leaves the queue."""
    blocker = sqlite3.connect(writer.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    total = 250_000
    for step in range(total):
        writer.scalar("loss", step, 0.5)
    dropped = writer.dropped
    blocker.execute("ROLLBACK")
    blocker.close()
    writer.close()
    assert 0 < dropped == writer.dropped
    with load_run(writer.path) as run:
        assert len(run["loss"]) + dropped == total
        assert run.meta["dropped"] == dropped


def test_a_closed_writer_counts_what_it_refuses(writer):
    writer.close()
    writer.close("failed")
    writer.scalar("loss", 0, 1.0)
    writer.reading(0, {})
    assert writer.dropped == 2
    assert not writer.flush()
    with load_run(writer.path) as run:
        assert run.status == "finished"


def test_a_finished_run_is_one_file(writer, tmp_path):
    writer.scalar("loss", 0, 1.0)
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["first.eigenscope"]


def test_a_run_that_somebody_watches_ends_with_everything_in_its_file(writer, tmp_path):
    writer.scalar("loss", 0, 1.0)
    writer.flush()
    with load_run(writer.path) as watching:
        writer.close()
        copy = tmp_path / "copy.eigenscope"
        copy.write_bytes(writer.path.read_bytes())
        assert watching.status == "finished"
    with load_run(copy) as run:
        assert run["loss"].values.tolist() == [1.0]
        assert run.status == "finished"


def test_two_runs_of_one_name_get_two_files(tmp_path):
    paths = []
    for _ in range(3):
        writer = RunWriter(tmp_path / "runs" / "first")
        writer.close()
        paths.append(writer.path.name)
    assert paths == ["first.eigenscope", "first-2.eigenscope", "first-3.eigenscope"]


def test_the_ending_may_be_given(tmp_path):
    writer = RunWriter(str(tmp_path / "v1.2.eigenscope"))
    writer.close()
    assert writer.path == tmp_path / "v1.2.eigenscope"


def test_a_folder_is_no_run(tmp_path):
    with pytest.raises(RunFileError, match=r"is a folder: name a file in it, such as '.*first'"):
        RunWriter(tmp_path)


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "notes").write_text("")
    with pytest.raises(RunFileError, match="can't be written"):
        RunWriter(tmp_path / "notes" / "first")


def test_a_device_without_files_is_refused_and_nothing_is_left():
    with pytest.raises(RunFileError, match="can't be written"):
        RunWriter("/proc/first")
    assert not Path("/proc/first.eigenscope").exists()


def test_a_scalar_costs_the_training_loop_microseconds(writer):
    """A generous bound for a loaded machine; benchmarks/run_file.py has the figure."""
    best = min(_seconds_per_scalar(writer) for _ in range(20))
    assert best < 20e-6


def _seconds_per_scalar(writer: RunWriter, calls: int = 1000) -> float:
    start = time.perf_counter()
    for step in range(calls):
        writer.scalar("loss", step, 0.5)
    return (time.perf_counter() - start) / calls

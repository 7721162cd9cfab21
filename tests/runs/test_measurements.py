"""Measurements of kinds of their own: kept whole, thinned evenly, followed live, absent from older files."""

import math
import sqlite3

import pytest
import torch
from torch import nn

from eigenscope.bounds.certify import lipschitz
from eigenscope.flow.signal import signal_flow
from eigenscope.runs import RunWriter, load_run
from eigenscope.runs.tail import Tail
from runs.sample_measurements import MEASURED, sample_flow, sample_lipschitz


@pytest.fixture
def writer(tmp_path):
    writer = RunWriter(tmp_path / "live")
    writer._queues.next_heartbeat = math.inf  # only what the test writes
    yield writer
    writer.close()


@pytest.fixture
def run(writer):
    """The run as it is once everything said so far is written."""
    with load_run(writer.path) as run:
        yield run


def test_a_measurement_is_kept_with_its_step(writer, run):
    flow = sample_flow("vanishing", 0)
    writer.measurement("flow", 40, flow)
    assert writer.flush()
    assert run.kinds == ["flow"]
    assert run.latest("flow") == {**flow, "step": 40}
    assert run.measurements("flow") == [{**flow, "step": 40}]


def test_nan_and_infinities_survive(writer, run):
    writer.measurement("flow", 0, {"blocks": [{"sigma_max": {"value": math.inf, "error": math.nan}}]})
    writer.flush()
    (block,) = run.latest("flow")["blocks"]
    assert block["sigma_max"]["value"] == math.inf
    assert math.isnan(block["sigma_max"]["error"])


def test_kinds_are_free_and_apart(writer, run):
    writer.measurement("flow", 10, {"a": 1})
    writer.measurement("weights of tomorrow", 10, {"a": 2})
    writer.flush()
    assert run.kinds == ["flow", "weights of tomorrow"]
    assert run.latest("weights of tomorrow") == {"a": 2, "step": 10}
    assert run.latest("lipschitz") is None
    assert run.measurements("lipschitz") == []


def test_a_repeated_step_replaces(writer, run):
    for value in (1, 2):
        writer.measurement("flow", 10, {"a": value})
    writer.flush()
    assert run.measurements("flow") == [{"a": 2, "step": 10}]


def test_thinning_keeps_the_first_and_the_last(writer, run):
    for step in range(100):
        writer.measurement("flow", step, {})
    writer.flush()
    steps = [one["step"] for one in run.measurements("flow", limit=5)]
    assert len(steps) == 5
    assert (steps[0], steps[-1]) == (0, 99)
    assert steps == sorted(steps)


def test_the_latest_is_the_one_written_last(writer, run):
    for step in (100, 50):
        writer.measurement("flow", step, {})
    writer.flush()
    assert run.latest("flow")["step"] == 50
    assert [one["step"] for one in run.measurements("flow")] == [50, 100]


@pytest.mark.parametrize(("step", "found"), [(10, ["no", "mapping"]), (2**70, {})])
def test_what_can_not_be_stored_is_counted_and_named(writer, step, found):
    writer.measurement("flow", step, found)
    assert writer.dropped == 1
    assert f"the flow measurement at step {step} can't be stored" in writer.problem


def test_a_tail_tells_each_once_and_a_replaced_one_again(writer):
    tail = Tail(writer.path)
    for value in (1, 2):
        writer.measurement("flow", 5, {"a": value})
        writer.flush()
        assert tail.changes().measurements == [("flow", {"a": value, "step": 5})]
    assert tail.changes() is None
    tail.close()


@pytest.fixture
def version_1(tmp_path):
    """A run as the first version wrote it: without measurements."""
    writer = RunWriter(tmp_path / "old")
    writer.scalar("loss", 3, 1.0)
    writer.close()
    with sqlite3.connect(writer.path) as connection:
        for table in ("measurements", "actions", "requests"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    return writer.path


def test_an_older_run_has_none_and_stays_as_it_is(version_1):
    before = version_1.read_bytes()
    with load_run(version_1) as run:
        assert run.kinds == []
        assert run.latest("flow") is None
        assert run.last_step == 3
    tail = Tail(version_1)
    assert tail.changes() is None
    tail.close()
    assert version_1.read_bytes() == before


def shape(value):
    """The keys of nested JSON; of a list those of its first item."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value and isinstance(value[0], dict) else None


@pytest.fixture(scope="module")
def chain():
    torch.manual_seed(0)
    layers = [nn.Linear(6, 6) for _ in range(8)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=3.0)
    return nn.Sequential(*layers, nn.Linear(6, 3)), (torch.randn(12, 6), torch.randint(0, 3, (12,)))


def test_the_samples_have_the_shape_of_real_flow(chain):
    model, batch = chain
    real = signal_flow(model, lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]), [batch])
    assert real.verdict == "exploding"
    real, made = real.to_dict(), sample_flow("exploding", 0)
    assert shape(made) | {"remedies": None} == shape(real) | {"remedies": None}
    assert real["remedies"][0].keys() == made["remedies"][0].keys()


def test_the_samples_have_the_shape_of_real_bounds(chain):
    model, batch = chain
    real = lipschitz(model, [batch], ascent_steps=2, attack=False).to_dict()
    for scenario in MEASURED[:2]:
        assert shape(sample_lipschitz(scenario, 0)) == shape(real)

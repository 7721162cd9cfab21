"""Measurements by kind, as the page asks for them and as they are pushed to it."""

import math

import pytest

from dashboard.conftest import receive, serving
from eigenscope.dashboard.feeds import ListFeed
from eigenscope.runs import RunWriter, load_run
from runs.sample import make_sample_run
from runs.sample_measurements import sample_flow


def test_a_run_shows_the_latest_of_each_kind(browser, recorded):
    measurements = browser.json("/api/runs/healthy")["measurements"]
    with load_run(recorded / "healthy") as run:
        assert measurements == {kind: run.latest(kind) for kind in ("flow", "lipschitz")}
    assert measurements["flow"]["step"] == 250


def test_a_run_without_measurements_shows_none(browser):
    assert browser.json("/api/runs/edge")["measurements"] == {}


def test_a_kind_comes_over_the_run(browser):
    answer = browser.json("/api/runs/healthy/measurements?kind=flow")
    assert answer["steps"] == [0, 50, 100, 150, 200, 250]
    assert answer["measurements"][-1] == sample_flow("healthy", 250)
    thin = browser.json("/api/runs/healthy/measurements?kind=flow&limit=2")
    assert thin["steps"] == [0, 250]


def test_fields_come_as_columns_and_null_where_there_is_nothing(browser):
    query = "kind=flow&limit=1&fields=verdict,blocks.sigma_max.value,blocks.sigma_min.value,absent.too"
    (columns,) = browser.json(f"/api/runs/healthy/measurements?{query}")["measurements"]
    assert columns == {
        "step": 250,
        "verdict": "healthy",
        "blocks.sigma_max.value": [block["sigma_max"]["value"] for block in sample_flow("healthy", 250)["blocks"]],
        "blocks.sigma_min.value": [None] * 12,
        "absent.too": None,
    }


def test_a_kind_that_the_run_has_not_is_empty_and_a_missing_one_refused(browser):
    assert browser.json("/api/runs/edge/measurements?kind=weights") == {"steps": [], "measurements": []}
    refused = browser.get("/api/runs/edge/measurements")
    assert refused.status_code == 400
    assert refused.json() == {"error": "kind is missing: name one, such as kind=flow"}
    assert browser.get("/api/runs/edge/measurements?kind=flow&limit=0").status_code == 400


def test_a_run_may_be_called_measurements(tmp_path):
    make_sample_run(tmp_path / "measurements", "healthy", 60)
    with serving(tmp_path) as browser:
        (run,) = browser.json("/api/runs")
        assert run["id"] == "measurements~"
        assert browser.json("/api/runs/measurements~/measurements?kind=flow")["steps"] == [0, 50]


@pytest.fixture
def writer(tmp_path):
    writer = RunWriter(tmp_path / "live")
    writer.scalar("loss", 0, 1.0)
    writer.flush()
    yield writer
    writer.close()


def test_a_measurement_arrives_with_its_step_whatever_its_kind(tmp_path, writer, monkeypatch):
    monkeypatch.setattr(ListFeed, "seconds", 0.05)
    with serving(tmp_path) as browser, browser.listen("live") as page:
        writer.measurement("weights of tomorrow", 7, {"value": math.nan, "all": [math.inf, -math.inf]})
        assert receive(page, "measurement") == {
            "type": "measurement",
            "kind": "weights of tomorrow",
            "measurement": {"value": "NaN", "all": ["Infinity", "-Infinity"], "step": 7},
        }
        whole = browser.json("/api/runs/live/measurements?kind=weights%20of%20tomorrow")
        assert whole["measurements"] == [{"value": "NaN", "all": ["Infinity", "-Infinity"], "step": 7}]

"""Every route of the server, asked as the page asks."""

import math
import sqlite3
from importlib.metadata import version

import pytest

from dashboard.conftest import serving
from eigenscope.diagnostics.definitions import DEFINITIONS
from eigenscope.errors import RunFileError
from eigenscope.runs import RunWriter, load_run
from runs.sample import make_sample_run

SADDLE = "sweep/lr%200.1%20%25%20%C3%BC"


def test_the_session_defines_every_number(browser):
    session = browser.json("/api/session")
    assert session["version"] == version("eigenscope")
    assert session["definitions"].keys() == DEFINITIONS.keys()
    assert session["definitions"]["lambda_max"].keys() == {"label", "definition", "unit", "source"}


def test_the_list_has_the_last_started_run_first(browser):
    runs = browser.json("/api/runs")
    assert [run["id"] for run in runs] == ["sweep/series~", "sweep/lr 0.1 % ü", "edge", "healthy"]
    edge = runs[2]
    assert (edge["name"], edge["status"], edge["last_step"]) == ("edge", "finished", 299)
    assert edge["config"]["scenario"] == "edge"
    assert edge["updated"] >= edge["started"]
    assert edge["alert"]["action"] == "LOWER THE STEP SIZE"
    assert runs[3]["alert"] is None


def test_a_run_shows_its_state_and_its_last_reading(browser, recorded):
    run = browser.json("/api/runs/edge")
    assert (run["id"], run["name"], run["status"], run["last_step"]) == ("edge", "edge", "finished", 299)
    assert run["environment"]["device"] == "cpu"
    assert run["names"][:3] == ["loss", "learning_rate", "lambda_max"]
    assert run["reading"]["step"] == 290
    assert run["reading"]["density"] == {"step": 250}
    assert [alert["rule"] for alert in run["alerts"]] == ["edge_of_stability"]
    assert run["history"][-1]["id"] == run["alerts"][0]["id"]
    assert run["history"][-1]["acknowledged"] is False
    assert (run["measuring_share"], run["dropped"]) == (0.016, 0)


def test_ids_of_nested_and_oddly_named_runs_work_in_an_address(browser):
    assert browser.json(f"/api/runs/{SADDLE}")["name"] == "lr 0.1 % ü"
    assert browser.json(f"/api/runs/{SADDLE}/series?names=loss")["loss"]["steps"][-1] == 499
    assert browser.json("/api/runs/sweep/series~")["config"]["scenario"] == "canyon"


def test_series_come_with_errors_null_where_none_was_stated(browser, recorded):
    series = browser.json("/api/runs/edge/series?names=loss,lambda_max,not_measured")
    assert series["loss"]["steps"] == list(range(300))
    assert set(series["loss"]["errors"]) == {None}
    assert len(series["lambda_max"]["errors"]) == 30
    assert series["not_measured"] == {"steps": [], "values": [], "errors": []}
    with load_run(recorded / "edge") as run:
        assert series["lambda_max"]["values"] == run["lambda_max"].values.tolist()


def test_a_window_of_a_series(browser):
    loss = browser.json("/api/runs/edge/series?names=loss&first=100&last=199&points=10")["loss"]
    assert (loss["steps"][0], loss["steps"][-1]) == (100, 199)
    assert len(loss["steps"]) <= 12


def test_nan_and_infinity_travel_as_strings(tmp_path):
    writer = RunWriter(tmp_path / "odd")
    for step, value in enumerate([math.nan, math.inf, -math.inf]):
        writer.scalar("loss", step, value, math.inf)
    writer.reading(2, {"step": 2, "loss": -math.inf, "trace": {"value": math.nan}})
    writer.close()
    with serving(tmp_path) as browser:
        loss = browser.json("/api/runs/odd/series?names=loss")["loss"]
        assert loss["values"] == ["NaN", "Infinity", "-Infinity"]
        assert loss["errors"] == ["Infinity"] * 3
        assert browser.json("/api/runs/odd")["reading"]["loss"] == "-Infinity"


def test_densities_are_thinned_and_keep_the_last(browser):
    answer = browser.json(f"/api/runs/{SADDLE}/densities?limit=3")
    assert answer["steps"] == [0, 200, 450]
    assert answer["densities"][-1].keys() == {"grid", "values", "outliers", "bulk", "step"}
    assert len(browser.json(f"/api/runs/{SADDLE}/densities")["steps"]) == 10


def test_the_reading_of_a_step_comes_whole(browser, recorded):
    reading = browser.json("/api/runs/edge/readings/120")
    with load_run(recorded / "edge") as run:
        assert reading == run.reading_at(120)


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/api/runs/nobody", 404, "there is no run 'nobody'"),
        ("/api/runs/nobody/series?names=loss", 404, "there is no run 'nobody'"),
        ("/api/runs/edge/readings/121", 404, "there is no reading at step 121"),
        ("/api/runs/edge/series", 400, "names holds 0 metrics; give 1 to 100"),
        ("/api/runs/edge/series?names=" + "a," * 101, 400, "names holds 101 metrics"),
        (
            "/api/runs/edge/series?names=loss&points=1",
            400,
            "points is '1', and must be a whole number from 2",
        ),
        ("/api/runs/edge/series?names=loss&points=9999999", 400, "points is '9999999'"),
        ("/api/runs/edge/series?names=loss&first=start", 400, "first is 'start', and must be a whole number"),
        ("/api/runs/edge/series?names=loss&last=" + "9" * 30, 400, "last is '999"),
        ("/api/runs/edge/densities?limit=0", 400, "limit is '0'"),
        ("/api/nothing", 404, "there is no page 'api/nothing'"),
        ("/nothing.html", 404, "there is no page 'nothing.html'"),
    ],
)
def test_a_bad_request_is_told_in_one_line(browser, path, status, error):
    response = browser.get(path)
    assert response.status_code == status
    assert error in response.json()["error"]


def test_an_acknowledged_alert_says_so(tmp_path):
    make_sample_run(tmp_path / "edge", "edge", 300)
    with serving(tmp_path) as browser:
        alert = browser.json("/api/runs/edge")["alerts"][0]["id"]
        assert browser.acknowledge("edge", alert).status_code == 204
        assert browser.json("/api/runs/edge")["alerts"][0]["acknowledged"] is True
        assert browser.acknowledge("edge", 99).json() == {"error": "the run 'edge' has no alert 99"}


def test_files_that_are_no_runs_are_left_out_and_say_why_when_asked(tmp_path, caplog):
    good = make_sample_run(tmp_path / "good", steps=100)
    (tmp_path / "cut.eigenscope").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "text.eigenscope").write_text("step,loss\n" * 100)
    (tmp_path / "empty.eigenscope").write_bytes(b"")
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "old.eigenscope").write_bytes(good.read_bytes())
    newer = make_sample_run(tmp_path / "newer", steps=10)
    with sqlite3.connect(newer) as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    with serving(tmp_path) as browser:
        assert [run["id"] for run in browser.json("/api/runs")] == ["good"]
        browser.json("/api/runs")
        errors = {name: browser.get(f"/api/runs/{name}") for name in ("cut", "text", "empty", "newer")}
        assert browser.get("/api/runs/.trash/old").status_code == 404
    assert len([line for line in caplog.messages if line.startswith("left out: ")]) == 4
    assert {answer.status_code for answer in errors.values()} == {422}
    assert "truncated" in errors["cut"].json()["error"]
    assert "is not a run of eigenscope" in errors["text"].json()["error"]
    assert "is empty" in errors["empty"].json()["error"]
    assert "pip install --upgrade eigenscope" in errors["newer"].json()["error"]


def test_a_run_that_appears_or_goes_is_seen(tmp_path):
    with serving(tmp_path) as browser:
        assert browser.json("/api/runs") == []
        path = make_sample_run(tmp_path / "later", steps=10)
        assert browser.json("/api/runs/later")["last_step"] == 9
        assert [run["id"] for run in browser.json("/api/runs")] == ["later"]
        path.unlink()
        assert browser.json("/api/runs") == []
        assert browser.get("/api/runs/later").status_code == 404


def test_one_file_is_served_alone(recorded):
    with serving(recorded / "edge") as browser:
        assert [run["id"] for run in browser.json("/api/runs")] == ["edge"]
        assert browser.json("/api/runs/edge")["last_step"] == 299
        assert browser.get("/api/runs/healthy").status_code == 404


def test_a_path_that_is_neither_folder_nor_run_is_refused(tmp_path):
    with pytest.raises(RunFileError, match="there is no run"), serving(tmp_path / "nothing"):
        pass

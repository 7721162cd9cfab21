"""Older files are upgraded, by readers in memory and by writers in place; newer ones are refused."""

import sqlite3

import pytest

from eigenscope.errors import RunFileError
from eigenscope.runs import load_run, schema
from eigenscope.runs.opening import acknowledge
from runs.sample import make_sample_run


@pytest.fixture
def next_version(monkeypatch):
    """A program whose schema is one version ahead."""
    newer = [*schema.MIGRATIONS, ("ALTER TABLE alerts ADD COLUMN note TEXT DEFAULT 'none'",)]
    monkeypatch.setattr(schema, "MIGRATIONS", newer)
    monkeypatch.setattr("eigenscope.runs.opening.MIGRATIONS", newer)


def test_a_file_of_version_0_is_upgraded(tmp_path):
    path = tmp_path / "old.eigenscope"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.close()
    with load_run(path) as run:
        assert run.names == []


def test_reading_an_older_run_upgrades_a_copy(tmp_path, request):
    path = make_sample_run(tmp_path / "old", "saddle", 400)
    before = path.read_bytes()
    request.getfixturevalue("next_version")
    with load_run(path) as run:
        assert run.query("SELECT DISTINCT note FROM alerts") == [("none",)]
        assert run.last_step == 399
    assert path.read_bytes() == before


def test_writing_to_an_older_run_upgrades_it_in_place(tmp_path, request):
    path = make_sample_run(tmp_path / "old", "saddle", 400)
    request.getfixturevalue("next_version")
    acknowledge(path, 1)
    connection = sqlite3.connect(path)
    assert schema.schema_version(connection) == len(schema.MIGRATIONS)
    connection.close()
    with load_run(path) as run:
        assert run.alerts[0]["acknowledged"]
        assert len(run["loss"]) == 400


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = make_sample_run(tmp_path / "old", "healthy", 10)
    before = path.read_bytes()
    broken = [*schema.MIGRATIONS, ("ALTER TABLE alerts ADD COLUMN note TEXT", "DROP TABLE absent")]
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="no such table: absent"):
        schema.upgrade(connection)
    connection.close()
    assert path.read_bytes() == before


def test_a_newer_file_asks_for_a_newer_program(tmp_path):
    path = make_sample_run(tmp_path / "new", "healthy", 10)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(RunFileError, match=r"newer eigenscope \(schema 99, .* up to 3\): pip install --upgrade"):
        load_run(path)

"""`eigenscope dashboard`: what it can't serve is one line; the serving itself is tested in tests/dashboard."""

import socket
import sqlite3

import pytest

from eigenscope.runs import RunWriter


@pytest.fixture
def run_file(tmp_path):
    """A finished run."""
    writer = RunWriter(tmp_path / "first")
    for step in range(200):
        writer.scalar("loss", step, 1 / (1 + step))
    writer.close()
    return writer.path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no run other.eigenscope"),
        (b"", "other.eigenscope is empty"),
        (b"print('hello')\n", "other.eigenscope is not a run of eigenscope: name a file that a monitor wrote"),
    ],
)
def test_what_is_not_a_run_is_one_line(eigenscope, tmp_path, content, words):
    if content is not None:
        (tmp_path / "other.eigenscope").write_bytes(content)
    assert words in eigenscope("dashboard", "other.eigenscope", "--no-browser", "--port", 0).complaint


def test_a_truncated_run_is_one_line_and_left_as_it_is(eigenscope, run_file, tmp_path):
    half = tmp_path / "half.eigenscope"
    half.write_bytes(run_file.read_bytes()[:6000])
    assert "half.eigenscope is damaged or truncated" in eigenscope("dashboard", half, "--no-browser").complaint
    assert half.stat().st_size == 6000


def test_a_run_of_a_newer_version_is_one_line(eigenscope, run_file):
    with sqlite3.connect(run_file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    line = eigenscope("dashboard", run_file, "--no-browser").complaint
    assert "upgrade" in line
    assert run_file.name in line


def test_a_port_in_use_is_one_line(eigenscope, run_file):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = eigenscope("dashboard", run_file, "--no-browser", "--port", port).complaint
    assert f"port {port} can't be used" in line


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_a_port_that_does_not_exist_is_one_line(eigenscope, run_file, port):
    assert (
        f"port {port} does not exist" in eigenscope("dashboard", run_file, "--no-browser", f"--port={port}").complaint
    )

"""Killed, forked, out of disk, never closed: the file stays readable, and the training loop goes on."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest

from eigenscope.runs import RunWriter, load_run


def run_script(script: str, *args: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    code = "from eigenscope.runs import RunWriter, load_run\nimport sys\n" + textwrap.dedent(script)
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=120)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("steps", [1, 1_000, 10_000])
def test_kill_9_loses_at_most_a_second(tmp_path, steps):
    """Each step stores the time at which it was said, so the file tells how much is missing."""
    script = """
        import sys, time
        from eigenscope.runs import RunWriter
        writer = RunWriter(sys.argv[1])
        step = 0
        while True:
            writer.scalar("time", step, time.time())
            if step % 100 == 0:
                writer.reading(step, {"loss": 1.0, "density": {"grid": [0.0] * 400, "values": [0.0] * 400}})
            step += 1
            if step == int(sys.argv[2]):
                print("go", flush=True)
            time.sleep(1e-4)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "killed"), str(steps)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"go\n"
        process.send_signal(signal.SIGKILL)
        killed = time.time()
    with load_run(tmp_path / "killed") as run:
        assert run.query("PRAGMA quick_check") == [("ok",)]
        said = run["time"].values[-1] if run.names else run.meta["started"]
        assert killed - said < 1.0
        assert run.status == "live"  # for five seconds; then its silent heart tells that it stopped


@pytest.mark.skipif(sys.platform == "win32", reason="needs file size limits")
def test_a_full_disk_is_counted_and_training_goes_on(tmp_path):
    """The limit on file size stands for the disk: first full, then with room again."""
    script = """
        import resource, time
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        writer = RunWriter(sys.argv[1])
        writer.scalar("loss", 0, 1.0)
        assert writer.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (writer.path.stat().st_size + 200_000, hard))
        for step in range(1, 300_000):
            writer.scalar("loss", step, 1.0)
        for step in range(3_000):
            writer.reading(step, {"loss": 1.0})
        assert not writer.flush(timeout=2.0)
        dropped = writer.dropped
        assert dropped > 0
        print(writer.problem)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert writer.flush(timeout=30.0)
        assert writer.problem is None, writer.problem
        writer.scalar("loss", 300_000, 2.0)
        writer.close()
        assert writer.dropped == dropped
        print(dropped)
    """
    problem, dropped = run_script(script, tmp_path / "full").stdout.splitlines()
    assert "can't be written, trying again: " in problem
    with load_run(tmp_path / "full") as run:
        assert run.status == "finished"
        assert run["loss"].values[-1] == 2.0
        assert run.meta["dropped"] == int(dropped)
        assert len(run["loss"]) + len(run.readings) + int(dropped) == 300_001 + 3_000


@pytest.mark.skipif(sys.platform == "win32", reason="needs file size limits")
def test_a_disk_that_stays_full_does_not_hold_up_the_end(tmp_path):
    script = """
        import resource
        writer = RunWriter(sys.argv[1])
        writer.scalar("loss", 0, 1.0)
        assert writer.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (writer.path.stat().st_size, resource.RLIM_INFINITY))
        for step in range(1, 100_000):
            writer.scalar("loss", step, 1.0)
        writer.close()
        assert writer.dropped >= 90_000, writer.dropped
    """
    run_script(script, tmp_path / "full")
    with load_run(tmp_path / "full") as run:
        assert run["loss"].values[0] == 1.0


@pytest.mark.skipif(sys.platform == "win32", reason="needs file size limits")
def test_a_disk_that_is_full_from_the_start_is_an_error_and_leaves_no_file(tmp_path):
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        RunWriter(sys.argv[1])
    """
    ended = run_script(script, tmp_path / "full", check=False)
    assert "RunFileError: the run" in ended.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_forked_child_writes_nothing(tmp_path):
    script = """
        import os
        writer = RunWriter(sys.argv[1])
        for step in range(10_000):
            writer.scalar("loss", step, 1.0)
        child = os.fork()
        if child == 0:
            writer.scalar("loss", 10**6, 2.0)
            writer.reading(10**6, {})
            assert not writer.flush()
            writer.close("failed")
            sys.exit(0)  # runs the child's exit handlers too
        assert os.waitpid(child, 0)[1] == 0
        writer.scalar("loss", 10_000, 3.0)
        writer.close()
    """
    run_script(script, tmp_path / "forked")
    with load_run(tmp_path / "forked") as run:
        assert run["loss"].steps.tolist() == list(range(10_001))
        assert (run.status, run.readings) == ("finished", [])


@pytest.mark.parametrize(
    ("ending", "status"),
    [("", "finished"), ("raise ValueError", "failed"), ("raise KeyboardInterrupt", "interrupted")],
)
def test_a_run_that_nobody_closed_is_closed_at_exit(tmp_path, ending, status):
    script = 'writer = RunWriter(sys.argv[1])\nwriter.scalar("loss", 0, 1.0)\n' + ending
    run_script(script, tmp_path / "open", check=False)
    with load_run(tmp_path / "open") as run:
        assert run.status == status
        assert run["loss"].values.tolist() == [1.0]
    assert [path.name for path in tmp_path.iterdir()] == ["open.eigenscope"]


def test_another_program_that_looks_in_and_leaves_takes_nothing_away(tmp_path):
    """It would delete the WAL of a writer without its locks, and an open() and close() here loses those."""
    writer = RunWriter(tmp_path / "live")
    writer.scalar("loss", 0, 1.0)
    assert writer.flush()
    for _ in range(2):
        load_run(writer.path).close()
    look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM meta'); c.close()"
    subprocess.run([sys.executable, "-c", look, writer.path], check=True)
    assert writer.path.with_name("live.eigenscope-wal").exists()
    writer.scalar("loss", 1, 2.0)
    writer.close()
    with load_run(writer.path) as run:
        assert run["loss"].values.tolist() == [1.0, 2.0]

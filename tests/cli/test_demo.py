"""`eigenscope demo`: a real run that ends with a summary, or is served until Ctrl+C; bad input writes nothing."""

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from eigenscope.runs import load_run

SHORT = ("--steps", 40, "--no-serve")


def test_it_ends_by_itself_with_a_summary_and_a_run(eigenscope, tmp_path):
    ended = eigenscope("demo", "--scenario", "saddle", *SHORT)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("saddle  a start at a saddle")
    assert "▲ PAUSE & PERTURB  the gradient vanishes" in ended.out
    assert "runs/saddle.eigenscope: 40 steps, measuring took" in ended.out
    with load_run(tmp_path / "runs" / "saddle") as run:
        assert (run.status, run.last_step, len(run.readings)) == ("finished", 40, 2)
        assert run.config["scenario"] == "saddle"


def test_an_alert_is_told_once_as_it_comes(eigenscope):
    ended = eigenscope("demo", "--scenario", "edge", *SHORT)
    first = ended.out.splitlines()[1]
    assert re.match(r"step    20  (warning|critical)\s+LOWER THE STEP SIZE  .*× the stability threshold of SGD", first)
    assert ended.out.count(first) == 1


@pytest.mark.parametrize("width", [80, 140])
def test_the_summary_fits_the_terminal(eigenscope, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = eigenscope("demo", "--scenario", "canyon", *SHORT).out.splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)


def test_two_runs_of_one_name_get_two_files(eigenscope, tmp_path):
    for _ in range(2):
        eigenscope("demo", "--steps", 2, "--no-serve", "--run", "mine/first")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["first-2.eigenscope", "first.eigenscope"]


def test_a_budget_takes_the_place_of_the_fixed_distance(eigenscope, tmp_path):
    eigenscope("demo", "--steps", 5, "--no-serve", "--budget", 0.05)
    with load_run(tmp_path / "runs" / "healthy") as run:
        assert (run.config["budget"], run.config["every"]) == (0.05, None)


def test_with_auto_the_saddle_is_left_along_its_negative_curvature(eigenscope, tmp_path):
    """Where the gradient of all data is 0, and descent stays."""
    eigenscope("demo", "--scenario", "saddle", *SHORT, "--act", "auto")
    with load_run(tmp_path / "runs" / "saddle") as run:
        (action, *_) = run.actions
        assert (action["name"], action["state"], action["helped"]) == ("escape_saddle", "kept", True)
        assert action["changed"]["direction"] == "negative curvature"


def test_with_auto_an_alert_is_acted_on_and_each_state_is_told(eigenscope, tmp_path):
    ended = eigenscope("demo", "--scenario", "edge", "--steps", 60, "--no-serve", "--act", "auto")
    assert re.search(r"step    20  applied   LOWER THE STEP SIZE  action 1: ", ended.out)
    with load_run(tmp_path / "runs" / "edge") as run:
        (action, *_) = run.actions
        assert (action["name"], action["applied_at"], action["by"]) == ("control_step", 20, "auto")
        assert f"step {action['step']:>5,}  {action['state']}" in ended.out
        assert run.config["act"] == "auto"


def test_with_ask_a_proposal_is_told_with_its_answers_and_nothing_is_applied(eigenscope, tmp_path):
    ended = eigenscope("demo", "--scenario", "edge", *SHORT, "--act", "ask")
    assert "proposed  LOWER THE STEP SIZE  action 1" in ended.out
    assert "eigenscope actions runs/edge.eigenscope --apply 1" in " ".join(ended.out.split())
    with load_run(tmp_path / "runs" / "edge") as run:
        assert [action["state"] for action in run.actions] == ["proposed"]


def test_rules_of_ones_own_move_the_thresholds(eigenscope, tmp_path):
    (tmp_path / "rules.toml").write_text("[edge_of_stability]\nwarning = 1e-3\ncritical = 1e3\n")
    assert "LOWER THE STEP SIZE" in eigenscope("demo", *SHORT, "--rules", "rules.toml").out


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (None, "the rules file 'rules.toml' can't be read: No such file or directory"),
        ("a = ", "the rules file 'rules.toml' is not TOML: Invalid value"),
        ("[edge_of_stabilty]", "there is no rule 'edge_of_stabilty': did you mean 'edge_of_stability'?"),
        ("[saddle]\nwarn = 1", "rules.toml: [saddle] has no setting 'warn': did you mean 'warning'?"),
        ("[saddle]\nwarning = 'x'", "rules.toml: [saddle] warning = 'x' must be a number"),
        (
            "[stretched]\nwarning = 2e6",
            "rules.toml: [stretched] needs 0 < warning ≤ critical, got warning = 2e+06 and "
            "critical = 1e+06 (the default: set it as well)",
        ),
    ],
)
def test_bad_rules_are_one_line_and_write_no_run(eigenscope, tmp_path, rules, words):
    if rules is not None:
        (tmp_path / "rules.toml").write_text(rules)
    assert words in eigenscope("demo", *SHORT, "--rules", "rules.toml").complaint
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--steps", 0), "--steps 0: at least one step is needed"),
        (("--every", 0), "every=0: a whole number of steps is needed, at least 1"),
        (("--budget", 0), "budget=0.0: a share of the training time is needed, over 0 and at most 1"),
        (("--budget", 3), "budget=3.0: a share of the training time is needed, over 0 and at most 1"),
        (("--scenario", "cliff"), "invalid choice: 'cliff'"),
        (("--act", "panic"), "invalid choice: 'panic'"),
    ],
)
def test_bad_options_are_one_line_and_write_no_run(eigenscope, tmp_path, options, words):
    assert words in eigenscope("demo", "--no-serve", *options).complaint
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("folder", "the run path 'folder' is a folder: name a file in it, such as 'folder/first'"),
        ("file/first", "the run 'file/first' can't be written (File exists): name a folder that you may write to"),
        ("file/deeper/first", "the run 'file/deeper/first' can't be written (Not a directory)"),
    ],
)
def test_a_run_that_can_not_be_written_is_one_line(eigenscope, tmp_path, path, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert words in eigenscope("demo", *SHORT, "--run", path).complaint
    assert {entry.name for entry in tmp_path.rglob("*")} == {"folder", "file"}


def test_a_port_in_use_is_one_line_and_leaves_no_run(eigenscope, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = eigenscope("demo", "--steps", 5, "--no-browser", "--port", port).complaint
    assert f"port {port} can't be used (Address already in use): choose another, or --port 0 picks a free one" in line
    assert list(tmp_path.glob("runs/*")) == []


def heeds_interrupts():
    """A job in the background of a shell ignores Ctrl+C, and what it starts inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_while_it_trains_ends_the_run_as_interrupted(tmp_path):
    command = [sys.executable, "-m", "eigenscope", "demo", "--scenario", "edge", "--steps", "1000000", "--no-serve"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"}, preexec_fn=heeds_interrupts,
    ) as demo:  # fmt: skip
        try:
            assert any("LOWER THE STEP SIZE" in line for line in iter(demo.stdout.readline, ""))
            demo.send_signal(signal.SIGINT)
            assert demo.wait(timeout=60) == 130
            assert demo.stderr.read() == "eigenscope: interrupted\n"
        finally:
            demo.kill()
    with load_run(tmp_path / "runs" / "edge") as run:
        assert run.status == "interrupted"


def test_it_serves_while_it_trains_and_until_interrupted(tmp_path):
    command = [sys.executable, "-m", "eigenscope", "demo", "--steps", "30", "--no-browser", "--port", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"}, preexec_fn=heeds_interrupts,
    ) as demo:  # fmt: skip
        try:
            address = demo.stdout.readline().split()[-1]
            lines = iter(demo.stdout.readline, "")
            assert any("still serving" in line for line in lines)
            (run,) = httpx.get(address.partition("#")[0] + "api/runs", timeout=20).json()
            assert (run["name"], run["status"], run["last_step"]) == ("healthy", "finished", 30)
        finally:
            demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=60) == 0
        assert demo.stderr.read() == ""

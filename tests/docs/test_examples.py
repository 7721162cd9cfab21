"""The examples run as they are, in a process of their own."""

import json
import os
import subprocess
import sys

from eigenscope.runs import load_run


def run(*arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_train_with_monitor(workplace):
    out = run("examples/train_with_monitor.py", "--steps", "30", "--run", "runs/example")
    assert "λmax" in out
    with load_run("runs/example") as recorded:
        assert (recorded.status, recorded.last_step) == ("finished", 30)
        assert len(recorded.readings) >= 1


def test_hugging_face(workplace):
    out = run("examples/hugging_face.py", "--steps", "3", "--run", "runs/example")
    assert "λmax" in out
    with load_run("runs/example") as recorded:
        (reading,) = recorded.readings
        assert 500 < reading["probe_samples"] < 32 * 48, "tokens that are predicted, not rows and not the padding"


def test_measure_me(workplace):
    reading = json.loads(run("-m", "eigenscope", "measure", "examples/measure_me.py:factory", "--json"))
    assert reading["converged"]
    assert reading["num_parameters"] == 2410

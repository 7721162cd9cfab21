"""The examples run as they are, in a process of their own."""

import json
import os
import subprocess
import sys

import pytest

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


def test_compress(workplace):
    out = run("examples/compress.py", "--keep", "0.5", "--output", "small")
    before, after, loaded = (float(line.split()[-1].rstrip("%")) for line in accuracies(out))
    assert after == loaded
    assert before > 90, "of the 597 digits that it has not seen"
    assert before - after < 3
    options = (
        "--calibrate",
        "examples/compress.py:factory",
        "--evaluate",
        "examples/compress.py:accuracy",
        "--dry-run",
    )
    found = json.loads(run("-m", "eigenscope", "compress", "digits.safetensors", *options, "--json", "-"))
    assert (found["metric_name"], 100 * found["metric"]) == ("accuracy", pytest.approx(before, abs=0.06))


def accuracies(out: str) -> list[str]:
    """Before, after, and of the model that was loaded again."""
    (change,) = (line for line in out.splitlines() if line.startswith("accuracy"))
    (loaded,) = (line for line in out.splitlines() if line.startswith("loaded again"))
    return [*change.split(" → "), loaded]


def test_measure_me(workplace):
    reading = json.loads(run("-m", "eigenscope", "measure", "examples/measure_me.py:factory", "--json"))
    assert reading["converged"]
    assert reading["num_parameters"] == 2410


def test_act(workplace):
    without, measured, controlled = run("examples/act.py", "--steps", "150").splitlines()
    assert float(without.split()[-1]) > 1
    assert float(controlled.split()[-1]) < 0.1
    assert float(measured.split()[-2]) < 7

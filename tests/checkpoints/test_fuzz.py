"""200 damaged files of each format: read with wrong values or refused in one line; no traceback, hang or memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoints import samples

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux reports it")
TARGETS = {  # the file that is damaged, where the checkpoint is a folder
    "peft": ["adapter_config.json", "adapter_model.safetensors"],
    "sharded": ["model.safetensors.index.json", "model-00001-of-00002.safetensors"],
}


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_a_damaged_file_is_refused_or_read_but_never_hangs_crashes_or_fills_the_memory(name: str, tmp_path: Path):
    source = samples.SAMPLES[name](tmp_path)
    targets = [source / target for target in TARGETS[name]] if name in TARGETS else [source]
    for target in targets:
        result = read_in_a_process(source, target, 200 // len(targets))
        assert set(result["outcomes"]) <= {"read", "refused"}, "\n".join(result["outcomes"])
        assert sum(result["outcomes"].values()) == 200 // len(targets)
        assert result["outcomes"]["refused"] > 20
        assert result["grown"] < 2**30


def read_in_a_process(source: Path, target: Path, count: int) -> dict:
    script = Path(__file__).with_name("reading.py")
    command = [sys.executable, "-W", "error", script, source, target, "0", str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout)

"""HDF5 by way of a process of its own, so that a file that crashes or hangs the HDF5 library takes nothing with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from eigenscope.checkpoints.base import damaged
from eigenscope.checkpoints.files import pour
from eigenscope.errors import CheckpointError

WORKER = Path(__file__).with_name("hdf5_worker.py")
MEMORY = 2**30  # bytes of address space, beyond four times the tensor that is read
PATIENCE = 60.0  # seconds for one answer, and one more for each 20 MB


class Hdf5:
    """Datasets of one HDF5 file, which may be a part of a larger file. One question at a time."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._path, self._lock = path, threading.Lock()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the process lives)
        numbers = [str(number) for number in (offset, size, MEMORY)]
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(path.resolve()), *numbers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # its threads reserve more memory than is allowed
        )
        self._end = weakref.finalize(self, _end, self._process)

    def listing(self) -> dict[str, Any]:
        """Every dataset and the configuration, as the worker describes them."""
        with self._lock:
            return self._ask(None)

    def read(self, name: str, target: memoryview) -> None:
        """The values of a dataset, little-endian, into `target`; raises ValueError where they don't fit."""
        with self._lock, self._deadline(len(target)):
            header = self._ask(name)
            if header["bytes"] != len(target):
                raise ValueError(f"{name} has {header['bytes']} bytes where {len(target)} were said")
            assert self._process.stdout
            pour(self._process.stdout, target)

    def close(self) -> None:
        """End the process."""
        self._end()
        self._errors.close()

    def _ask(self, question: str | None) -> dict[str, Any]:
        process = self._process
        assert process.stdin
        assert process.stdout
        if process.poll() is None:
            with suppress(OSError):  # it has ended, and says why below
                process.stdin.write(json.dumps(question).encode() + b"\n")
                process.stdin.flush()
        with self._deadline(0):
            answer = process.stdout.readline()
        if not answer.endswith(b"\n"):
            raise self._failure()
        found: dict[str, Any] = json.loads(answer)
        if "missing" in found:
            raise CheckpointError(f"{self._path} is HDF5, which needs h5py: pip install 'eigenscope[keras]'")
        return found

    def _deadline(self, size: int) -> _Deadline:
        return _Deadline(self._process, PATIENCE + size / 20e6)

    def _failure(self) -> CheckpointError:
        """Why the worker ended, in its words or by the signal that killed it."""
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read(2000).decode(errors="replace").strip().splitlines()
        if said and said[-1].startswith("PermissionError: it wants"):
            return CheckpointError(f"{self._path}: {said[-1].partition(': ')[2]}")
        if said and "wants to read other files" in said[-1]:
            return CheckpointError(f"{self._path}: {said[-1].partition(': ')[2]}")
        return damaged(self._path, said[-1] if said and code > 0 else "the HDF5 library crashed or hung on it")


class _Deadline:
    """Kills a process that does not answer; reading from it then ends."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self._timer = threading.Timer(seconds, process.kill)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            with suppress(OSError):  # what was not written to a dead process
                stream.close()

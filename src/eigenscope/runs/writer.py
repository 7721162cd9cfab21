"""`RunWriter` hands what a training loop says to a thread that writes it, and never gets in its way."""

import atexit
import ctypes
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eigenscope.errors import RunFileError
from eigenscope.runs import store
from eigenscope.runs.encoding import one_line, split_density, to_json, whole_step
from eigenscope.runs.paths import claim

FLUSH_SECONDS = 0.05  # between two batches; readings and alerts don't wait for it
HEARTBEAT_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 5.0
CLOSE_SECONDS = 10.0
MAX_SCALARS = 200_000  # records that wait; about 30 MB
MAX_ROWS = 2_000  # readings, alerts and meta that wait; a reading with its density is about 20 KB
BATCH = 20_000


class RunWriter:
    """Writes one run file, in batches, on one background thread.

    Nothing here blocks on the disk or raises once the file is open: what can't be stored is counted in
    `dropped`, and `problem` says why. A process that is killed loses what it said in its last tenth of a
    second. In a forked child the writer is closed: the run belongs to the process that opened it.

    `path` is where to write: "runs/first" makes runs/first.eigenscope, or runs/first-2.eigenscope where that
    exists; the attribute `path` is the file really used. `config` and `environment` are free JSON.
    Raises `RunFileError` where the file can't be created.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        config: Mapping[str, object] | None = None,
        environment: Mapping[str, object] | None = None,
    ) -> None:
        self.path: Path = claim(path)
        self.problem: str | None = None
        now = time.time()
        about = {"config": dict(config or {}), "environment": dict(environment or {})}
        life = {"started": now, "status": "running", "heartbeat": now, "dropped": 0}
        try:
            self._store = store.Store(self.path, {**about, **life})
        except sqlite3.Error as error:
            self.path.unlink()
            raise RunFileError(f"the run {str(self.path)!r} can't be written: {one_line(error)}") from error
        self._scalars: deque[tuple[str, Any, Any, Any]] = deque()
        self._statements: deque[store.Statement] = deque()
        self._pending: tuple[list[store.ScalarRow], list[store.Statement]] = ([], [])
        self._refused = self._lost = 0
        self._busy = False  # a batch has left the queues and is not in the file yet
        self._failing = False
        self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        self._open = True
        self._wake, self._closing, self._idle = threading.Event(), threading.Event(), threading.Condition()
        self._thread = threading.Thread(target=self._work, name=f"eigenscope-{self.path.stem}", daemon=True)
        self._thread.start()
        _writers.add(self)
        atexit.register(self._close_at_exit)

    @property
    def dropped(self) -> int:
        """Records that will never be in the file: queue full, disk full, writer closed, or not numbers."""
        return self._refused + self._lost

    def scalar(self, name: str, step: int, value: Any, error: Any = None) -> None:
        """A number at a step; a repeated `(name, step)` replaces. A tensor is read on the writer's thread."""
        if not self._open or len(self._scalars) >= MAX_SCALARS:
            self._refused += 1
            return
        if type(value) is not float and hasattr(value, "detach"):
            value = value.detach()  # keeps the number, lets the graph go
        self._scalars.append((name, step, value, error))

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Several numbers of one step, each a value or a `(value, error)`."""
        for name, value in values.items():
            if isinstance(value, tuple):
                self.scalar(name, step, *value)
            else:
                self.scalar(name, step, value)

    def reading(self, step: int, reading: Mapping[str, object]) -> None:
        """A whole reading; its density goes to a table of its own."""
        try:
            rest, density = split_density(step, reading)
            statement = (store.READING, (whole_step(step), time.time(), to_json(rest)))
        except Exception as error:
            self._refuse(f"the reading at step {step}", error)
            return
        if density is not None:
            self._put((store.DENSITY, density))
        self._put(statement)

    def alert(self, step: int, alert: Mapping[str, object]) -> None:
        """A rule changed its state; `alert` names its "rule" and "level"."""
        try:
            rule, level = str(alert["rule"]), str(alert["level"])
            statement = (store.ALERT, (whole_step(step), time.time(), rule, level, to_json(dict(alert))))
        except Exception as error:
            self._refuse(f"the alert at step {step}", error)
            return
        self._put(statement)

    def meta(self, key: str, value: object) -> None:
        """A fact about the whole run, such as "summary"; the last one of a key stays."""
        try:
            statement = (store.META, (str(key), to_json(value)))
        except Exception as error:
            self._refuse(f"the run's {key}", error)
            return
        self._put(statement)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything said so far is in the file; False where it is not after `timeout` seconds."""
        if not self._open:
            return False
        self._wake.set()
        with self._idle:
            return self._idle.wait_for(self._empty, timeout)

    def close(self, status: str = "finished") -> None:
        """Write what waits and end the run as "finished" or "failed". The second call does nothing."""
        if not self._open:
            return
        self._open = False
        atexit.unregister(self._close_at_exit)
        self._statements.append((store.META, ("status", to_json(status))))
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def _put(self, statement: store.Statement) -> None:
        if not self._open or len(self._statements) >= MAX_ROWS:
            self._refused += 1
            return
        self._statements.append(statement)
        self._wake.set()

    def _refuse(self, what: str, error: Exception) -> None:
        self._refused += 1
        self.problem = f"{what} can't be stored: {one_line(error)}"

    def _close_at_exit(self) -> None:
        uncaught = getattr(sys, "last_value", None) is not None and not hasattr(sys, "ps1")
        self.close("failed" if uncaught else "finished")

    def _empty(self) -> bool:
        return not (self._scalars or self._statements or self._busy)

    # From here on: the writer's thread.

    def _work(self) -> None:
        delay = FLUSH_SECONDS
        closing = False
        while not closing:
            self._wake.wait(delay)
            self._wake.clear()
            closing = self._closing.is_set()
            delay = FLUSH_SECONDS if self._drain() else min(2 * delay, LONGEST_RETRY_SECONDS)
        self._lost += len(self._scalars) + len(self._statements) + len(self._pending[0]) + len(self._pending[1])
        self._store.close()

    def _drain(self) -> bool:
        """Write until nothing waits; False where the disk refused."""
        beat = time.monotonic() >= self._next_heartbeat or self._closing.is_set()
        while beat or not self._empty():
            self._take()
            try:
                self._store.write(self._pending[0], [*self._pending[1], *self._signs_of_life()])
            except sqlite3.OperationalError as error:  # full, locked, unplugged: it may pass
                self.problem = f"{self.path} can't be written, trying again: {one_line(error)}"
                self._failing = True
                return False
            except Exception as error:  # what this batch holds can't be written, ever
                self.problem = f"records for {self.path} can't be stored: {one_line(error)}"
                self._lost += len(self._pending[0]) + len(self._pending[1])
            else:
                if self._failing:
                    self._failing, self.problem = False, None
            self._pending, self._busy, beat = ([], []), False, False
        with self._idle:
            self._idle.notify_all()
        return True

    def _take(self) -> None:
        """Move a batch from the queues to `_pending`, unless one that the disk refused is still there."""
        if self._busy:
            return
        self._busy = True
        statements: list[store.Statement] = []
        records: list[tuple[str, Any, Any, Any]] = []
        while self._statements and len(statements) < MAX_ROWS:
            statements.append(self._statements.popleft())
        while self._scalars and len(records) < BATCH:
            records.append(self._scalars.popleft())
        rows, unusable = self._store.rows(records)
        self._pending = (rows, statements)
        self._lost += unusable

    def _signs_of_life(self) -> list[store.Statement]:
        self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        return [store.heartbeat(), (store.META, ("dropped", to_json(self.dropped)))]


_writers: "weakref.WeakSet[RunWriter]" = weakref.WeakSet()


def _disown_in_child() -> None:
    """After a fork the thread is gone and a lock inside SQLite may be held for ever: touch nothing."""
    for writer in _writers:
        writer._open = False
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(writer._store.connection))  # closing it here could hang


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_in_child)

"""`RunWriter` hands what a training loop says to a thread that writes it, and never gets in its way."""

import ctypes
import os
import sqlite3
import sys
import time
import weakref
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from eigenscope.errors import RunFileError
from eigenscope.runs import store
from eigenscope.runs.encoding import one_line, split_density, to_json, whole_step
from eigenscope.runs.paths import claim
from eigenscope.runs.queues import MAX_SCALARS, Queues


class RunWriter:
    """Writes one run file, in batches, on one background thread.

    Nothing here blocks on the disk or raises once the file is open: what can't be stored is counted in
    `dropped`, and `problem` says why. A process that is killed loses what it said in its last quarter of a
    second. In a forked child the writer is closed: the run belongs to the process that opened it. A writer that
    nobody holds any more is closed, as are all at exit.

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
        now = time.time()
        about = {"config": dict(config or {}), "environment": dict(environment or {})}
        life = {"started": now, "status": "running", "heartbeat": now, "dropped": 0}
        try:
            file = store.Store(self.path, {**about, **life})
        except sqlite3.Error as error:
            with suppress(OSError):  # the folder is gone, or was made read-only meanwhile
                self.path.unlink()
            raise RunFileError(f"the run {str(self.path)!r} can't be written: {one_line(error)}") from error
        self._queues = Queues(self.path, file)
        self._scalars = self._queues.scalars
        _open_queues.add(self._queues)
        weakref.finalize(self, _close_unheld, self._queues)

    @property
    def problem(self) -> str | None:
        """The last thing that kept records out of the file, in one line; None once writing works again."""
        return self._queues.problem

    @property
    def dropped(self) -> int:
        """Records that will never be in the file: queue full, disk full, writer closed, or not numbers."""
        return self._queues.dropped

    def scalar(self, name: str, step: int, value: Any, error: Any = None) -> None:
        """A number at a step; a repeated `(name, step)` replaces. A tensor is read on the writer's thread."""
        if not self._queues.open or len(self._scalars) >= MAX_SCALARS:
            self._queues.refused += 1
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
            self._queues.put((store.DENSITY, density))
        self._queues.put(statement)

    def measurement(self, kind: str, step: int, measurement: Mapping[str, object]) -> None:
        """A measurement of a kind of its own, such as "flow"; a repeated `(kind, step)` replaces."""
        try:
            statement = (store.MEASUREMENT, (str(kind), whole_step(step), time.time(), to_json(dict(measurement))))
        except Exception as error:
            self._refuse(f"the {kind} measurement at step {step}", error)
            return
        self._queues.put(statement)

    def alert(self, step: int, alert: Mapping[str, object]) -> None:
        """A rule changed its state; `alert` names its "rule" and "level"."""
        try:
            rule, level = str(alert["rule"]), str(alert["level"])
            statement = (store.ALERT, (whole_step(step), time.time(), rule, level, to_json(dict(alert))))
        except Exception as error:
            self._refuse(f"the alert at step {step}", error)
            return
        self._queues.put(statement)

    def reword_alert(self, alert: Mapping[str, object]) -> None:
        """The state of a rule is the same, its words and value are these: the rule's last row takes them over."""
        try:
            statement = (store.REWORDED, (to_json(dict(alert)), str(alert["rule"])))
        except Exception as error:
            self._refuse("an alert's new words", error)
            return
        self._queues.put(statement)

    def action(self, step: int, action: Mapping[str, object]) -> None:
        """An action has another state; `action` names its "key", "name" and "state"."""
        try:
            key, name, state = whole_step(action["key"]), str(action["name"]), str(action["state"])
            statement = (store.ACTION, (key, whole_step(step), time.time(), name, state, to_json(dict(action))))
        except Exception as error:
            self._refuse(f"the action at step {step}", error)
            return
        self._queues.put(statement)

    def await_requests(self, keys: Collection[int]) -> deque[tuple[int, str]]:
        """From now on look for answers to these actions, and to no others; `(key, verb)` come in the deque returned."""
        self._queues.awaited = frozenset(keys)
        return self._queues.requests

    def meta(self, key: str, value: object) -> None:
        """A fact about the whole run, such as "summary"; the last one of a key stays."""
        try:
            statement = (store.META, (str(key), to_json(value)))
        except Exception as error:
            self._refuse(f"the run's {key}", error)
            return
        self._queues.put(statement)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything said so far is in the file; False where it is not after `timeout` seconds."""
        return self._queues.flush(timeout)

    def close(self, status: str = "finished") -> None:
        """Write what waits and end the run as "finished", "failed" or "interrupted". The second call does nothing."""
        self._queues.close(status)

    def _refuse(self, what: str, error: Exception) -> None:
        self._queues.refused += 1
        self._queues.problem = f"{what} can't be stored: {one_line(error)}"


_open_queues: "weakref.WeakSet[Queues]" = weakref.WeakSet()


def _close_unheld(queues: Queues) -> None:
    """The writer is gone, or the program ends: after an exception that nobody caught, the run did not finish."""
    uncaught = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
    ending = "interrupted" if isinstance(uncaught, KeyboardInterrupt) else "failed"
    queues.close("finished" if uncaught is None else ending)


def _disown_in_child() -> None:
    """After a fork the thread is gone and a lock inside SQLite may be held for ever: touch nothing."""
    for queues in _open_queues:
        queues.open = False
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(queues.store.connection))  # closing it here could hang


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_in_child)

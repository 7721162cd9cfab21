"""What is looked at on behalf of the pages: a run, or the list of runs. Each look gives messages."""

import math
import time
from collections.abc import Iterator
from typing import Any, Protocol

from eigenscope.dashboard.table import RunTable, UnknownRunError
from eigenscope.errors import RunFileError
from eigenscope.runs.tail import Changes, Tail

Message = dict[str, Any]

POLL_SECONDS = 0.04  # between two looks at a run
LIST_SECONDS = 1.0  # between two looks for new runs, at the clock of a silent run, and for a file that is gone


class Feed(Protocol):
    """Something to look at every `seconds`."""

    seconds: float

    def messages(self) -> list[Message]:
        """What is new since the last look."""

    def close(self) -> None:
        """Let go of files."""


class ListFeed:
    """Says that the list of runs changed: a run came or went, or its status or worst alert is another."""

    seconds = LIST_SECONDS

    def __init__(self, table: RunTable) -> None:
        self._table = table
        self._known = self._state()

    def messages(self) -> list[Message]:
        """One message, or none."""
        known, self._known = self._known, self._state()
        return [] if known == self._known else [{"type": "runs"}]

    def _state(self) -> list[Any]:
        return [(line["id"], line["status"], line["alert"]) for line in self._table.summaries()]

    def close(self) -> None:
        """Nothing is held."""


class RunFeed:
    """Follows one run, and the file that takes its place. Raises `InputError` where there is none yet."""

    seconds = POLL_SECONDS

    def __init__(self, table: RunTable, run_id: str) -> None:
        self._table, self._run_id = table, run_id
        self._tail: Tail | None = Tail(table.path(run_id))
        self._status = self._state(self._tail)
        self._next_check = time.monotonic() + LIST_SECONDS

    def messages(self) -> list[Message]:
        """New rows, readings, alerts and status; `resync` where the page must read the run again."""
        due = time.monotonic() >= self._next_check
        if due:
            self._next_check = time.monotonic() + LIST_SECONDS
        try:
            if self._tail is None:
                return self._reopened() if due else []
            return list(self._new(self._tail, due))
        except (RunFileError, UnknownRunError):
            self.close()
            return []

    def _new(self, tail: Tail, due: bool) -> Iterator[Message]:
        changes = tail.changes()
        if changes is not None:
            yield from _messages(changes)
        if changes is not None or due:  # a run stops by the clock, without a write
            status = self._state(tail)
            if status != self._status:
                self._status = status
                yield {"type": "status", **status}

    def _reopened(self) -> list[Message]:
        self._table.scan()
        self._tail = Tail(self._table.path(self._run_id))
        return [{"type": "resync"}]

    @staticmethod
    def _state(tail: Tail) -> dict[str, Any]:
        run = tail.run
        share = run.last_value("measuring_share")
        return {"status": run.status, "last_step": run.last_step, "measuring_share": share}

    def close(self) -> None:
        """Let go of the file."""
        if self._tail is not None:
            self._tail.close()
            self._tail = None


def _messages(changes: Changes) -> Iterator[Message]:
    if changes.rewound:
        yield {"type": "resync"}
        return
    if changes.scalars:
        yield {
            "type": "scalars",
            "rows": {
                name: [(step, math.nan if value is None else value, error) for step, value, error in rows]
                for name, rows in changes.scalars.items()
            },
        }
    for reading in changes.readings:
        yield {"type": "reading", "reading": reading}
    for kind, measurement in changes.measurements:
        yield {"type": "measurement", "kind": kind, "measurement": measurement}
    for alert in changes.alerts:
        yield {"type": "alert", "alert": alert}
    for action in changes.actions:
        yield {"type": "action", "action": action}

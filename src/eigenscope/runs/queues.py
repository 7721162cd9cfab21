"""What waits to be written, and the thread that writes it in batches."""

import sqlite3
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from eigenscope.runs import store
from eigenscope.runs.encoding import one_line, to_json

FLUSH_SECONDS = 0.2  # between two batches, each of which costs training the interpreter; readings and alerts don't wait
HEARTBEAT_SECONDS = 1.0
REQUEST_SECONDS = 0.25  # between two looks for requests, while there is something to be asked for
LONGEST_RETRY_SECONDS = 5.0
CLOSE_SECONDS = 10.0
MAX_SCALARS = 200_000  # records that wait; about 30 MB
MAX_ROWS = 2_000  # readings, alerts and meta that wait; a reading with its density is about 20 KB
BATCH = 20_000


class Queues:
    """The queues of one run and their thread, which holds them alive but not the `RunWriter` that fills them."""

    def __init__(self, path: Path, file: store.Store) -> None:
        self.path, self.store = path, file
        self.problem: str | None = None
        self.open = True
        self.refused = 0
        self.scalars: deque[tuple[str, Any, Any, Any]] = deque()
        self.next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        self.awaited: frozenset[int] = frozenset()  # keys of actions that a reader may answer
        self.requests: deque[tuple[int, str]] = deque()  # answers that came, to be taken from another thread
        self._next_look = 0.0
        self._statements: deque[store.Statement] = deque()
        self._pending: tuple[list[store.ScalarRow], list[store.Statement]] = ([], [])
        self._lost = 0
        self._busy = False  # a batch has left the queues and is not in the file yet
        self._failing = False
        self._wake, self._closing, self._idle = threading.Event(), threading.Event(), threading.Condition()
        self._thread = threading.Thread(target=self._work, name=f"eigenscope-{path.stem}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Records that will never be in the file."""
        return self.refused + self._lost

    def put(self, statement: store.Statement) -> None:
        """A row to be written soon."""
        if not self.open or len(self._statements) >= MAX_ROWS:
            self.refused += 1
            return
        self._statements.append(statement)
        self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Wait until nothing waits; False where that is not so after `timeout` seconds."""
        if not self.open:
            return False
        self._wake.set()
        with self._idle:
            return self._idle.wait_for(self._empty, timeout)

    def close(self, status: str) -> None:
        """Write what waits and end the thread. The second call does nothing."""
        if not self.open:
            return
        self.open = False
        self._statements.append((store.META, ("status", to_json(status))))
        self._closing.set()
        self._wake.set()
        if threading.current_thread() is not self._thread:  # which may be the one to collect a dropped writer
            self._thread.join(CLOSE_SECONDS)

    def _empty(self) -> bool:
        return not (self.scalars or self._statements or self._busy)

    # From here on: the writer's thread.

    def _work(self) -> None:
        delay = FLUSH_SECONDS
        closing = False
        while not closing:
            self._wake.wait(delay)
            self._wake.clear()
            closing = self._closing.is_set()
            delay = FLUSH_SECONDS if self._drain() else min(2 * delay, LONGEST_RETRY_SECONDS)
            self._look_for_requests()
        self._lost += len(self.scalars) + len(self._statements) + len(self._pending[0]) + len(self._pending[1])
        self.store.close()

    def _look_for_requests(self) -> None:
        """Hand on each awaited answer once; nothing is read while none is awaited."""
        if not self.awaited or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + REQUEST_SECONDS
        with suppress(sqlite3.Error):  # locked or unplugged: the next look will tell
            found = [request for request in self.store.requests() if request[0] in self.awaited]
            self.awaited -= {key for key, _ in found}
            self.requests.extend(found)

    def _drain(self) -> bool:
        """Write until nothing waits; False where the disk refused."""
        beat = time.monotonic() >= self.next_heartbeat or self._closing.is_set()
        while beat or not self._empty():
            try:
                self._take()
                self.store.write(self._pending[0], [*self._pending[1], *self._signs_of_life()])
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
        rows, statements = self._pending
        while self._statements and len(statements) < MAX_ROWS:
            statements.append(self._statements.popleft())
        records = [self.scalars.popleft() for _ in range(min(len(self.scalars), BATCH))]
        found, unusable = self.store.rows(records)
        rows += found
        self._lost += unusable

    def _signs_of_life(self) -> list[store.Statement]:
        self.next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        return [store.heartbeat(), (store.META, ("dropped", to_json(self.dropped)))]

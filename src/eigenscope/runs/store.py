"""The SQL of writing: a batch of records goes into the file in one transaction.

Each statement carries many rows, because Python's sqlite3 gives up the GIL once a statement: row by row, a
busy training thread makes the writer wait at every row (measured: 0.5 ms a row, against 0.012 ms so).
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eigenscope.runs.encoding import scalar_row, to_json
from eigenscope.runs.schema import BLOCK_STEPS, upgrade

ScalarRow = tuple[int, int, float | None, float | None]  # metric, step, value, error
Statement = tuple[str, Sequence[object]]

META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
READING = "INSERT INTO readings (step, time, json) VALUES (?, ?, ?)"
DENSITY = "INSERT OR REPLACE INTO densities VALUES (?, ?, ?, ?)"
MEASUREMENT = "INSERT OR REPLACE INTO measurements (kind, step, time, json) VALUES (?, ?, ?, ?)"
ALERT = "INSERT INTO alerts (step, time, rule, level, json) VALUES (?, ?, ?, ?, ?)"
ACTION = "INSERT INTO actions (key, step, time, name, state, json) VALUES (?, ?, ?, ?, ?, ?)"
REWORDED = "UPDATE alerts SET json = ?1 WHERE id = (SELECT max(id) FROM alerts WHERE rule = ?2)"

_CHUNK = 1000  # rows a statement: SQLite allows 32,766 values in one
_REFRESH_BLOCKS = """
WITH touched (metric, block) AS (VALUES {rows})
INSERT OR REPLACE INTO blocks
SELECT t.metric, t.block, count(*),
  min(s.value), (SELECT step FROM scalars WHERE {here} ORDER BY value NULLS LAST, step LIMIT 1),
  max(s.value), (SELECT step FROM scalars WHERE {here} ORDER BY value DESC NULLS LAST, step LIMIT 1),
  min(CASE WHEN s.value IS NULL THEN s.step END)
FROM touched t JOIN scalars s
  ON s.metric = t.metric AND s.step BETWEEN t.block * {size} AND t.block * {size} + {size} - 1
GROUP BY t.metric, t.block"""
_HERE = "metric = t.metric AND step BETWEEN t.block * {size} AND t.block * {size} + {size} - 1"


class Store:
    """The connection that writes one run; used by one thread at a time."""

    def __init__(self, path: Path, meta: Mapping[str, object]) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            upgrade(self.connection)  # before WAL: a reader finds no file, or one with all its tables
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = NORMAL")  # survives kill -9; no fsync a commit
            self._ids: dict[str, int] = {}
            self._last_step: dict[int, int] = {}
            self._rewinds = 0
            self.write([], [(META, (key, to_json(value))) for key, value in meta.items()])
        except BaseException:
            self.connection.close()
            raise

    def rows(self, records: Iterable[tuple[str, Any, Any, Any]]) -> tuple[list[ScalarRow], int]:
        """`(name, step, value, error)` records as rows, and how many were no numbers."""
        rows: list[ScalarRow] = []
        unusable = 0
        for name, step, value, error in records:
            try:
                row = scalar_row(step, value, error)
            except Exception:  # whatever float() of a foreign object raises, a CUDA error included
                unusable += 1
                continue
            metric = self._ids.setdefault(str(name), len(self._ids) + 1)
            if row[0] < self._last_step.get(metric, row[0]):
                self._rewinds += 1
            self._last_step[metric] = row[0]
            rows.append((metric, *row))
        return rows, unusable

    def write(self, scalars: Sequence[ScalarRow], statements: Iterable[Statement]) -> None:
        """All of it or nothing; raises `sqlite3.Error`."""
        with self._transaction() as connection:
            if scalars:
                self._write_scalars(scalars)
            for sql, parameters in statements:
                connection.execute(sql, parameters)

    def _write_scalars(self, scalars: Sequence[ScalarRow]) -> None:
        metrics = {row[0] for row in scalars}
        names = [(number, name) for name, number in self._ids.items() if number in metrics]
        self._insert("INSERT OR IGNORE INTO metrics VALUES {rows}", names)
        self._insert("INSERT OR REPLACE INTO scalars VALUES {rows}", scalars)
        touched = sorted({(metric, step // BLOCK_STEPS) for metric, step, _, _ in scalars})
        here = _HERE.format(size=BLOCK_STEPS)
        self._insert(_REFRESH_BLOCKS.format(rows="{rows}", here=here, size=BLOCK_STEPS), touched)
        self.connection.execute(META, ("rewinds", to_json(self._rewinds)))

    def _insert(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            marks = f"({', '.join('?' * len(chunk[0]))})"
            values = [value for row in chunk for value in row]
            self.connection.execute(sql.format(rows=", ".join([marks] * len(chunk))), values)

    def requests(self) -> list[tuple[int, str]]:
        """What readers have asked for: the key of an action and the verb. Raises `sqlite3.Error`."""
        return self.connection.execute("SELECT action, verb FROM requests ORDER BY time").fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:  # SQLite rolls back by itself on some errors
                self.connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Leave one plain file; where a reader is attached, one that holds everything beside an empty WAL."""
        try:
            self.connection.execute("PRAGMA busy_timeout = 0")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self.connection.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error:
            pass  # a reader is attached, or the disk is full: the file stays in WAL mode, and whole
        finally:
            self.connection.close()


def heartbeat() -> Statement:
    """The writer is alive now (unix time, seconds)."""
    return META, ("heartbeat", to_json(time.time()))

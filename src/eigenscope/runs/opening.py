"""Connections to a run file: one that can only read, and one that writes what a person says.

Only SQLite ever opens the file: an `open()` and `close()` here would cancel the locks that a writer in the
same process holds (POSIX drops them all at the first close), and another process could then delete its WAL.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from eigenscope.errors import InputError, RunFileError
from eigenscope.runs.encoding import one_line
from eigenscope.runs.paths import SUFFIX
from eigenscope.runs.schema import MIGRATIONS, check, damaged, schema_version, upgrade


def find(path: Path) -> Path:
    """The run file that `path` names, with or without its ending; raises `RunFileError`."""
    if not path.exists() and path.with_name(path.name + SUFFIX).exists():
        path = path.with_name(path.name + SUFFIX)
    if path.is_dir():
        raise RunFileError(f"{path} is a folder: name one run in it, such as {path / ('first' + SUFFIX)}")
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise RunFileError(f"there is no run {path}: name a file that ends in {SUFFIX}") from None
    except OSError as error:
        raise RunFileError(f"{path} can't be read ({error.strerror}): check its permissions") from error
    if not size:
        raise RunFileError(f"{path} is empty: its run ended before it began, or the copy was cut off")
    return path


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that never changes the file; of an older version, one to an upgraded copy in memory."""
    try:
        connection = _open(path, "mode=ro")
        connection.execute("PRAGMA schema_version")  # the first access: opens the file in earnest
    except sqlite3.OperationalError as error:
        # In a folder where SQLite can't put its -shm file. Without a WAL nobody writes, and it is not needed.
        wal = path.with_name(path.name + "-wal")
        if wal.exists() and wal.stat().st_size:
            raise RunFileError(
                f"{path} can't be read in this folder ({one_line(error)}): copy it and its -wal file to one "
                "that you can write to"
            ) from error
        connection = _open(path, "mode=ro&immutable=1")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise damaged(path, error) from error
    try:
        check(connection, path)
    except RunFileError:
        connection.close()
        raise
    if schema_version(connection) == len(MIGRATIONS):
        return _only_read(connection)
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    with closing(connection):
        connection.backup(copy)
    upgrade(copy)
    return _only_read(copy)


def _only_read(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Also of a copy in memory: a query that would change it is a mistake, and must not seem to work."""
    connection.execute("PRAGMA query_only = ON")
    return connection


def acknowledge(path: Path, alert_id: int) -> None:
    """Note that a person has seen an alert; a file of an older version is upgraded first.

    Raises `InputError` where the run has no such alert and `RunFileError` where the file can't be written.
    """
    with writing(path, "nothing was acknowledged") as connection:
        known = connection.execute("SELECT 1 FROM alerts WHERE id = ?", (alert_id,)).fetchone()
        if known is None:
            raise InputError(f"the run {path.stem!r} has no alert {alert_id}")
        connection.execute("INSERT OR IGNORE INTO acknowledgements VALUES (?, ?)", (alert_id, time.time()))


@contextmanager
def writing(path: Path, failed: str) -> Iterator[sqlite3.Connection]:
    """A connection that writes, in a transaction of its own; `failed` is what a full disk leaves undone, in words."""
    find(path)
    connection = _open(path, "mode=rw")
    try:
        check(connection, path)
        if schema_version(connection) < len(MIGRATIONS):
            upgrade(connection)
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise RunFileError(f"{path} can't be written ({one_line(error)}): {failed}") from error
    finally:
        connection.close()  # rolls back what was not committed


def _open(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?{options}", uri=True, isolation_level=None, check_same_thread=False
    )

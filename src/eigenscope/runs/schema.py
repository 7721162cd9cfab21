"""The tables of a run file, their version, and how an older file becomes a current one.

`MIGRATIONS[n]` turns a file of version n into version n + 1, so a new file is one upgraded from version 0.
A released migration is never edited: a change of the tables is a new entry at the end.
"""

import sqlite3
from pathlib import Path

from eigenscope.errors import RunFileError

APPLICATION_ID = 0x45494753  # "EIGS", in bytes 68..71 of the file: what `file` and SQLite know the format by
BLOCK_STEPS = 64  # steps that one row of `blocks` sums up; part of the format

_VERSION_1 = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE metrics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE scalars (
         metric INTEGER NOT NULL, step INTEGER NOT NULL, value REAL, error REAL,
         PRIMARY KEY (metric, step)) WITHOUT ROWID""",
    """CREATE TABLE blocks (
         metric INTEGER NOT NULL, block INTEGER NOT NULL, count INTEGER NOT NULL,
         low REAL, low_step INTEGER, high REAL, high_step INTEGER, nan_step INTEGER,
         PRIMARY KEY (metric, block)) WITHOUT ROWID""",
    """CREATE TABLE readings (
         id INTEGER PRIMARY KEY, step INTEGER NOT NULL, time REAL NOT NULL, json TEXT NOT NULL)""",
    "CREATE INDEX readings_by_step ON readings (step)",
    """CREATE TABLE densities (
         step INTEGER PRIMARY KEY, grid BLOB NOT NULL, density BLOB NOT NULL, json TEXT NOT NULL)""",
    """CREATE TABLE alerts (
         id INTEGER PRIMARY KEY, step INTEGER NOT NULL, time REAL NOT NULL,
         rule TEXT NOT NULL, level TEXT NOT NULL, json TEXT NOT NULL)""",
    "CREATE TABLE acknowledgements (alert_id INTEGER PRIMARY KEY REFERENCES alerts (id), time REAL NOT NULL)",
)

_VERSION_2 = (
    # AUTOINCREMENT: a replaced row gets a number that was never used, so that a live feed sees it.
    """CREATE TABLE measurements (
         id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, step INTEGER NOT NULL,
         time REAL NOT NULL, json TEXT NOT NULL, UNIQUE (kind, step))""",
)

_VERSION_3 = (
    # A log, as `alerts` is: the state of an action is its last row.
    """CREATE TABLE actions (
         id INTEGER PRIMARY KEY AUTOINCREMENT, key INTEGER NOT NULL, step INTEGER NOT NULL, time REAL NOT NULL,
         name TEXT NOT NULL, state TEXT NOT NULL, json TEXT NOT NULL)""",
    "CREATE INDEX actions_by_key ON actions (key)",
    # The first answer to a proposal is the answer: the key is taken.
    "CREATE TABLE requests (action INTEGER PRIMARY KEY, verb TEXT NOT NULL, time REAL NOT NULL)",
)

MIGRATIONS: list[tuple[str, ...]] = [_VERSION_1, _VERSION_2, _VERSION_3]


def schema_version(connection: sqlite3.Connection) -> int:
    """The version of the file behind `connection`; 0 for one without tables."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring the file to the current version, in one transaction: all of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[schema_version(connection) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `RunFileError` where the file is not a run, is damaged, or is newer than this program."""
    try:
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        version = schema_version(connection)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise damaged(path, error) from error
    if application_id != APPLICATION_ID:
        raise RunFileError(f"{path} is a database, but not a run of eigenscope: name one that a monitor wrote")
    if version > len(MIGRATIONS):
        raise RunFileError(
            f"{path} was written by a newer eigenscope (schema {version}, this one reads up to "
            f"{len(MIGRATIONS)}): pip install --upgrade eigenscope"
        )


def damaged(path: Path, error: Exception) -> RunFileError:
    """The error for a file that SQLite can't read, whole or in part."""
    if "not a database" in str(error):
        return RunFileError(f"{path} is not a run of eigenscope: name a file that a monitor wrote")
    return RunFileError(f"{path} is damaged or truncated ({error}): copy it again from where it was written")

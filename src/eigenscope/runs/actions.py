"""The actions of a run: what was proposed and what became of it, and the answer that a reader gives."""

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eigenscope.errors import InputError
from eigenscope.runs.opening import find, writing
from eigenscope.runs.status import run_status

Query = Callable[..., list[Any]]

VERBS = ("apply", "dismiss")
DONE = {"apply": "applied", "dismiss": "dismissed"}

_ROWS = """SELECT a.id, key, name, state, step, a.time, json, verb
           FROM actions a LEFT JOIN requests r ON r.action = a.key ORDER BY a.id"""
_VERSIONS = """SELECT key, max(id), verb FROM actions a LEFT JOIN requests r ON r.action = a.key GROUP BY key"""


class TooLateError(InputError):
    """The proposal has an answer already, or nobody is there any more to act on one."""


def all_actions(query: Query) -> list[dict[str, Any]]:
    """Each action in its last state, with "log", the step and time of every state, and "asked", the answer given."""
    rows: dict[int, tuple[Any, ...]] = {}
    logs: dict[int, list[dict[str, Any]]] = {}
    for row in query(_ROWS):
        _, key, _, state, step, when, _, _ = row
        rows[key] = row
        logs.setdefault(key, []).append({"state": state, "step": step, "time": when})
    return [
        {**json.loads(text), "key": key, "name": name, "state": state, "asked": verb, "log": logs[key]}
        for _, key, name, state, _, _, text, verb in rows.values()
    ]


def action_versions(query: Query) -> dict[int, tuple[int, str | None]]:
    """Of each action what changes when it has another state or was answered."""
    return {key: (row, verb) for key, row, verb in query(_VERSIONS)}


def answer(path: Path, key: int, verb: str) -> None:
    """Ask the monitor that writes the run to apply the proposal `key`, or to dismiss it: the first answer counts.

    Raises `TooLateError` where it was answered before or the run is not live, `InputError` where the run has no such
    action, and `RunFileError` where the file can't be written.
    """
    if verb not in VERBS:
        raise InputError(f"{verb!r} is no answer: there are {' and '.join(VERBS)}")
    with writing(find(path), "nothing was answered") as connection:
        state = _state(connection, path, key)
        if state != "proposed":
            raise TooLateError(f"action {key} is {state} already")
        if not _is_live(connection):
            raise TooLateError(f"the run {path.stem!r} has ended: nothing can be applied to it any more")
        row = (key, verb, time.time())
        if not connection.execute("INSERT OR IGNORE INTO requests VALUES (?, ?, ?)", row).rowcount:
            (given,) = connection.execute("SELECT verb FROM requests WHERE action = ?", (key,)).fetchone()
            raise TooLateError(f"action {key} was answered already: it is to be {DONE[given]}")


def _state(connection: sqlite3.Connection, path: Path, key: int) -> str:
    sql = "SELECT state FROM actions WHERE key = ? ORDER BY id DESC LIMIT 1"
    row = connection.execute(sql, (key,)).fetchone()
    if row is None:
        raise InputError(f"the run {path.stem!r} has no action {key}")
    return str(row[0])


def _is_live(connection: sqlite3.Connection) -> bool:
    rows = connection.execute("SELECT key, value FROM meta WHERE key IN ('status', 'heartbeat')")
    return run_status({key: json.loads(value) for key, value in rows}) == "live"

"""`load_run` opens a run file and `Run` answers what is in it. Reading never changes the file."""

import difflib
import json
import os
import sqlite3
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from eigenscope.errors import InputError, RunFileError
from eigenscope.runs.actions import all_actions
from eigenscope.runs.decimation import ROWS, decimate
from eigenscope.runs.encoding import density_dict, one_line
from eigenscope.runs.opening import connect_to_read, find
from eigenscope.runs.schema import damaged
from eigenscope.runs.series import Series
from eigenscope.runs.status import Status, run_status

if TYPE_CHECKING:
    import pandas as pd

_LEVELS = {"critical": 0, "warning": 1}


def load_run(path: str | os.PathLike[str]) -> "Run":
    """Open a run, live or finished; the ending of its file may be left out.

    Raises `RunFileError` where there is no such file, or it is not a run, is damaged, or is too new.
    """
    return Run(find(Path(path)))


class Run:
    """A run file, open for reading; `run["lambda_max"]` is a `Series`. Every answer is as of now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = connect_to_read(path)
        weakref.finalize(self, self._connection.close)  # for `load_run(path)["loss"]`

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def meta(self) -> dict[str, Any]:
        """Facts about the whole run: "config", "environment", "started" and "heartbeat" (unix time), ..."""
        return {key: self._parsed(value) for key, value in self.query("SELECT key, value FROM meta")}

    @property
    def config(self) -> dict[str, Any]:
        """What the run was started with."""
        return dict(self.meta.get("config", {}))

    @property
    def environment(self) -> dict[str, Any]:
        """The versions and the machine that it ran on."""
        return dict(self.meta.get("environment", {}))

    @property
    def status(self) -> Status:
        """One of "live", "finished", "failed" (by an error), "interrupted" (by Ctrl+C) and "stopped".

        A run that stopped fell silent without saying that it ended.
        """
        return run_status(self.meta)

    @property
    def names(self) -> list[str]:
        """The metrics, in the order in which they first came."""
        return list(self.metric_ids())

    @property
    def last_step(self) -> int | None:
        """The last step of any metric; None in an empty run."""
        sql = "SELECT max((SELECT max(step) FROM scalars WHERE metric = metrics.id)) FROM metrics"
        last: int | None = self.query(sql)[0][0]
        return last

    def last_value(self, name: str) -> float | None:
        """The last value of a metric that is not NaN; None where it has none, or there is no such metric."""
        sql = """SELECT value FROM scalars WHERE metric = (SELECT id FROM metrics WHERE name = ?)
                 AND value IS NOT NULL ORDER BY step DESC LIMIT 1"""
        rows = self.query(sql, (name,))
        return rows[0][0] if rows else None

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Every change of a rule's state, oldest first, with "id", "time" and "acknowledged"."""
        return self.alerts_after(0)

    @property
    def active_alerts(self) -> list[dict[str, Any]]:
        """The rules whose last change was not back to ok: the worst first, of those the cause, then the newest."""
        last = {alert["rule"]: alert for alert in self.alerts}
        active = [alert for alert in last.values() if alert["level"] != "ok"]
        return sorted(active, key=lambda alert: (_LEVELS.get(alert["level"], 2), -alert.get("cause", 0), -alert["id"]))

    @property
    def actions(self) -> list[dict[str, Any]]:
        """Every action of the monitor in its last state, the first proposed first; see docs/run-file.md."""
        return all_actions(self.query)

    @property
    def readings(self) -> list[dict[str, Any]]:
        """Every reading as it was given, oldest first, its density included."""
        return [reading for _, reading in self.readings_after(0)]

    @property
    def densities(self) -> list[dict[str, Any]]:
        """Every spectral density in the order of its step: "step", "grid", "values", "outliers", "bulk"."""
        return self.thinned_densities(None)

    @property
    def kinds(self) -> list[str]:
        """The kinds of measurements that the run holds, such as "flow"."""
        return [row[0] for row in self.query("SELECT DISTINCT kind FROM measurements ORDER BY kind")]

    def measurements(self, kind: str, limit: int | None = None) -> list[dict[str, Any]]:
        """The measurements of a kind in the order of their steps; at most `limit`, spread evenly over the run."""
        steps = [row[0] for row in self.query("SELECT step FROM measurements WHERE kind = ? ORDER BY step", (kind,))]
        sql = "SELECT step, json FROM measurements WHERE kind = ? AND step = ?"
        return [self._measurement(*self.query(sql, (kind, step))[0]) for step in _thinned(steps, limit)]

    def latest(self, kind: str) -> dict[str, Any] | None:
        """The measurement of a kind that was written last; None where there is none."""
        sql = "SELECT step, json FROM measurements WHERE kind = ? ORDER BY id DESC LIMIT 1"
        rows = self.query(sql, (kind,))
        return self._measurement(*rows[0]) if rows else None

    def measurements_after(self, measurement_id: int) -> list[tuple[int, str, dict[str, Any]]]:
        """`(id, kind, measurement)` of those that were written after the one with that id."""
        rows = self.query("SELECT id, kind, step, json FROM measurements WHERE id > ? ORDER BY id", (measurement_id,))
        return [(number, kind, self._measurement(step, text)) for number, kind, step, text in rows]

    def version(self) -> int:
        """A number that changes whenever somebody else wrote to the file; cheap to ask for."""
        return int(self.query("PRAGMA data_version")[0][0])

    def __contains__(self, name: object) -> bool:
        return name in self.metric_ids()

    def __getitem__(self, name: str) -> Series:
        low, high = -(2**63), 2**63 - 1
        return Series.from_rows(name, self.query(ROWS, (self._metric(name), low, high)))

    def decimated(self, name: str, *, first: int | None = None, last: int | None = None, points: int = 1000) -> Series:
        """The series from step `first` to `last` in about `points` points that keep every extreme.

        A window with few rows comes back whole. Raises `InputError` for an unknown name, or `points` under 2.
        """
        if points < 2:
            raise InputError(f"points is {points}, and must be at least 2")
        metric = self._metric(name)
        window = "SELECT {}(step) FROM scalars WHERE metric = ?"
        start, end = (self.query(window.format(which), (metric,))[0][0] for which in ("min", "max"))
        start = start if first is None else max(start, first)
        end = end if last is None else min(end, last)
        return decimate(self.query, metric, name, start, end, points)

    def reading_at(self, step: int | None = None, *, density: bool = True) -> dict[str, Any] | None:
        """The last reading, or the last one of a step; None where there is none."""
        where, parameters = ("", ()) if step is None else ("WHERE step = ?", (step,))
        rows = self.query(f"SELECT json FROM readings {where} ORDER BY id DESC LIMIT 1", parameters)
        if not rows:
            return None
        reading: dict[str, Any] = self._parsed(rows[0][0])
        return self._with_density(reading) if density else reading

    def readings_after(self, reading_id: int) -> list[tuple[int, dict[str, Any]]]:
        """`(id, reading)` of the readings that were written after the one with that id."""
        rows = self.query("SELECT id, json FROM readings WHERE id > ? ORDER BY id", (reading_id,))
        return [(number, self._with_density(self._parsed(text))) for number, text in rows]

    def alerts_after(self, alert_id: int) -> list[dict[str, Any]]:
        """The changes of state that were written after the one with that id, oldest first."""
        sql = """SELECT id, a.time, json, k.time FROM alerts a LEFT JOIN acknowledgements k ON k.alert_id = id
                 WHERE id > ? ORDER BY id"""
        return [
            {**self._parsed(text), "id": number, "time": when, "acknowledged": seen is not None}
            for number, when, text, seen in self.query(sql, (alert_id,))
        ]

    def thinned_densities(self, limit: int | None) -> list[dict[str, Any]]:
        """At most `limit` densities spread evenly over the run, the first and the last among them."""
        steps = [row[0] for row in self.query("SELECT step FROM densities ORDER BY step")]
        sql = "SELECT grid, density, json FROM densities WHERE step = ?"
        return [density_dict(*self.query(sql, (step,))[0]) for step in _thinned(steps, limit)]

    def to_pandas(self) -> "pd.DataFrame":
        """A table with a row a step and a column a metric, and `<name>_error` where it has errors.

        Raises `InputError` where pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise InputError("to_pandas needs pandas: pip install 'eigenscope[pandas]'") from None
        columns: dict[str, pd.Series[float]] = {}
        for name in self.names:
            series = self[name]
            columns[name] = pd.Series(series.values, index=series.steps)
            if not np.isnan(series.errors).all():
                columns[f"{name}_error"] = pd.Series(series.errors, index=series.steps)
        return pd.DataFrame(columns).rename_axis("step")

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Any]:
        """The rows of one SELECT; see docs/run-file.md for the tables. Raises `RunFileError` where it fails."""
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:
            raise RunFileError(_refused(self.path, sql, error)) from error
        except sqlite3.DatabaseError as error:
            raise damaged(self.path, error) from error

    def _parsed(self, text: Any) -> Any:
        try:
            return json.loads(text)
        except (TypeError, ValueError) as error:
            raise damaged(self.path, error) from error

    def _measurement(self, step: int, text: str) -> dict[str, Any]:
        return {**self._parsed(text), "step": step}

    def metric_ids(self) -> dict[str, int]:
        """The metrics by name, in the order in which they first came."""
        return dict(self.query("SELECT name, id FROM metrics ORDER BY id"))

    def _metric(self, name: str) -> int:
        ids = self.metric_ids()
        if name in ids:
            return ids[name]
        close = difflib.get_close_matches(name, ids) or sorted(ids)
        known = ", ".join(close) or "none yet"
        raise InputError(f"the run {self.name!r} has no metric {name!r}; it has {known}")

    def _with_density(self, reading: dict[str, Any]) -> dict[str, Any]:
        density = reading.get("density")
        if isinstance(density, dict) and density.keys() == {"step"}:
            sql = "SELECT grid, density, json FROM densities WHERE step = ?"
            reading["density"] = density_dict(*self.query(sql, (density["step"],))[0])
        return reading

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        self._connection.close()

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status}, last step {self.last_step})"


def _thinned(steps: list[int], limit: int | None) -> list[int]:
    """At most `limit` of the steps, spread evenly, the first and the last among them; of one, the last."""
    if limit is None or len(steps) <= limit:
        return steps
    return [steps[i] for i in np.linspace(len(steps) - 1, 0, limit).round().astype(int)[::-1]]


def _refused(path: Path, sql: str, error: sqlite3.Error) -> str:
    """Why a query gave no rows, in one line."""
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_READONLY:
        return f"a run is only read: give query() a SELECT, not {sql!r}"
    if code == sqlite3.SQLITE_ERROR or isinstance(error, sqlite3.ProgrammingError):
        return f"{path} can't answer {sql!r}: {one_line(error)}"
    return f"{path} can't be read now: {one_line(error)}"

"""What is new in a run since the last look: the dashboard's live feed."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eigenscope.errors import RunFileError
from eigenscope.runs.actions import action_versions, all_actions
from eigenscope.runs.reader import Run

Row = tuple[int, float | None, float | None]  # step, value (None: NaN), error (None: none stated)

MAX_ROWS = 5_000  # of one metric between two looks; beyond it the whole series is as cheap to read again


@dataclass(frozen=True)
class Changes:
    """What was written since the last look; `rewound` says that rows before the last ones changed too."""

    scalars: dict[str, list[Row]] = field(default_factory=dict)
    readings: list[dict[str, Any]] = field(default_factory=list)
    measurements: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # (kind, measurement)
    alerts: list[dict[str, Any]] = field(default_factory=list)  # a reworded one comes again, with the id it had
    actions: list[dict[str, Any]] = field(default_factory=list)  # each that has another state or was answered
    rewound: bool = False


class Tail:
    """Follows a run from now on. Raises `RunFileError` once the file is gone or another one."""

    def __init__(self, path: Path) -> None:
        self._file = _identity(path)
        self.run = Run(path)
        self._version = self.run.version()
        self._rewinds = self._count_rewinds()
        self._last: dict[str, Row] = {}
        for name, metric in self.run.metric_ids().items():
            sql = "SELECT step, value, error FROM scalars WHERE metric = ? ORDER BY step DESC LIMIT 1"
            self._last[name] = self.run.query(sql, (metric,))[0]
        self._reading_id = self.run.query("SELECT coalesce(max(id), 0) FROM readings")[0][0]
        self._measurement_id = self.run.query("SELECT coalesce(max(id), 0) FROM measurements")[0][0]
        self._alerts = self._last_alerts()
        self._actions = action_versions(self.run.query)

    def changes(self) -> Changes | None:
        """What is new; None where nobody has written, which is cheap to find out."""
        if _identity(self.run.path) != self._file:
            raise RunFileError(f"{self.run.path} was replaced by another file")
        version = self.run.version()
        if version == self._version:
            return None
        self._version = version
        rewinds = self._count_rewinds()
        scalars = {name: self._new_rows(name, metric) for name, metric in self.run.metric_ids().items()}
        overrun = any(len(rows) >= MAX_ROWS for rows in scalars.values())
        rewound, self._rewinds = rewinds != self._rewinds or overrun, rewinds
        alerts = self._new_alerts()
        readings = self.run.readings_after(self._reading_id)
        self._reading_id = readings[-1][0] if readings else self._reading_id
        measured = self.run.measurements_after(self._measurement_id)
        self._measurement_id = measured[-1][0] if measured else self._measurement_id
        return Changes(
            {name: rows for name, rows in scalars.items() if rows},
            [reading for _, reading in readings],
            [(kind, measurement) for _, kind, measurement in measured],
            alerts,
            self._new_actions(),
            rewound,
        )

    def close(self) -> None:
        """Let go of the file."""
        self.run.close()

    def _count_rewinds(self) -> int:
        return int(self.run.meta.get("rewinds", 0))

    def _last_alerts(self) -> dict[int, str]:
        """The last change of each rule by its id: the one row of a rule that may still be reworded."""
        return dict(self.run.query("SELECT max(id), json FROM alerts GROUP BY rule"))

    def _new_alerts(self) -> list[dict[str, Any]]:
        """Changes of state since the last look, and alerts that stand in other words than then."""
        known, self._alerts = self._alerts, self._last_alerts()
        if known == self._alerts:
            return []
        last = max(known, default=0)
        reworded = {number for number, text in known.items() if self._alerts.get(number, text) != text}
        rows = self.run.alerts_after(min(reworded, default=last + 1) - 1)
        return [alert for alert in rows if alert["id"] > last or alert["id"] in reworded]

    def _new_actions(self) -> list[dict[str, Any]]:
        known, self._actions = self._actions, action_versions(self.run.query)
        changed = {key for key, version in self._actions.items() if known.get(key) != version}
        return [action for action in all_actions(self.run.query) if action["key"] in changed] if changed else []

    def _new_rows(self, name: str, metric: int) -> list[Row]:
        """Rows from the last known step on, less that one where it is still the same."""
        known = self._last.get(name)
        sql = """SELECT step, value, error FROM scalars WHERE metric = ? AND step >= ?
                 ORDER BY step DESC LIMIT ?"""
        first = -(2**63) if known is None else known[0]
        rows: list[Row] = self.run.query(sql, (metric, first, MAX_ROWS + 1))[::-1]
        if not rows:
            return []
        self._last[name] = rows[-1]
        return rows[1:] if rows[0] == known else rows


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise RunFileError(f"{path} is gone ({error.strerror})") from error
    return status.st_dev, status.st_ino

"""Alerts on their way out: into memory, the run file and the log."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress

from eigenscope.errors import EigenscopeError
from eigenscope.monitor.alerts import Alert, AlertBook, check_failed
from eigenscope.monitor.recording import Recorder

log = logging.getLogger("eigenscope")
_HISTORY = 1000  # alerts kept in memory; the run file has them all


class Telling:
    """Tells each change of a rule's state once."""

    def __init__(self, alerts: AlertBook, recorder: Recorder) -> None:
        self.alerts, self.history = alerts, deque[Alert](maxlen=_HISTORY)
        self._recorder = recorder

    def tell(self, alert: Alert | None) -> None:
        """Record it; where it is no news but other words, only these."""
        if alert is None:
            return
        if alert.reworded:
            self._recorder.reword(alert)
            return
        self.history.append(alert)
        self._recorder.alert(alert)
        if alert.level != "ok":
            warn(str(alert))

    def contain(self, step: int, error: Exception) -> None:
        """Turn what went wrong into an alert; whatever that throws in turn ends here too."""
        with suppress(Exception):
            self.tell(self.alerts.raise_(check_failed(step, in_a_line(error))))


def warn(text: str) -> None:
    """To the log; a handler of the user's may raise."""
    with suppress(Exception):
        log.warning("%s", text)


def in_a_line(error: Exception) -> str:
    """What went wrong: of what is not ours, with its kind."""
    lines = str(error).strip().splitlines() or [""]
    what = lines[0] if isinstance(error, EigenscopeError) else f"{type(error).__name__}: {lines[0]}"
    return what[:300]

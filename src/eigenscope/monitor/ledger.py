"""The actions of a run by number: recorded, told, and looked up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from eigenscope.actions import Action
from eigenscope.errors import InputError
from eigenscope.monitor.alerts import Alert
from eigenscope.monitor.recording import Recorder
from eigenscope.monitor.records import NOBODY, OPEN, ActionRecord
from eigenscope.monitor.telling import warn


class Ledger:
    """Keeps each record as it stands; as long as a proposal is open, answers may come in through the run file."""

    def __init__(self, recorder: Recorder, step: Callable[[], int]) -> None:
        self.records: dict[int, ActionRecord] = {}
        self.actions: dict[int, Action] = {}  # by the keys of records
        self.requests: deque[tuple[int, str]] = deque()  # answers of the program and, once it is asked, of the file
        self.filed: deque[tuple[int, str]] = self.requests
        self._recorder, self._step = recorder, step

    def new(self, action: Action, alert: Alert, by: str = NOBODY) -> ActionRecord:
        """A proposal, not told yet."""
        record = ActionRecord.proposed(len(self.records) + 1, action, alert, self._step(), by)
        self.actions[record.key] = action
        return record

    def open(self) -> list[int]:
        """The proposals that wait."""
        return [key for key, record in self.records.items() if record.state == OPEN]

    def is_open(self, key: int) -> bool:
        return key in self.records and self.records[key].state == OPEN

    def ask(self, key: int, verb: str) -> None:
        """Note an answer; raises `InputError` where no proposal of that key waits."""
        if not self.is_open(key):
            state = f"is {self.records[key].state} already" if key in self.records else "is not known"
            raise InputError(f"action {key} {state}: open are {', '.join(map(str, self.open())) or 'none'}")
        self.requests.append((key, verb))

    def next_request(self) -> tuple[int, str] | None:
        """The next answer to a proposal that is open."""
        while self.requests or self.filed:
            key, verb = (self.requests or self.filed).popleft()
            if self.is_open(key):
                return key, verb
        return None

    def move(self, record: ActionRecord, state: str, note: str, by: str | None = None) -> None:
        """To another state."""
        self.put(replace(record, state=state, step=self._step(), note=note, by=by or record.by))

    def put(self, record: ActionRecord, hint: str = "") -> None:
        """Record it and tell it."""
        self.records[record.key] = record
        self._recorder.action(record.step, record.to_dict())
        self.filed = self._recorder.await_requests(self.open())
        warn(f"{record}{hint}")

    def propose(self, record: ActionRecord) -> None:
        """Record it, and tell how it is answered without the dashboard."""
        path, key = self._recorder.path, record.key
        elsewhere = f", or from a terminal: eigenscope actions {path} --apply {key}" if path else ""
        self.put(record, f"\n  monitor.apply({key}) or monitor.dismiss({key}), its buttons in the dashboard{elsewhere}")

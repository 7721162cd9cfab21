"""What the run file holds of an action: what was to be done and why, what was changed, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from eigenscope.actions import Action
from eigenscope.monitor.alerts import Alert

OPEN, APPLIED = "proposed", "applied"
AUTO, PERSON, NOBODY = "auto", "a person", "nobody"
# Where it ends: kept (it helped, or that can't be told), undone (it hurt), dismissed (by a person, or because its alert
# is over), refused (it could not be applied, or not any more), failed (it raised, and was undone).
ENDS = ("kept", "undone", "dismissed", "refused", "failed")


@dataclass(frozen=True)
class ActionRecord:
    """One action, as it stands."""

    key: int  # 1 for the first of a run
    name: str
    words: str
    criterion: str
    state: str  # "proposed", "applied", or one of ENDS
    step: int  # of that state
    alert: Mapping[str, object]  # what it answers
    by: str = NOBODY  # who had it applied or dismissed: "auto", "a person", or neither
    applied_at: int | None = None
    changed: Mapping[str, object] | None = None
    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None
    helped: bool | None = None
    note: str = ""  # how it ended, in a sentence

    @classmethod
    def proposed(cls, key: int, action: Action, alert: Alert, step: int, by: str) -> ActionRecord:
        """A new one."""
        return cls(key, action.name, action.words, action.criterion, OPEN, step, cause(alert), by)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON."""
        return asdict(self)

    def __str__(self) -> str:
        what = f"step {self.step}, action {self.key} {self.state}: {self.words}"
        if self.state == OPEN:
            return f"{what}, because {self.alert['message']}"
        if self.state == APPLIED:
            return f"{what} ({in_words(self.changed)})"
        return f"{what} ({self.note})" if self.note else what


def cause(alert: Alert) -> dict[str, object]:
    """Of an alert what its action's record keeps."""
    plain = alert.to_dict()
    return {name: plain[name] for name in ("rule", "level", "step", "metric", "value", "threshold", "message")}


def in_words(changed: Mapping[str, object] | None) -> str:
    """What an action changed, in a line: "lr 0.1, 0.05"."""
    return "; ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in (changed or {}).items()) or "done"


def _short(value: object, inner: bool = False) -> str:
    """A pair inside a list is a value before and after."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        if inner and len(value) == 2:
            return " → ".join(map(_short, value))
        shown = ", ".join(_short(item, True) for item in value[:4])
        return shown + (f" and {len(value) - 4} more" if len(value) > 4 else "")
    if isinstance(value, Mapping):
        return in_words(value)
    return str(value)

"""From alerts to actions: proposed or applied between two steps, judged by what was measured, undone if they hurt."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from eigenscope.actions import Action, Situation, answering
from eigenscope.diagnostics.words import counted
from eigenscope.errors import InputError
from eigenscope.monitor.alerts import Alert, AlertBook, acting_ends
from eigenscope.monitor.loops import LoopWatch
from eigenscope.monitor.policy import Policy
from eigenscope.monitor.recent import Recent
from eigenscope.monitor.recording import Recorder
from eigenscope.monitor.records import OPEN, ActionRecord
from eigenscope.monitor.rules import LEVELS
from eigenscope.monitor.telling import Telling, in_a_line, warn
from eigenscope.monitor.trial import Trial

_VERBS = ("apply", "dismiss")


class Acting:
    """The actions of one run. One at a time: the next is applied when the last has been judged."""

    def __init__(
        self,
        policy: Policy,
        situation: Callable[[], Situation],
        alerts: AlertBook,
        recent: Recent,
        recorder: Recorder,
        telling: Telling,
    ) -> None:
        self.policy, self.loop = policy, LoopWatch()
        self.records: dict[int, ActionRecord] = {}
        self._now, self._alerts, self._recent = situation, alerts, recent
        self._recorder, self._telling = recorder, telling
        self._actions: dict[int, Action] = {}  # by the keys of records
        self._trial: tuple[int, Trial] | None = None
        self._standing: dict[int, Action] = {}  # applied and not undone: their hooks may still fail
        self._spent: set[str] = set()  # by name: undone or failed, not to be tried again
        self._rested: dict[str, int] = {}  # by action and by rule: the check up to which nothing more is done
        self._hindered: set[str] = set()  # rules of which it was said that nothing allowed can answer them
        self._answered: set[tuple[str, int]] = set()  # alerts, by rule and step, to which a person said no
        self._checks = self._applied = 0
        self._over = False  # nothing is applied in this run any more
        self._requests: deque[tuple[int, str]] = deque()  # answers of the program and, once it is asked, of the file
        self._filed: deque[tuple[int, str]] = self._requests

    # -- what is asked for ----------------------------------------------------------------------------------------

    def answer(self, key: int, verb: str) -> None:
        """Apply or dismiss a proposal at the next step; raises `InputError` where there is none of that key."""
        record = self.records.get(key)
        if record is None or record.state != OPEN:
            state = "is not known" if record is None else f"is {record.state} already"
            raise InputError(f"action {key} {state}: open are {', '.join(map(str, self._open())) or 'none'}")
        self._requests.append((key, verb))

    def step(self, checked: bool) -> None:
        """Between two steps: take back what went wrong, do what was asked for, and after a check what the rules say."""
        self.loop.calls += 1
        if self._standing:
            self._watch()
        if checked:  # what was on trial until now is judged by this check, not what is applied after it
            self._checks += 1
            self._judge()
        if self._requests or self._filed:
            self._take_answers()
        if checked:
            self._withdraw()
            self._consider()

    def first(self) -> None:
        """Before the first step: what can be done only there."""
        if self.policy.act == "auto":
            self._consider()

    def release(self) -> None:
        """The optimizer is about to be replaced: what works on it by hooks lets it go, and may be applied anew."""
        mine = self._trial[0] if self._trial is not None else None
        for key, action in [(k, a) for k, a in self._standing.items() if k != mine]:
            action.undo(self._now())
            del self._standing[key]
            self._rested.pop(action.name, None)
            self._move(self.records[key], "undone", note="the optimizer that it worked on was replaced")

    def _take_answers(self) -> None:
        """Once nothing is on trial; what is asked for meanwhile waits."""
        while self._trial is None and (self._requests or self._filed):
            key, verb = (self._requests or self._filed).popleft()
            record = self.records.get(key)
            if record is None or record.state != OPEN or verb not in _VERBS:
                continue  # answered before, from elsewhere
            if verb == "dismiss":
                self._answered.add(_episode(record))
                self._move(record, "dismissed", note="by a person")
            elif (why := self.loop.refusal()) is not None:
                self._move(record, "refused", note=why or "the loop is not known yet: its first steps must be over")
            elif why := self._why_not(self._actions[key]):
                self._move(record, "refused", note=why)
            else:
                self._apply(record)

    # -- what the rules say ---------------------------------------------------------------------------------------

    def _consider(self) -> None:
        """Propose or apply the first action that answers a standing alert and can be applied."""
        if self._over:
            return
        worst = sorted(self._alerts.active.values(), key=lambda a: (LEVELS.index(a.level), a.cause), reverse=True)
        for alert in worst:
            if self._trial is None or self.policy.act == "ask":
                self._answer_alert(alert)

    def _answer_alert(self, alert: Alert) -> None:
        held = alert.value is not None and alert.threshold is not None and alert.value < alert.threshold
        open_rules = {self.records[key].alert["rule"] for key in self._open()}
        resting = self._rested.get(alert.rule, 0) > self._checks  # what was done has helped, and may go on doing so
        if held or resting or alert.rule in open_rules or (alert.rule, alert.step) in self._answered:
            return
        hindered = {one: self._why_not(one) for one in self._candidates(alert)}
        action = next((one for one, why in hindered.items() if why is None), None)
        if action is None:
            self._refuse(alert, hindered)
            return
        if not self._allowed():
            return
        record = self._new(action, alert)
        if self.policy.act == "auto":
            self._apply(record)
        else:
            self._put(record, hint=self._how(record))

    def _new(self, action: Action, alert: Alert) -> ActionRecord:
        by = "auto" if self.policy.act == "auto" else "a person"
        record = ActionRecord.proposed(len(self.records) + 1, action, alert, self._now().step, by)
        self._actions[record.key] = action
        return record

    def _refuse(self, alert: Alert, hindered: Mapping[Action, str | None]) -> None:
        """Say once in a run why what would answer an alert can't: the first of them, which is the best one."""
        if alert.rule in self._hindered or not hindered or self._over or self.loop.refusal() is not None:
            return
        self._hindered.add(alert.rule)
        action, why = next(iter(hindered.items()))
        self._move(self._new(action, alert), "refused", note=why or "")

    def _candidates(self, alert: Alert) -> list[Action]:
        """What answers it: first what the alert itself recommends."""
        found = answering(alert.rule, self.policy.actions)
        ready = [a for a in found if a.name not in self._spent and self._rested.get(a.name, 0) <= self._checks]
        busy = {self.records[key].name for key in self._open()}
        return sorted((a for a in ready if a.name not in busy), key=lambda a: a.words != alert.action)

    def _why_not(self, action: Action) -> str | None:
        if action.name in self._spent:
            return "it was undone before in this run, and is not tried again"
        try:
            return action.can_apply(self._now())
        except Exception as error:
            self._spent.add(action.name)
            return in_a_line(error)

    def _allowed(self) -> bool:
        """Whether anything may be applied; where not for good, that is told once."""
        why = self.loop.refusal()
        if why is None and self.policy.act == "auto" and self._applied >= self.policy.limit:
            times = counted(self._applied, "action")
            why = f"{times} applied, as many as action_limit allows in a run: from here on alerts only advise"
        if why:
            self._over = True
            self._telling.tell(self._alerts.raise_(acting_ends(self._now().step, why)))
        return why is None

    def _withdraw(self) -> None:
        """A proposal whose alert is over is over too."""
        for key in self._open():
            record = self.records[key]
            if str(record.alert["rule"]) not in self._alerts.active:
                self._move(record, "dismissed", note="no longer needed: the alert is over")

    # -- applied, judged, undone ----------------------------------------------------------------------------------

    def _apply(self, record: ActionRecord) -> None:
        action, now = self._actions[record.key], self._now()
        self._applied += 1
        try:
            trial = Trial(action, now, self._recent)
        except Exception as error:
            self._spent.add(action.name)
            note = f"{in_a_line(error)}: everything is as it was before, and it is not tried again"
            self._put(replace(record, state="failed", step=now.step, applied_at=now.step, note=note))
            return
        self._trial = record.key, trial
        self._standing[record.key] = action
        self._rested[action.name] = self._checks + self.policy.cool_down
        before = trial.before.to_dict()
        self._put(
            replace(record, state="applied", step=now.step, applied_at=now.step, changed=trial.changed, before=before)
        )

    def _watch(self) -> None:
        """Undo what fails between two checks: the loss is not finite, or a hook says that it can't go on."""
        if self._trial is not None and self._trial[1].broken:
            key, trial = self._trial
            trial.undo_all(self._now)
            note = f"the training loss is not finite: everything is as it was at step {trial.step}, before it"
            self._end(key, "undone", trial, False, note)
        for key, action in list(self._standing.items()):
            if action.problem and self._trial is not None and self._trial[0] == key:
                trial = self._trial[1]
                note = f"{action.problem}: {trial.undo(self._now, trial.after(self._now()))}"
                self._end(key, "failed", trial, False, note)
            elif action.problem:  # long after its verdict: its snapshot is gone
                action.undo(self._now())
                self._standing.pop(key)
                self._spent.add(action.name)
                self._move(self.records[key], "failed", note=f"{action.problem}: it is switched off")

    def _judge(self) -> None:
        if self._trial is None:
            return
        key, trial = self._trial
        try:
            after = trial.after(self._now())
            helped = trial.verdict(after)
        except Exception as error:  # its judgement fails, not what it did
            self._end(key, "kept", trial, None, f"its criterion can't be judged: {in_a_line(error)}")
            return
        if helped:
            self._end(key, "kept", trial, True, f"it helped: {trial.action.criterion}")
        elif helped is not None:
            self._end(key, "undone", trial, False, f"it did not help; {trial.undo(self._now, after)}")
        elif trial.exhausted:
            self._end(key, "kept", trial, None, "whether it helped can't be told from what was measured since")

    def _end(self, key: int, state: str, trial: Trial, helped: bool | None, note: str) -> None:
        self._trial = None
        if state == "kept":
            self._rested[str(self.records[key].alert["rule"])] = self._checks + self.policy.cool_down
        else:
            self._standing.pop(key, None)
            self._spent.add(trial.action.name)
        after = trial.after(self._now()).to_dict()
        self._put(replace(self.records[key], state=state, step=self._now().step, after=after, helped=helped, note=note))

    # -- records --------------------------------------------------------------------------------------------------

    def _open(self) -> list[int]:
        return [key for key, record in self.records.items() if record.state == OPEN]

    def _move(self, record: ActionRecord, state: str, note: str) -> None:
        self._put(replace(record, state=state, step=self._now().step, note=note))

    def _put(self, record: ActionRecord, hint: str = "") -> None:
        """Record it, tell it, and look for answers as long as a proposal is open."""
        self.records[record.key] = record
        self._recorder.action(record.step, record.to_dict())
        self._filed = self._recorder.await_requests(self._open())
        warn(f"{record}{hint}")

    def _how(self, record: ActionRecord) -> str:
        """How it is answered without the dashboard."""
        path, key = self._recorder.path, record.key
        elsewhere = f", or from a terminal: eigenscope actions {path} --apply {key}" if path else ""
        return f"\n  monitor.apply({key}) or monitor.dismiss({key}), its buttons in the dashboard{elsewhere}"


def _episode(record: ActionRecord) -> tuple[str, int]:
    """The alert that a record answers, as it was then."""
    return str(record.alert["rule"]), int(str(record.alert["step"]))

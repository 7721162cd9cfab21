"""From alerts to actions: proposed or applied between two steps, judged by what was measured, undone if they hurt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from eigenscope.actions import Action, Situation, answering
from eigenscope.actions.evidence import change_of_loss
from eigenscope.actions.learnt import learnt
from eigenscope.monitor.alerts import Alert, AlertBook, acting_ends
from eigenscope.monitor.ledger import Ledger
from eigenscope.monitor.loops import LoopWatch
from eigenscope.monitor.policy import Policy
from eigenscope.monitor.recent import Recent
from eigenscope.monitor.recording import Recorder
from eigenscope.monitor.records import AUTO, PERSON, ActionRecord
from eigenscope.monitor.rules import LEVELS
from eigenscope.monitor.telling import Telling, in_a_line, warn
from eigenscope.monitor.trial import Trial, take_back
from eigenscope.words import counted


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
        self.ledger = Ledger(recorder, lambda: situation().step)
        self._now, self._alerts, self._recent, self._telling = situation, alerts, recent, telling
        self._trial: tuple[int, Trial] | None = None
        self._standing: dict[int, Action] = {}  # applied and not undone: their hooks may still fail
        self._let_go: dict[int, Action] = {}  # of these, what had to let go of the optimizer that is on trial
        self._spent: set[str] = set()  # by name: undone or failed, not to be tried again
        self._rested: dict[str, int] = {}  # by action and by rule: the check up to which nothing more is done
        self._hindered: set[str] = set()  # rules of which it was said that nothing allowed can answer them
        self._answered: set[tuple[str, int]] = set()  # alerts, by rule and step, to which a person said no
        self._asked: list[int] = []  # proposals that a person wants applied, while another action is on trial
        self._checks = self._applied = 0
        self._fresh = False  # before the first step: the network was seen to have learnt nothing

    def step(self, checked: bool) -> None:
        """Between two steps: take back what went wrong, do what was asked for, and after a check what the rules say."""
        self.loop.call()
        if self._standing:
            self._watch()
        if checked:  # what was on trial until now is judged by this check, not what is applied after it
            self._checks += 1
            self._judge()
        if self.ledger.requests or self.ledger.filed:
            self._take_answers()
        if self._asked and self._trial is None:
            self._apply_asked()
        if checked:
            self._withdraw()
            self._consider()

    def first(self) -> None:
        """Before the first step, where a fresh network may be started anew; one that has learnt is left alone."""
        if self.policy.act == "auto" and self._alerts.active:
            self._fresh = learnt(self._now()) is None
            if self._fresh:
                self._consider()
            self._fresh = False

    def release(self) -> None:
        """The optimizer is about to be replaced: what works on it by hooks lets it go, and may be applied anew."""
        mine = self._trial[0] if self._trial is not None else None
        for key, action in [(k, a) for k, a in self._standing.items() if k != mine]:
            if not action.in_force:
                continue  # done once and for all, and not undone by this
            del self._standing[key]
            self._let_go[key] = action
            action.release()
            self._rested.pop(action.name, None)
            self.ledger.move(self.ledger.records[key], "undone", "the optimizer that it worked on was replaced")

    def close(self) -> None:
        """The run is over: what is on trial stays unjudged, and every hook comes off."""
        self.loop.leave()
        if self._trial is not None:
            self._end(*self._trial, "kept", None, "the run ended before it could be judged")
        while self._standing:
            self._standing.popitem()[1].release()

    # -- what is asked for ----------------------------------------------------------------------------------------

    def _take_answers(self) -> None:
        """What is dismissed is so at once; what is to be applied waits until nothing is on trial."""
        while (request := self.ledger.next_request()) is not None:
            key, verb = request
            record = self.ledger.records[key]
            if key in self._asked or verb not in ("apply", "dismiss"):
                continue  # the first answer counts
            if verb == "dismiss":
                self._answered.add(_episode(record))
                self.ledger.move(record, "dismissed", "by a person", by=PERSON)
            else:
                self._asked.append(key)
                if self._trial is not None:
                    warn(f"action {key} is to be applied once action {self._trial[0]} has been judged")

    def _apply_asked(self) -> None:
        while self._asked and self._trial is None:
            key = self._asked.pop(0)
            record = self.ledger.records[key]
            if (why := self.loop.refusal()) is not None:
                why = why or "the loop is not known yet: its first steps must be over"
            if why := why or self._why_not(self.ledger.actions[key]):
                self.ledger.move(record, "refused", why)
            else:
                self._apply(replace(record, by=PERSON))

    def _withdraw(self) -> None:
        """A proposal whose alert is over is over too, unless it is asked for."""
        for key in self.ledger.open():
            record = self.ledger.records[key]
            if str(record.alert["rule"]) not in self._alerts.active and key not in self._asked:
                self.ledger.move(record, "dismissed", "no longer needed: the alert is over")

    # -- what the rules say ---------------------------------------------------------------------------------------

    def _consider(self) -> None:
        """Propose or apply the first action that answers a standing alert and can be applied."""
        if "acting" in self._alerts.active:
            if self._limited():
                return
            if not self.loop.refusal():  # the loop is another than it was
                self._telling.tell(self._alerts.clear("acting", self._now().step))
        worst = sorted(self._alerts.active.values(), key=lambda a: (LEVELS.index(a.level), a.cause), reverse=True)
        for alert in worst:
            if self._trial is None or self.policy.act == "ask":
                self._answer_alert(alert)

    def _answer_alert(self, alert: Alert) -> None:
        limits = self._alerts.limits.get(alert.rule)
        held = (
            alert.value is not None and limits is not None and alert.value < limits.warning
        )  # by its hysteresis alone
        open_rules = {self.ledger.records[key].alert["rule"] for key in self.ledger.open()}
        resting = self._rested.get(alert.rule, 0) > self._checks  # what was done has helped, and may go on doing so
        if held or resting or alert.rule in open_rules or (alert.rule, alert.step) in self._answered:
            return
        hindered = {one: self._why_not(one, alert) for one in self._candidates(alert)}
        action = next((one for one, why in hindered.items() if why is None), None)
        if action is None:
            self._refuse(alert, hindered)
        elif self._allowed():
            if self.policy.act == "auto":
                self._apply(self.ledger.new(action, alert, AUTO))
            else:
                self.ledger.propose(self.ledger.new(action, alert))

    def _refuse(self, alert: Alert, hindered: Mapping[Action, str | None]) -> None:
        """Say once in a run why what would answer an alert can't: the first of them, which is the best one."""
        able = {one: why for one, why in hindered.items() if one.name not in self._spent}  # of the others it was said
        if not able or alert.rule in self._hindered or self._limited() or self.loop.refusal() is not None:
            return
        action, why = next(iter(able.items()))
        if action in self._standing.values():
            return  # it is in force
        self._hindered.add(alert.rule)
        self.ledger.move(self.ledger.new(action, alert), "refused", why or "")

    def _candidates(self, alert: Alert) -> list[Action]:
        """What answers it: first what the alert itself recommends."""
        found = answering(alert.rule, self.policy.actions)
        ready = [a for a in found if a.name not in self._spent and self._rested.get(a.name, 0) <= self._checks]
        on_trial = [self._trial[0]] if self._trial is not None else []
        busy = {self.ledger.records[key].name for key in (*self.ledger.open(), *on_trial)}
        return sorted((a for a in ready if a.name not in busy), key=lambda a: a.words != alert.action)

    def _why_not(self, action: Action, alert: Alert | None = None) -> str | None:
        """Why it can't be applied; where that can't be told it is given up, and for an alert that is recorded."""
        if action.name in self._spent:
            return "it was undone before in this run, and is not tried again"
        try:
            return action.can_apply(replace(self._now(), fresh=self._fresh))
        except Exception as error:
            self._spent.add(action.name)
            why = f"whether it can be applied can't be told, and it is not tried again: {in_a_line(error)}"
        if alert is not None:
            self.ledger.move(self.ledger.new(action, alert), "failed", why)
        return why

    def _limited(self) -> bool:
        """Whether all that may be applied without being asked for has been."""
        return self.policy.act == "auto" and self._applied >= self.policy.limit

    def _allowed(self) -> bool:
        """Whether anything may be applied; where not, that is told once."""
        why = self.loop.refusal()
        if why is None and self._limited():
            times = counted(self._applied, "action")
            why = f"{times} applied, as many as action_limit allows in a run: from here on alerts only advise"
        if why and "acting" not in self._alerts.active:
            self._telling.tell(self._alerts.raise_(acting_ends(self._now().step, why)))
        return why is None

    # -- applied, judged, undone ----------------------------------------------------------------------------------

    def _apply(self, record: ActionRecord) -> None:
        action, now = self.ledger.actions[record.key], self._now()
        self._applied += 1
        self._let_go = {}
        try:
            trial = Trial(action, now, self._recent)
        except Exception as error:
            self._spent.add(action.name)
            self._restand()
            note = f"{in_a_line(error)}: everything is as it was before, and it is not tried again"
            self.ledger.put(replace(record, state="failed", step=now.step, applied_at=now.step, note=note))
            return
        self._trial = record.key, trial
        self._standing[record.key] = action
        self._rested[action.name] = self._checks + self.policy.cool_down
        before = trial.before.to_dict()
        done = replace(record, state="applied", step=now.step, applied_at=now.step)
        self.ledger.put(replace(done, changed=trial.changed, before=before))

    def _watch(self) -> None:
        """Undo what fails between two checks: the loss is not finite, or a hook says that it can't go on."""
        if self._trial is not None and self._trial[1].broken:
            key, trial = self._trial
            trial.undo_all(self._now)
            note = f"the training loss is not finite: everything is as it was at step {trial.step}, before it"
            self._end(key, trial, "undone", False, note)
        for key, action in list(self._standing.items()):
            if action.problem and self._trial is not None and self._trial[0] == key:
                trial = self._trial[1]
                note = f"{action.problem}: {trial.undo(self._now, trial.after(self._now()))}"
                self._end(key, trial, "failed", False, note)
            elif action.problem:  # long after its verdict: its snapshot is gone
                del self._standing[key]
                self._spent.add(action.name)
                take_back(action, self._now)
                self.ledger.move(self.ledger.records[key], "failed", f"{action.problem}: it is switched off")

    def _judge(self) -> None:
        if self._trial is None:
            return
        key, trial = self._trial
        try:
            after = trial.after(self._now())
            helped = trial.verdict(after)
        except Exception as error:  # its judgement fails, not what it did
            self._end(key, trial, "kept", None, f"its criterion can't be judged: {in_a_line(error)}")
            return
        if helped:
            self._end(key, trial, "kept", True, f"it helped: {trial.action.criterion}")
        elif helped is not None:
            self._end(key, trial, "undone", False, f"it did not help; {trial.undo(self._now, after)}")
        elif trial.exhausted:
            fell = "the loss fell since, as it did before: " if change_of_loss(trial.before, after) == -1 else ""
            note = f"{fell}whether it helped can't be told from what was measured since"
            self._end(key, trial, "kept", None, note)

    def _end(self, key: int, trial: Trial, state: str, helped: bool | None, note: str) -> None:
        self._trial, record = None, self.ledger.records[key]
        if state == "kept":
            self._rested[str(record.alert["rule"])] = self._checks + self.policy.cool_down
        else:
            self._standing.pop(key, None)
            self._spent.add(trial.action.name)
            self._restand()
        now = self._now()
        after = trial.after(now).to_dict()
        self.ledger.put(replace(record, state=state, step=now.step, after=after, helped=helped, note=note))

    def _restand(self) -> None:
        """What let an optimizer go that has come back may have taken hold of it again."""
        for key, action in self._let_go.items():
            if action.in_force:
                self._standing[key] = action
                self._rested[action.name] = self._checks + self.policy.cool_down
                self.ledger.move(self.ledger.records[key], "kept", "in force again: its optimizer has come back")
        self._let_go = {}


def _episode(record: ActionRecord) -> tuple[str, int]:
    """The alert that a record answers, as it was then."""
    return str(record.alert["rule"]), int(str(record.alert["step"]))

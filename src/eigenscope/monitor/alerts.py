"""What the rules say of a reading: a level, one recommended action, and the reason in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from eigenscope.diagnostics.flow import FlowReading
from eigenscope.diagnostics.reading import CurvatureReading
from eigenscope.monitor.judgements import RULES, Rule, edge_rule, figure
from eigenscope.monitor.losses import LossWatch
from eigenscope.monitor.rules import LEVELS, Calls, Limits
from eigenscope.words import counted


@dataclass(frozen=True)
class Alert:
    """A rule's new state, since `step`. `level` ok means that it is over."""

    rule: str
    level: str
    step: int
    panel: str
    metric: str
    value: float | None
    threshold: float | None
    message: str
    action: str
    reason: str
    cause: int = 0  # of alerts of one level the highest comes first: what it tells of brings the others about
    reworded: bool = False  # no change of state: the alert that stands, with the words and the value of now

    def to_dict(self) -> dict[str, object]:
        return {key: value for key, value in asdict(self).items() if key != "reworded"}

    def __str__(self) -> str:
        advice = f" → {self.action} ({self.reason})" if self.action else ""
        return f"step {self.step}, {self.level}: {self.message}{advice}"


_FLOW_ACTIONS = {
    "orthogonal_init": "RE-INITIALIZE",
    "residual": "ADD RESIDUALS",
    "normalization": "NORMALIZE",
    "spectral_norm": "NORMALIZE THE LAYER",
    "clip_gradients": "CLIP THE GRADIENT",
}


_CHECKS_UNKNOWN = 3  # checks in a row in which a number could not be told, before its alert ends


class AlertBook:
    """The state of every rule: takes readings and losses, gives what is to be told of them."""

    def __init__(self, limits: Mapping[str, Limits], *, advise: bool = True) -> None:
        self.limits, self._advise = limits, advise
        self.active: dict[str, Alert] = {}
        self._worst: dict[str, Alert] = {}  # of each that stands, the words at its highest value
        self._quiet: dict[str, int] = {}
        self._calls = {name: Calls(limit) for name, limit in limits.items()}

    def update(self, reading: CurvatureReading) -> list[Alert]:
        """The changes of state that this reading makes, and the alerts that stand in the words of now (`reworded`)."""
        found = (self._judge(rule, reading) for name, rule in RULES.items() if self.limits[name].enabled)
        return [alert for alert in found if alert is not None]

    def foresee(self, reading: CurvatureReading) -> Alert | None:
        """Raise the alert of the edge ahead of the check, for a reading whose ratio follows from the learning rate."""
        rule = RULES[edge_rule(reading)]
        value, before = rule.read(reading), self.level(rule.name)
        if value is None or LEVELS.index(self.limits[rule.name].level(value, before)) <= LEVELS.index(before):
            return None
        words = f"{rule.message(reading)}, foreseen: its learning rate has risen since the last check"
        return self._judge(replace(rule, message=lambda _: words), reading, at_once=True)

    def _judge(self, rule: Rule, reading: CurvatureReading, *, at_once: bool = False) -> Alert | None:
        value, limits, before = rule.read(reading), self.limits[rule.name], self.level(rule.name)
        if not rule.applies(reading):  # another optimizer than the one that it spoke of
            return self.clear(rule.name, reading.step) if before != "ok" else None
        if value is None and before == "ok":
            return None
        level = "ok" if value is None else limits.level(value, before)
        if not at_once:
            level = self._calls[rule.name].confirmed(level, before)
        if level == "ok":
            if before == "ok":
                return None
            self._quiet[rule.name] = self._quiet.get(rule.name, 0) + 1
            enough = _CHECKS_UNKNOWN if value is None else rule.checks_to_clear
            return self.clear(rule.name, reading.step) if self._quiet[rule.name] >= enough else None
        self._quiet[rule.name] = 0
        return self.raise_(
            Alert(
                rule.name, level, reading.step, rule.panel, rule.metric, value, limits.threshold(level),
                rule.message(reading), rule.action, rule.reason(reading),
            )
        )  # fmt: skip

    def judge_rise(self, step: int, losses: LossWatch, *, reword: bool = False) -> Alert | None:
        """Compare the loss with its lowest; with `reword` an alert that stands says how it stands now."""
        limits, before = self.limits["loss_rise"], self.level("loss_rise")
        level = limits.level(losses.rise, before) if limits.enabled else "ok"
        if level == before and not (reword and before != "ok"):
            return None
        if level == "ok":
            return self.clear("loss_rise", step)
        return self.raise_(risen(step, level, losses, limits.threshold(level)))

    def judge_flow(self, reading: FlowReading) -> Alert | None:
        """Compare what becomes of a gradient over the depth with what is healthy."""
        limits, before = self.limits["signal_flow"], self.level("signal_flow")
        if reading.verdict == "unresolved":  # nothing could be told: what stood stands
            return None
        far = reading.severity if reading.verdict != "healthy" else 1.0
        level = limits.level(far, before) if limits.enabled else "ok"
        if level == "critical" and reading.depth_factor == 0.0:
            level = "warning"  # no matter of depth, but most often a start at a saddle, which has its rule
        if level == "ok":
            return self.clear("signal_flow", reading.step)
        return self.raise_(_flow_alert(reading, level, far, limits.threshold(level)))

    def level(self, name: str) -> str:
        return self.active[name].level if name in self.active else "ok"

    def raise_(self, alert: Alert) -> Alert | None:
        """Put an alert into force. Where its rule stands at that level already, reword it; None if nothing is new."""
        before = self.active.get(alert.rule)
        worst = self._worst.get(alert.rule) if before is not None else None
        if worst is None or (alert.value or 0.0) >= (worst.value or 0.0):
            self._worst[alert.rule] = alert
        if not self._advise and alert.rule in self.limits:
            alert = replace(alert, action="", reason="")
        if before is not None and before.level == alert.level:
            alert = replace(alert, step=before.step, reworded=True)
            if replace(before, reworded=True) == alert:
                return None
        self.active[alert.rule] = alert
        return alert

    def clear(self, name: str, step: int) -> Alert | None:
        """End a rule's alert; None if there is none."""
        last = self.active.pop(name, None)
        if last is None:
            return None
        message = f"over; at its worst: {self._worst.pop(name).message}"
        return Alert(name, "ok", step, last.panel, last.metric, None, last.threshold, message, "", "")

    def worst(self) -> Alert | None:
        """The alert to act on: the worst level, of those the cause, then the newest."""
        return max(self.active.values(), key=lambda a: (LEVELS.index(a.level), a.cause, a.step), default=None)


def _flow_alert(reading: FlowReading, level: str, far: float, threshold: float) -> Alert:
    """The gradient explodes or vanishes on its way back through the network; the layer is named."""
    message = f"the gradient is {reading.verdict} from layer {reading.layer_at_fault}: {reading.verdict_reason}"
    remedy = next(iter(reading.remedies), None)
    action = _FLOW_ACTIONS[remedy.name] if remedy else "LOOK AT THE LAYER"
    reason = f"{remedy.what}: {remedy.why}" if remedy else "no remedy is known for a block of its kind"
    value = min(far, 1e300)
    return Alert(
        "signal_flow", level, reading.step, "flow", "depth_factor", value, threshold, message, action, reason, cause=1
    )


def diverged(step: int, loss: float) -> Alert:
    """The training loss is not finite."""
    reason = "no step leads back from here: restart from the last good checkpoint with a smaller step size"
    return _system("diverged", step, "critical", f"the training loss is {loss}", "STOP & GO BACK", reason, cause=3)


def risen(step: int, level: str, losses: LossWatch, threshold: float) -> Alert:
    """The training loss has left its lowest level far below."""
    message = (
        f"the loss has risen to {figure(losses.average)}, at least {figure(losses.rise)} times its lowest, "
        f"{figure(losses.lowest)}"
    )
    action, reason = {
        "critical": (
            "STOP & GO BACK",
            "training has blown up, and a saturated network gets no gradient to come back by: restart from the last "
            "good checkpoint with a smaller step size",
        ),
        "warning": (
            "LOWER THE STEP SIZE",
            "the steps undo what training has won; a step size that is too large is the usual cause",
        ),
    }[level]
    return Alert("loss_rise", level, step, "loss", "loss", losses.rise, threshold, message, action, reason, cause=2)


def no_loss(step: int, given: str) -> Alert:
    """What was handed to `Monitor.step` as the loss is none."""
    reason = "it is neither recorded nor judged; a number or a tensor of one element is needed, such as loss.mean()"
    return _system("bad_loss", step, "warning", f"monitor.step was given {given} as the loss", "PASS THE LOSS", reason)


def check_failed(step: int, why: str) -> Alert:
    """A check could not be made."""
    message = f"the check at step {step} failed: {why}"
    reason = "training goes on; the next check tries again, after a while if several fail in a row"
    return _system("measurement_failed", step, "warning", message, "LOOK AT THE PROBE", reason)


def not_recorded(step: int, problem: str, dropped: int) -> Alert:
    """The run file can't be written."""
    message = f"{problem} ({counted(dropped, 'record')} dropped so far)" if dropped else problem
    reason = "training and measuring go on; what can't be written is counted and lost"
    return _system("run_file", step, "warning", message, "CHECK THE RUN'S DISK", reason)


def acting_ends(step: int, why: str) -> Alert:
    """Nothing is applied by itself any more."""
    return _system("acting", step, "warning", why, "", "")


def _system(rule: str, step: int, level: str, message: str, action: str, reason: str, cause: int = 0) -> Alert:
    return Alert(rule, level, step, "system", rule, None, None, message, action, reason, cause)

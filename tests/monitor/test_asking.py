"""Proposals and their answers; advice; policies that are refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import nn

import eigenscope as es
from eigenscope.errors import InputError
from monitor.acting_loop import LEARNING_RATE, Halve, Loop
from zoo.data import digits_batches


def test_a_proposal_waits_while_training_goes_on_and_is_applied_between_two_steps() -> None:
    loop = Loop(Halve(), act="ask")
    loop.steps(12)
    (record,) = loop.monitor.actions
    assert (record.key, record.state, record.step, loop.rate) == (1, "proposed", 5, LEARNING_RATE)
    loop.monitor.apply(1)
    assert loop.rate == LEARNING_RATE
    loop.train()
    assert (loop.rate, loop.states()) == (LEARNING_RATE / 2, [("halve", "applied")])
    assert loop.monitor.actions[0].applied_at == 13
    loop.steps(2)
    assert loop.states() == [("halve", "kept")]


def test_what_is_applied_at_a_check_is_judged_by_the_next_one() -> None:
    loop = Loop(Halve(), act="ask")
    loop.steps(9)
    loop.monitor.apply(1)
    loop.train()
    assert (loop.monitor.actions[0].applied_at, loop.states()) == (10, [("halve", "applied")])
    loop.steps(5)
    (record,) = loop.monitor.actions
    assert record.after is not None
    assert (record.state, record.step) == ("kept", 15)
    assert float(str(record.after["stability_ratio"])) < float(str((record.before or {})["stability_ratio"]))


def test_what_is_dismissed_does_not_come_again_while_its_alert_stands() -> None:
    loop = Loop(Halve(), act="ask")
    loop.steps(5)
    loop.monitor.dismiss(1)
    loop.steps(30)
    assert (loop.rate, loop.states()) == (LEARNING_RATE, [("halve", "dismissed")])


def test_a_proposal_whose_alert_is_over_is_withdrawn() -> None:
    loop = Loop(Halve(), act="ask")
    loop.steps(5)
    loop.monitor.alerts.limits["edge_of_stability"] = type(loop.monitor.alerts.limits["edge_of_stability"])(1e9, 1e9)
    loop.steps(5)
    (record,) = loop.monitor.actions
    assert (record.state, record.note) == ("dismissed", "no longer needed: the alert is over")


def test_what_can_not_be_applied_any_more_is_refused_with_the_reason() -> None:
    action = Halve()
    loop = Loop(action, act="ask")
    loop.steps(5)
    action.cannot = "the network is too far on"
    loop.monitor.apply(1)
    loop.train()
    (record,) = loop.monitor.actions
    assert (record.state, record.note, loop.rate) == ("refused", "the network is too far on", LEARNING_RATE)


@pytest.mark.parametrize("verb", ["apply", "dismiss"])
def test_an_answer_to_nothing_says_what_is_open(verb: str) -> None:
    loop = Loop(Halve(), act="ask")
    with pytest.raises(InputError, match="action 1 is not known: open are none"):
        getattr(loop.monitor, verb)(1)
    loop.steps(5)
    with pytest.raises(InputError, match="action 4 is not known: open are 1"):
        getattr(loop.monitor, verb)(4)
    loop.monitor.dismiss(1)
    loop.train()
    with pytest.raises(InputError, match="action 1 is dismissed already"):
        getattr(loop.monitor, verb)(1)


def test_asked_for_twice_it_is_applied_once() -> None:
    loop = Loop(Halve(), act="ask")
    loop.steps(5)
    loop.monitor.apply(1)
    loop.monitor.apply(1)
    loop.monitor.dismiss(1)
    loop.steps(3)
    assert (loop.rate, loop.states()) == (LEARNING_RATE / 2, [("halve", "applied")])


def test_the_log_says_how_a_proposal_is_answered(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    loop = Loop(Halve(), act="ask", run=tmp_path / "run")
    loop.steps(5)
    assert "step 5, action 1 proposed: HALVE THE STEP SIZE, because" in caplog.text
    assert "monitor.apply(1) or monitor.dismiss(1), its buttons in the dashboard" in caplog.text
    assert f"eigenscope actions {tmp_path / 'run.eigenscope'} --apply 1" in caplog.text
    loop.monitor.close()


def test_every_state_is_in_the_run_file(tmp_path: Path) -> None:
    loop = Loop(Halve(), act="ask", run=tmp_path / "run")
    loop.steps(5)
    loop.monitor.apply(1)
    loop.steps(5)
    loop.monitor.close()
    with es.load_run(tmp_path / "run") as run:
        (action,) = run.actions
        assert [entry["state"] for entry in action["log"]] == ["proposed", "applied", "kept"]
        assert [entry["step"] for entry in action["log"]] == [5, 6, 10]
        assert action["changed"] == {"lr": [[LEARNING_RATE, LEARNING_RATE / 2]]}
        assert run.config["act"] == "ask"


class Other(Halve):
    """Answers another alert, which stands too."""

    name = "other"
    rules: ClassVar[tuple[str, ...]] = ("stretched",)
    words = "DO SOMETHING ELSE"


BOTH = {"edge_of_stability": {"warning": 1e-6, "critical": 1e9}, "stretched": {"warning": 1e-6, "critical": 1e99}}


@pytest.fixture
def busy() -> Loop:
    """Proposal 1 is on trial, the other one waits."""
    loop = Loop(Halve(verdict=None), Other(), act="ask", rules=BOTH, every=5)
    loop.steps(5)
    assert loop.states() == [("halve", "proposed"), ("other", "proposed")]
    loop.monitor.apply(1)
    loop.steps(1)
    return loop


def test_a_proposal_is_dismissed_at_once_whatever_is_on_trial(busy: Loop) -> None:
    busy.monitor.dismiss(2)
    busy.steps(1)
    assert busy.states() == [("halve", "applied"), ("other", "dismissed")]
    assert busy.monitor.actions[1].step == 7


def test_what_is_to_be_applied_waits_for_a_trial_and_says_so(busy: Loop, caplog: pytest.LogCaptureFixture) -> None:
    busy.monitor.apply(2)
    busy.monitor.dismiss(2)  # the first answer counts
    busy.steps(1)
    assert "action 2 is to be applied once action 1 has been judged" in caplog.text
    busy.steps(3)
    assert busy.states() == [("halve", "applied"), ("other", "proposed")]
    halve = busy.monitor._policy().ledger.actions[1]
    assert isinstance(halve, Halve)
    halve.verdict = True
    busy.steps(5)
    assert busy.states() == [("halve", "kept"), ("other", "applied")]
    assert busy.monitor.actions[1].applied_at == 15


def test_what_is_on_trial_is_not_proposed_again(busy: Loop) -> None:
    busy.monitor.dismiss(2)
    busy.steps(35)
    assert busy.states() == [("halve", "applied"), ("other", "dismissed")]


def test_what_is_asked_for_is_not_withdrawn_with_its_alert(busy: Loop) -> None:
    busy.monitor.apply(2)
    busy.monitor.alerts.limits["stretched"] = replace(busy.monitor.alerts.limits["stretched"], warning=1e98)
    busy.steps(10)
    assert busy.monitor.alerts.level("stretched") == "ok"
    assert busy.states() == [("halve", "applied"), ("other", "proposed")]


def test_a_record_names_a_person_only_where_one_has_acted(busy: Loop) -> None:
    busy.monitor.dismiss(2)
    busy.steps(1)
    assert [record.by for record in busy.monitor.actions] == ["a person", "a person"]
    withdrawn = Loop(Halve(), act="ask")
    withdrawn.steps(5)
    assert withdrawn.monitor.actions[0].by == "nobody"
    withdrawn.monitor.alerts.limits["edge_of_stability"] = replace(
        withdrawn.monitor.alerts.limits["edge_of_stability"], warning=1e8
    )
    withdrawn.steps(5)
    assert [(r.state, r.by) for r in withdrawn.monitor.actions] == [("dismissed", "nobody")]
    stuck = Halve()
    stuck.cannot = "no room"
    refused = Loop(stuck, act="ask")
    refused.steps(5)
    assert [(r.state, r.by) for r in refused.monitor.actions] == [("refused", "nobody")]


# -- observe and advise ------------------------------------------------------------------------------------------------


def test_advice_is_what_an_alert_says_and_nothing_is_applied() -> None:
    for act in ("advise", "observe"):
        loop = Loop(act=act)
        loop.steps(10)
        alert = loop.monitor.alerts.active["edge_of_stability"]
        assert (alert.action == "LOWER THE STEP SIZE") is (act == "advise")
        assert bool(alert.reason) is (act == "advise")
        assert (loop.monitor.actions, loop.rate) == ([], LEARNING_RATE)
        with pytest.raises(InputError, match="this monitor applies no actions: use act='ask' or 'auto'"):
            loop.monitor.apply(1)


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"act": "observ"}, "act='observ' is no policy: did you mean 'observe'?"),
        ({"action_limit": -1}, "action_limit=-1: a whole number is needed, at least 0"),
        ({"cool_down": 1.5}, "cool_down=1.5: a whole number is needed"),
        ({"act": "auto", "actions": ["halv_it"]}, "there is no action 'halv_it'"),
        ({"act": "advise", "actions": ["control_step"]}, "actions are given, but act='advise' applies none"),
        ({"act": "ask"}, "act='ask' needs optimizer=: actions work on it, and an undo puts its state back"),
    ],
)
def test_bad_policies_are_told_in_one_line_before_training_starts(options: dict[str, Any], words: str) -> None:
    model, batch = nn.Linear(64, 10), digits_batches((16,))[0]
    with pytest.raises(InputError, match=words) as caught:
        es.Monitor(model, Loop.loss, batch, **options)
    assert "\n" not in str(caught.value)

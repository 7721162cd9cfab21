"""`eigenscope actions`: what was done to a run, and the answer to a proposal from any terminal."""

import json

import pytest

from eigenscope.runs import RunWriter
from runs.sample_actions import sample_action


@pytest.fixture
def writer(tmp_path):
    writer = RunWriter(tmp_path / "first")
    for key, state in enumerate(("kept", "undone", "proposed"), 1):
        writer.action(100, sample_action(state, key))
    assert writer.flush()
    yield writer
    writer.close()


def test_each_action_is_listed_with_cause_outcome_and_both_sides(eigenscope, writer):
    out = " ".join(eigenscope("actions", "first").out.split())
    assert "kept LOWER THE STEP SIZE action 1: it helped: the stability ratio is under 1" in out
    assert "undone LOWER THE STEP SIZE action 2: it did not help; the loss rose from 0.42 to 1.3" in out
    assert "because 1.6× the stability threshold of SGD (step 100)" in out
    assert "λ over the stability threshold: 1.6 → 0.8" in out
    assert "proposed LOWER THE STEP SIZE action 3" in out


def test_as_json_for_machines(eigenscope, writer):
    told = json.loads(eigenscope("actions", "first", "--json").out)
    assert [action["state"] for action in told["actions"]] == ["kept", "undone", "proposed"]


@pytest.mark.parametrize(("verb", "done"), [("apply", "applied"), ("dismiss", "dismissed")])
def test_a_proposal_is_answered_once(eigenscope, writer, verb, done):
    requests = writer.await_requests([3])
    assert eigenscope("actions", "first", f"--{verb}", 3).out == f"action 3 is to be {done} at the next step\n"
    assert f"to be {done} at the next step" in " ".join(eigenscope("actions", "first").out.split())
    line = eigenscope("actions", "first", "--apply", 3).complaint
    assert line == f"eigenscope: action 3 was answered already: it is to be {done}"
    while not requests:
        writer.flush()
    assert list(requests) == [(3, verb)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("first", "--apply", 9), "the run 'first' has no action 9"),
        (("first", "--apply", 1), "action 1 is kept already"),
        (("second",), "there is no run second: name a file that ends in .eigenscope"),
        (("first", "--apply", 1, "--dismiss", 1), "not allowed with argument"),
    ],
)
def test_what_can_not_be_done_is_one_line(eigenscope, writer, options, words):
    assert words in eigenscope("actions", *options).complaint


def test_a_run_without_actions_says_so(eigenscope, tmp_path):
    RunWriter(tmp_path / "plain").close()
    assert eigenscope("actions", "plain").out == "no action was proposed in this run\n"


def test_apply_waits_while_another_action_is_on_trial_and_dismiss_does_not(eigenscope, writer):
    writer.action(100, sample_action("applied", 4))
    writer.action(100, sample_action("proposed", 5))
    assert writer.flush()
    assert eigenscope("actions", "first", "--apply", 3).out == (
        "action 3 is to be applied once action 4 has been judged\n"
    )
    assert eigenscope("actions", "first", "--dismiss", 5).out == "action 5 is to be dismissed at the next step\n"
    listed = " ".join(eigenscope("actions", "first").out.split())
    assert "to be applied once action 4 has been judged" in listed
    assert "to be dismissed at the next step" in listed

"""Actions by name, and one of a user's own."""

import pytest

import eigenscope as es
from eigenscope.actions import ACTIONS, Action, answering, chosen, register
from eigenscope.monitor.rules import DEFAULTS


@pytest.fixture
def registry():
    before = dict(ACTIONS)
    yield
    ACTIONS.clear()
    ACTIONS.update(before)


def test_every_action_of_the_issue_is_there_under_its_name():
    assert set(ACTIONS) == {
        "control_step", "escape_saddle", "switch_optimizer", "curvature_scaled_step", "sharpness_aware",
        "spectral_normalize", "rescale", "clip_gradients", "reinitialize",
    }  # fmt: skip


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_an_action_says_what_it_does_and_what_it_is_judged_by(action):
    assert action.words.isupper()
    assert len(action.criterion.split()) > 4
    assert set(action.rules) <= set(DEFAULTS)
    assert action.__doc__
    assert action().name == action.name


@pytest.mark.parametrize(
    "rule", ["edge_of_stability", "adaptive_edge", "ill_conditioned", "stretched", "saddle", "signal_flow"]
)
def test_every_rule_of_a_reading_has_an_answer(rule):
    assert answering(rule, chosen())


def test_a_users_own_is_found_by_name(registry):
    @register
    class Shrink(Action):
        """Half the weights."""

        name, words, criterion = "shrink", "SHRINK", "never"

        def apply(self, now):
            return {}

    assert isinstance(chosen(["shrink"])[0], Shrink)
    assert es.actions.ACTIONS["shrink"] is Shrink


def test_an_action_without_a_name_is_refused():
    with pytest.raises(es.InputError, match="Nameless needs name = "):

        @register
        class Nameless(Action):
            """Nothing."""


@pytest.mark.parametrize(("given", "message"), [
    (["control_stop"], "no action 'control_stop': did you mean 'control_step'"),
    ([3], "a name or an Action, not a int"),
    (["rescale", es.actions.Rescale()], "'rescale' is given twice"),
])  # fmt: skip
def test_what_is_no_action_is_told(given, message):
    with pytest.raises(es.InputError, match=message):
        chosen(given)


def test_names_classes_and_objects_are_all_accepted():
    mine = es.actions.ControlStep(target=0.5)
    found = chosen(["rescale", es.actions.EscapeSaddle, mine])
    assert [action.name for action in found] == ["rescale", "escape_saddle", "control_step"]
    assert found[2] is mine
    assert len(chosen("rescale")) == 1

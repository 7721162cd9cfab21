"""Plurals, and what was probably meant."""

import pytest

from eigenscope.words import counted, did_you_mean


@pytest.mark.parametrize(("number", "words"), [(0, "0 steps"), (1, "1 step"), (2410, "2,410 steps")])
def test_a_noun_stands_in_its_number(number: int, words: str) -> None:
    assert counted(number, "step") == words


def test_a_near_name_is_offered_or_all_there_are() -> None:
    assert did_you_mean("warnin", {"warning", "critical"}) == ": did you mean 'warning'?"
    assert did_you_mean("colour", {"warning", "critical"}) == ": there are critical, warning"

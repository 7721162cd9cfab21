"""Numbers as people read them."""

import math

import pytest

from eigenscope.reports.numbers import number, sparkline


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (None, None, "—"),
        (0.0, None, "0"),
        (7.0, None, "7"),
        (2.13549, None, "2.135"),
        (20513.7, None, "20,510"),
        (1234567.0, None, "1.235e+06"),
        (-0.000012345, None, "-1.234e-05"),
        (math.inf, None, "inf"),
        (math.nan, None, "nan"),
    ],
)
def test_without_an_error_four_digits(value, spread, text):
    assert number(value, spread) == text


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (205.2, 41.0, "210 ± 40"),
        (1064.0, 800.0, "1,100 ± 800"),
        (-0.09637, 0.003, "-0.096 ± 0.003"),
        (0.3, 0.0004, "0.3000 ± 0.0004"),
        (11904.0, 1100.0, "12,000 ± 1,000"),
        (1.6263, 8e-8, "1.626 ± 8e-08"),
        (0.0, 100.0, "0 ± 100"),
        (12.0, 0.0, "12 ± 0"),
        (12.0, math.inf, "12 ± inf"),
    ],
)
def test_with_an_error_as_many_digits_as_it_leaves(value, spread, text):
    assert number(value, spread) == text


def test_a_sparkline_shows_the_course():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 7, 7], 2) == "▁█"
    assert sparkline([3, 3], 10) == "▁▁"


def test_a_wide_positive_range_is_drawn_on_a_log_axis():
    assert sparkline([1, 10, 100, 1000, 1e4, 1e5, 1e6, 1e7], 8) == "▁▂▃▄▅▆▇█"


def test_a_change_that_means_nothing_is_drawn_flat():
    assert sparkline([0.2411, 0.24115, 0.2411], 3) == "▁▁▁"


def test_what_is_not_finite_is_marked_and_hides_nothing_else():
    assert sparkline([0, math.nan, 7, math.inf], 4) == "▁×█×"
    assert sparkline([math.nan], 4) == "×"
    assert sparkline([], 4) == ""

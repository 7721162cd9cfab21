"""A million points in a thousand, and no outlier hidden."""

import math

import numpy as np
import pytest

from eigenscope.errors import InputError
from eigenscope.runs import RunWriter, load_run
from eigenscope.runs.decimation import extremes

STEPS = 100_000


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """100,000 values of noise with one spike, one dip and one NaN, and an error on each."""
    values = np.random.default_rng(0).normal(size=STEPS)
    values[[12_345, 54_321, 77_777]] = 100.0, -100.0, math.nan
    writer = RunWriter(tmp_path_factory.mktemp("runs") / "long")
    for step, value in enumerate(values.tolist()):
        writer.scalar("loss", step, value, step / STEPS)
    writer.close()
    assert writer.dropped == 0
    with load_run(writer.path) as run:
        yield run, values


@pytest.mark.parametrize("points", [50, 1000, 20_000])
def test_no_outlier_is_hidden(long_run, points):
    run, _ = long_run
    series = run.decimated("loss", points=points)
    assert {12_345, 54_321, 77_777, 0, STEPS - 1} <= set(series.steps.tolist())
    assert len(series) <= points + 3
    assert np.nanmax(series.values) == 100.0
    assert np.nanmin(series.values) == -100.0


@pytest.mark.parametrize("points", [50, 1000, 20_000])
def test_every_point_is_a_real_one_with_its_error(long_run, points):
    run, values = long_run
    series = run.decimated("loss", points=points)
    assert (np.diff(series.steps) > 0).all()
    np.testing.assert_array_equal(series.values, values[series.steps])
    np.testing.assert_array_equal(series.errors, series.steps / STEPS)


def test_summaries_and_rows_give_the_same_picture(long_run):
    """50 points come from the blocks; the rows themselves have the same extremes a bucket."""
    run, values = long_run
    chosen = extremes(np.arange(STEPS), values, 25)
    np.testing.assert_array_equal(run.decimated("loss", points=50).steps, chosen)


def test_a_small_window_comes_whole(long_run):
    run, values = long_run
    series = run.decimated("loss", first=12_300, last=12_399, points=1000)
    np.testing.assert_array_equal(series.steps, np.arange(12_300, 12_400))
    np.testing.assert_array_equal(series.values, values[12_300:12_400])


@pytest.mark.parametrize(("first", "last"), [(12_345, 99_000), (1_000, 54_321), (63, 64_129), (-5, 10**9)])
def test_a_window_ends_where_it_was_asked_to(long_run, first, last):
    run, values = long_run
    series = run.decimated("loss", first=first, last=last, points=100)
    window = values[max(first, 0) : last + 1]
    assert series.steps[0] == max(first, 0)
    assert series.steps[-1] == min(last, STEPS - 1)
    assert np.nanmax(series.values) == np.nanmax(window)
    assert np.nanmin(series.values) == np.nanmin(window)


def test_a_window_beyond_the_run_is_empty(long_run):
    run, _ = long_run
    assert len(run.decimated("loss", first=STEPS)) == 0
    assert repr(run.decimated("loss", last=-1)) == "Series('loss', empty)"


def test_a_series_of_nothing_but_nan_stays_visible():
    steps = np.arange(1000)
    np.testing.assert_array_equal(extremes(steps, np.full(1000, math.nan), 10), np.append(np.arange(0, 1000, 100), 999))
    assert len(extremes(np.zeros(0, dtype=np.int64), np.zeros(0), 10)) == 0


def test_sparse_steps_are_decimated_by_their_place_not_their_count(tmp_path):
    """Dense at the start, sparse at the end: the end keeps its points."""
    writer = RunWriter(tmp_path / "sparse")
    steps = [*range(50_000), *range(50_000, 1_000_000, 10_000)]
    for step in steps:
        writer.scalar("loss", step, math.sin(step))
    writer.close()
    with load_run(writer.path) as run:
        assert (run.decimated("loss", points=200).steps > 50_000).sum() > 90


def test_a_value_that_is_replaced_leaves_the_summary(tmp_path):
    writer = RunWriter(tmp_path / "replaced")
    writer.scalars(5, {"loss": 1000.0})
    for step in range(10_000):
        writer.scalar("loss", step, 0.5)
    writer.close()
    with load_run(writer.path) as run:
        assert run.query("SELECT max(high) FROM blocks") == [(0.5,)]
        assert run.query("SELECT sum(count) FROM blocks") == [(10_000,)]


def test_fewer_than_two_points_is_refused(long_run):
    run, _ = long_run
    with pytest.raises(InputError, match="points is 1, and must be at least 2"):
        run.decimated("loss", points=1)

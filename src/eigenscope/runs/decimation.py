"""A long series in few points, with no outlier hidden: the lowest and the highest value of every bucket."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from eigenscope.runs.schema import BLOCK_STEPS
from eigenscope.runs.series import Series

Query = Callable[[str, Sequence[object]], list[Any]]

ROWS = "SELECT step, value, error FROM scalars WHERE metric = ? AND step BETWEEN ? AND ? ORDER BY step"
_BLOCKS = """SELECT low_step, low, high_step, high, nan_step FROM blocks
             WHERE metric = ? AND block BETWEEN ? AND ? ORDER BY block"""
_CHUNK = 10_000


def extremes(
    steps: Int64[np.ndarray, " n"], values: Float64[np.ndarray, " n"], buckets: int
) -> Int64[np.ndarray, " m"]:
    """Indices, in order, of the lowest, the highest and the first NaN of each bucket, and of both ends.

    The buckets divide the range of steps evenly; at most 3 · buckets + 2 indices come back.
    """
    if not len(steps):
        return np.zeros(0, dtype=np.int64)
    bucket = ((steps - steps[0]) / (steps[-1] - steps[0] + 1) * buckets).astype(np.int64)
    order = np.lexsort((values, bucket))  # NaN comes last in its bucket
    numbers, missing = order[~np.isnan(values[order])], order[np.isnan(values[order])]

    def first_of_each_bucket(indices: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " j"]:
        return indices[np.unique(bucket[indices], return_index=True)[1]]

    kept = map(first_of_each_bucket, (numbers, numbers[::-1], missing))
    return np.unique(np.concatenate([*kept, [0, len(steps) - 1]]))


def decimate(query: Query, metric: int, name: str, first: int, last: int, points: int) -> Series:
    """The rows of `metric` from step `first` to `last`: all, or about `points` that keep every extreme."""
    blocks = (first // BLOCK_STEPS, last // BLOCK_STEPS)
    span = "FROM blocks WHERE metric = ? AND block BETWEEN ? AND ?"
    count = query(f"SELECT coalesce(sum(count), 0) {span}", (metric, *blocks))[0][0]
    buckets = max(1, points // 2)
    if count <= buckets * BLOCK_STEPS:  # the blocks are wider than the buckets: only the rows tell enough
        series = Series.from_rows(name, query(ROWS, (metric, first, last)))
        if len(series) <= points:
            return series
        chosen = extremes(series.steps, series.values, buckets)
        return Series(name, series.steps[chosen], series.values[chosen], series.errors[chosen])
    steps, values = _candidates(query, metric, first, last)
    chosen_steps = steps[extremes(steps, values, buckets)]
    return Series.from_rows(name, _rows_at(query, metric, chosen_steps.tolist()))


def _candidates(
    query: Query, metric: int, first: int, last: int
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """The extremes of the whole blocks in the window, and every row of the two blocks at its ends."""
    head, tail = first // BLOCK_STEPS, last // BLOCK_STEPS
    ends = [
        *query(ROWS, (metric, first, min(last, (head + 1) * BLOCK_STEPS - 1))),
        *query(ROWS, (metric, max(first, tail * BLOCK_STEPS), last)),
    ]
    pairs = [(step, value) for step, value, _ in ends]
    for low_step, low, high_step, high, nan_step in query(_BLOCKS, (metric, head + 1, tail - 1)):
        pairs += [(low_step, low), (high_step, high), (nan_step, None)]
    found = dict(pair for pair in pairs if pair[0] is not None)
    steps = np.array(sorted(found), dtype=np.int64)
    return steps, np.array([found[step] for step in steps.tolist()], dtype=float)


def _rows_at(query: Query, metric: int, steps: list[int]) -> list[Any]:
    rows: list[Any] = []
    for start in range(0, len(steps), _CHUNK):
        chunk = steps[start : start + _CHUNK]
        marks = ", ".join("?" * len(chunk))
        sql = f"SELECT step, value, error FROM scalars WHERE metric = ? AND step IN ({marks}) ORDER BY step"
        rows += query(sql, (metric, *chunk))
    return rows

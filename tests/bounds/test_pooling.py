"""Pooling against its dense twin (averages) and against the steepest change there is (maxima)."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from eigenscope.bounds import pooling


def _twin(function, size: int) -> float:
    unit = torch.eye(size * size, dtype=torch.float64).view(-1, 1, size, size)
    return float(torch.linalg.svdvals(function(unit).flatten(1))[0])


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "ceil_mode", "include", "divisor"),
    [
        case
        for case in itertools.product((2, 3), (1, 2, 3), (0, 1), (False, True), (False, True), (None, 5))
        if case[2] <= case[0] // 2
    ],
)
def test_average_pooling_is_exact(kernel, stride, padding, ceil_mode, include, divisor) -> None:
    norm = pooling.average_pool((7, 7), *[(n, n) for n in (kernel, stride, padding)], ceil_mode, include, divisor)
    true = _twin(lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil_mode, include, divisor), 7)
    assert norm.exact
    assert norm.value == pytest.approx(true, rel=1e-7)


@pytest.mark.parametrize("out", [1, 2, 3, 5, 7])
def test_adaptive_average_pooling_is_exact(out: int) -> None:
    true = _twin(lambda x: F.adaptive_avg_pool2d(x, out), 7)
    assert pooling.adaptive_average_pool((7, 7), (out, out)).value == pytest.approx(true, rel=1e-7)


def _steepest(function, size: int) -> float:
    """From zero, one entry raised: it is the largest of every window that it is in. √(how many)."""
    unit = torch.eye(size * size).view(-1, 1, size, size)
    return float(function(unit).flatten(1).norm(dim=1).max())


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"), [(2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 1), (2, 1, 0, 2), (3, 2, 1, 2)]
)
def test_max_pooling_counts_the_windows_that_share_an_entry(kernel, stride, padding, dilation) -> None:
    norm = pooling.max_pool((7, 7), *[(n, n) for n in (kernel, stride, padding, dilation)], False)
    assert norm.value == pytest.approx(_steepest(lambda x: F.max_pool2d(x, kernel, stride, padding, dilation), 7))


@pytest.mark.parametrize("out", [1, 2, 3, 5, 7])
def test_adaptive_max_pooling_counts_them_too(out: int) -> None:
    norm = pooling.adaptive_max_pool((7, 7), (out, out))
    assert norm.value == pytest.approx(_steepest(lambda x: F.adaptive_max_pool2d(x, out), 7))

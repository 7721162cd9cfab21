"""Singular values through the Gram matrix, against SVDs and prescribed spectra, within their own error."""

import numpy as np
import pytest
import torch

from eigenscope.estimators.gram import singular_spectrum


def prescribed(kappa: float, rows: int = 60, columns: int = 90, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """A matrix whose singular values fall evenly on a log axis from 1 to 1/κ."""
    generator = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, rows, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(columns, rows, generator=generator, dtype=torch.float64))
    sigma = torch.logspace(0, -np.log10(kappa), rows, dtype=torch.float64)
    return (left * sigma) @ right.T, sigma.numpy()


@pytest.mark.parametrize("kappa", [10, 1e3, 1e5, 1e6, 1e7])
def test_condition_numbers_are_right_to_a_thousandth(kappa):
    matrix, _ = prescribed(kappa)
    found = singular_spectrum(matrix).singular_values
    assert found[0] / found[-1] == pytest.approx(kappa, rel=1e-3)


@pytest.mark.parametrize("kappa", [10, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("floor", [0.0, np.inf])
def test_every_value_lies_within_its_error(kappa, floor):
    for seed in range(5):
        matrix, sigma = prescribed(kappa, seed=seed)
        found = singular_spectrum(matrix, floor=floor)
        for index, true in enumerate(sigma):
            assert abs(found.singular_values[index] - true) <= found.error_of(index) + 1e-14


def test_the_svd_is_taken_only_where_it_must_be():
    assert singular_spectrum(prescribed(1e3)[0]).method == "gram"
    assert singular_spectrum(prescribed(1e7)[0]).method == "svd"


@pytest.mark.parametrize("shape", [(5, 300), (300, 5), (40, 40), (1, 7)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_any_shape_and_type_gives_the_values_of_numpy(shape, dtype):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    np.testing.assert_allclose(singular_spectrum(matrix).singular_values, expected, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_scale_neither_overflows_nor_underflows(scale):
    matrix = torch.randn(20, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain, scaled = (singular_spectrum(m).singular_values for m in (matrix, scale * matrix))
    np.testing.assert_allclose(scaled, scale * plain, rtol=1e-9)


def test_blocks_change_nothing(monkeypatch):
    matrix = torch.randn(50, 4000, generator=torch.Generator().manual_seed(0))
    whole = singular_spectrum(matrix).singular_values
    monkeypatch.setattr("eigenscope.estimators.gram._BLOCK", 1000)
    np.testing.assert_allclose(singular_spectrum(matrix).singular_values, whole, rtol=1e-12)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (12, 10), (300, 9)])
@pytest.mark.parametrize("rank", [3, 100])
def test_the_matrix_is_left_as_it_was(shape, rank):
    """By the Gram matrix, by an SVD, by an SVD of a triangle; of double precision, which needs no conversion."""
    low = torch.randn(shape[0], rank, dtype=torch.float64), torch.randn(rank, shape[1], dtype=torch.float64)
    matrix = low[0] @ low[1]
    before = matrix.clone()
    singular_spectrum(matrix)
    singular_spectrum(matrix.T)
    assert torch.equal(matrix, before)


def test_a_zero_matrix_has_zero_values():
    assert not singular_spectrum(torch.zeros(3, 4)).singular_values.any()


def test_zeros_are_told_apart_from_small_values_unless_they_need_not_be():
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(200, 8, generator=generator) @ torch.randn(8, 300, generator=generator)
    exact, enough = singular_spectrum(low), singular_spectrum(low, floor=1e-6)
    assert (exact.method, enough.method) == ("svd", "gram")
    for found in (exact, enough):
        assert (found.singular_values > max(found.error_of(199), 1e-3)).sum() == 8


@pytest.mark.parametrize("shape", [(100, 5000), (64, 64)])
def test_a_few_small_values_together_are_found(shape):
    """κ = 10⁷ with five values at the end: for the Gram matrix alone they are zeros."""
    generator = torch.Generator().manual_seed(1)
    left, right = (
        torch.linalg.qr(torch.randn(n, shape[0], generator=generator, dtype=torch.float64))[0] for n in shape
    )
    sigma = torch.ones(shape[0], dtype=torch.float64)
    sigma[-5:] = 1e-7
    found = singular_spectrum((left * sigma) @ right.T).singular_values
    np.testing.assert_allclose(found, sigma.numpy(), rtol=1e-3)

"""Largest singular values and eigenvalues: proven from above, and not above by more than rounding."""

import pytest
import torch
from torch import Tensor

from eigenscope.bounds.norms import ROUNDING, dense_norm, has_larger_eigenvalue, largest_eigenvalue, rayleigh


def _random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (1, 7), (7, 1), (40, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_dense_norm_is_the_largest_singular_value(shape: tuple[int, int], dtype: torch.dtype) -> None:
    weight = _random(*shape).to(dtype)
    norm = dense_norm(weight)
    true = float(torch.linalg.svdvals(weight.double())[0])  # by SVD, not by a Gram matrix
    assert norm.exact
    assert true <= norm.value <= true * (1 + 3 * ROUNDING)


def test_the_largest_of_many_is_found_among_near_ties() -> None:
    base = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)).expand(200, -1, -1).clone()
    base[137, 2, 2] += 1e-6
    assert largest_eigenvalue(base) == pytest.approx(3 + 1e-6, abs=1e-9)


def test_hermitian_matrices_have_real_largest_eigenvalues() -> None:
    a = torch.complex(_random(30, 6, 6), _random(30, 6, 6, seed=1))
    gram = a @ a.mH
    assert largest_eigenvalue(gram) == pytest.approx(float(torch.linalg.eigvalsh(gram).max()), rel=1e-7)


def test_a_floor_that_nothing_exceeds_is_returned() -> None:
    assert largest_eigenvalue(torch.eye(4, dtype=torch.float64), floor=2.0) == 2.0


def test_a_factorization_proves_and_refuses() -> None:
    matrix = torch.diag(torch.tensor([1.0, 5.0], dtype=torch.float64))
    assert not has_larger_eigenvalue(matrix, 5.0001)
    assert has_larger_eigenvalue(matrix, 4.9999)


def test_rayleigh_quotients_are_never_above_the_largest_eigenvalue() -> None:
    a = _random(50, 8, 8)
    gram = a @ a.mT
    assert bool((rayleigh(gram) <= torch.linalg.eigvalsh(gram)[:, -1] * (1 + 1e-12)).all())

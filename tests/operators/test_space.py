"""Vectors: sums in fp64 whatever the storage, bases that stay orthonormal, blocks that don't change the result."""

import pytest
import torch

from comparer import random_block
from eigenscope.operators import Basis, VectorSpace
from eigenscope.operators import space as module

CPU = torch.device("cpu")


def filled(rows: int, n: int, memory_limit: float = float("inf")) -> Basis:
    """An orthonormal basis of `rows` random vectors."""
    space = VectorSpace(n, CPU)
    basis = space.basis(rows, memory_limit)
    for v in random_block(n, rows).unbind(1):
        rest, _ = basis.orthogonalize(v)
        basis.append(rest / space.norm(rest))
    return basis


def test_inner_products_and_norms_add_in_double() -> None:
    """10⁸ and 10⁶ times 1 in fp32: added in fp32, the small ones change nothing after 2²⁴."""
    v = torch.cat([torch.full((1,), 1e4), torch.ones(1 << 20)])
    space = VectorSpace(len(v), CPU)
    assert space.dot(v, v) == 1e8 + (1 << 20)
    assert space.norm(v) == pytest.approx((1e8 + (1 << 20)) ** 0.5, rel=1e-15)


def test_random_vectors_are_of_length_1_and_reproducible() -> None:
    space = VectorSpace(1000, CPU)
    first, again, other = (space.random(space.generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert abs(space.dot(first, other)) < 0.2  # 1/√n is 0.03
    assert space.norm(first) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(("memory_limit", "dtype", "accuracy"), [(1e9, torch.float64, 1e-14), (1, torch.float32, 1e-6)])
def test_a_basis_takes_the_type_that_fits_and_stays_orthonormal(
    memory_limit: float, dtype: torch.dtype, accuracy: float
) -> None:
    basis = filled(20, 100, memory_limit)
    rows = torch.stack([basis[i] for i in range(20)])
    assert basis.nbytes == 20 * 100 * dtype.itemsize
    assert (rows @ rows.T - torch.eye(20)).abs().max() < accuracy


@pytest.mark.parametrize("memory_limit", [1e9, 1])
def test_a_basis_computes_in_blocks_what_it_computes_at_once(
    memory_limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    basis, v, c = filled(6, 100, memory_limit), random_block(100, 1)[:, 0], random_block(3, 6)
    rows = torch.stack([basis[i] for i in range(6)])
    monkeypatch.setattr(module, "_COLUMNS", 7)
    torch.testing.assert_close(basis.project(v), rows @ v)
    torch.testing.assert_close(basis.combine(c), c @ rows)
    basis.replace(c)
    assert basis.count == 3
    torch.testing.assert_close(torch.stack([basis[i] for i in range(3)]), c @ rows, atol=1e-6, rtol=1e-6)


def test_what_was_taken_out_and_the_rest_make_up_the_vector() -> None:
    basis, v = filled(30, 50), random_block(50, 1, seed=1)[:, 0]
    rest, coefficients = basis.orthogonalize(v)
    torch.testing.assert_close(rest + basis.combine(coefficients), v)
    assert basis.project(rest).abs().max() < 1e-15 * 10


def test_a_vector_within_the_span_leaves_a_rest_that_is_orthogonal_all_the_same() -> None:
    """Of it only rounding is left, and a single pass of Gram–Schmidt would leave that within the span."""
    basis = filled(30, 50)
    v = basis.combine(random_block(1, 30))[0]
    rest, _ = basis.orthogonalize(v)
    assert rest.norm() < 1e-14 * v.norm()
    assert basis.project(rest).abs().max() < 1e-15

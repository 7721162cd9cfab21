"""The one way in which tests compare an operator with its dense twin."""

import torch
from jaxtyping import Float64
from torch import Tensor

from eigenscope.operators import Operator


def random_block(n: int, columns: int = 4, seed: int = 0) -> Float64[Tensor, "n k"]:
    return torch.randn(n, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def relative(difference: Tensor, reference: Tensor) -> float:
    return float(difference.norm() / reference.norm())


def assert_operator_is(operator: Operator, dense: Float64[Tensor, "n n"], *, rtol: float) -> None:
    """Products with vectors and blocks are those of `dense` to `rtol`, symmetric, and each vector is counted."""
    block = random_block(len(dense))
    expected, before = dense @ block, operator.num_matvecs
    assert operator.shape == tuple(dense.shape)

    product = operator @ block
    assert relative(product - expected, expected) < rtol
    assert product.dtype is block.dtype
    assert not product.requires_grad
    assert operator.num_matvecs - before == 4

    columns = torch.stack([operator @ v for v in block.unbind(1)], 1)
    assert relative(product - columns, columns) < 1e-12
    assert operator.num_matvecs - before == 8

    forms = block.T @ product
    assert relative(forms - forms.T, forms) < 2 * rtol

"""The whole singular value distribution of a small block, sample by sample."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.operators.jacobian import Jacobian

_LARGEST = 512  # products: the smaller side of one sample's Jacobian


def sample_jacobians(jacobian: Jacobian, generator: torch.Generator) -> Float[Tensor, "b m n"] | None:
    """Every sample's own Jacobian; None where that is too large, or where samples influence each other.

    Samples lie along the first axis. One product serves the same coordinate of all samples; whether they are
    independent is then checked against a product with a random vector.
    """
    batch = jacobian.input.shape[0] if jacobian.input.shape else 1
    if not jacobian.output.shape or jacobian.output.shape[0] != batch or not batch:
        return None
    rows, columns = jacobian.output.size // batch, jacobian.input.size // batch
    if min(rows, columns) > _LARGEST:
        return None
    by_rows, side = rows <= columns, min(rows, columns)
    parts = []
    for coordinate in range(side):
        unit = torch.zeros(batch, side, dtype=torch.float64, device=jacobian.input.device)
        unit[:, coordinate] = 1.0
        product = jacobian.pull(unit.flatten()) if by_rows else jacobian.push(unit.flatten())
        parts.append(product.view(batch, -1))
    dense = torch.stack(parts, 1 if by_rows else 2)
    v = torch.randn(batch, columns, generator=generator, dtype=torch.float64, device=dense.device)
    image = jacobian.push(v.flatten()).view(batch, rows)
    difference = torch.linalg.vector_norm(image - (dense @ v.unsqueeze(-1)).squeeze(-1))
    return dense if float(difference) <= 1e-3 * float(torch.linalg.vector_norm(image)) else None

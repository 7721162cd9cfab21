"""The Jacobian of one part of a network, known by its products with vectors from both sides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from eigenscope.errors import InputError, MeasurementError
from eigenscope.operators.base import Operator
from eigenscope.operators.graph import differentiable_from
from eigenscope.operators.space import VectorSpace


@dataclass(frozen=True)
class Place:
    """A tensor's place in an autograd graph, without its values: it stays right when the tensor is changed in place."""

    edge: GradientEdge
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    later: Tensor | None = None  # a 0 whose node comes later in the graph than this place

    @classmethod
    def of(cls, tensor: Tensor) -> Place:
        with torch.enable_grad():
            later: Tensor = _Later.apply(tensor)  # type: ignore[no-untyped-call]
        return cls(get_gradient_edge(tensor), tuple(tensor.shape), tensor.dtype, tensor.device, later)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def tensor(self, flat: Float[Tensor, " n"]) -> Tensor:
        """A flat vector in this place's shape and type."""
        return flat.view(self.shape).to(self.dtype)


class _Later(torch.autograd.Function):
    """0, behind a tensor in the graph."""

    @staticmethod
    def forward(_context: Any, tensor: Tensor) -> Tensor:
        return tensor.new_zeros(())

    @staticmethod
    def backward(_context: Any, *_gradients: Tensor) -> None:
        return None


class Jacobian:
    """J = ∂output/∂input along the graph between two places, m × n. Everything in between that is not on a path from
    input to output counts as constant.

    `pull` is one backward pass over that part of the graph. `push` differentiates Jᵀu, which is linear in u, so that
    no forward-mode rule is used (several are wrong or missing in torch 2.13).
    """

    def __init__(self, output: Place, input: Place) -> None:
        if not differentiable_from(output.edge, input.edge):
            raise InputError("the output does not depend on the input")
        self.output, self.input = output, input
        self.num_matvecs = 0
        self._dual: Tensor | None = None
        self._pulled: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.output.size, self.input.size

    def pull(self, u: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
        """Jᵀu."""
        self.num_matvecs += 1
        (product,) = torch.autograd.grad(
            (self.output.edge,), (self.input.edge,), (self.output.tensor(u),), retain_graph=True
        )
        return product.detach().reshape(-1).to(u.dtype)

    def push(self, v: Float[Tensor, " n"]) -> Float[Tensor, " m"]:
        """Jv."""
        self.num_matvecs += 1
        dual, pulled = self._transposed()
        if not pulled.requires_grad:
            return v.new_zeros(self.output.size)
        (product,) = torch.autograd.grad(pulled, dual, self.input.tensor(v), retain_graph=True, allow_unused=True)
        if product is None:
            raise MeasurementError("an operation in it can't be differentiated twice (once_differentiable)")
        return product.detach().reshape(-1).to(v.dtype)

    def _transposed(self) -> tuple[Tensor, Tensor]:
        """A variable u, and Jᵀu as a graph in it."""
        if self._dual is None or self._pulled is None:
            out = self.output
            if out.later is None:
                self._dual = torch.zeros(out.shape, dtype=out.dtype, device=out.device, requires_grad=True)
            else:  # a leaf would let each product search the whole network before the output: autograd stops at its age
                self._dual = out.later.expand(out.shape)
            (self._pulled,) = torch.autograd.grad((out.edge,), (self.input.edge,), (self._dual,), create_graph=True)
        return self._dual, self._pulled


class GramOperator(Operator):
    """BᵀB for B = J, or J − I with `minus_identity`: its eigenvalues are the squared singular values of B."""

    method = "jacobian_products"

    def __init__(self, jacobian: Jacobian, *, minus_identity: bool = False) -> None:
        rows, columns = jacobian.shape
        if minus_identity and rows != columns:
            raise InputError(f"the identity can't be taken from a Jacobian of {rows} × {columns}")
        self.jacobian, self.minus_identity = jacobian, minus_identity
        self.space = VectorSpace(columns, jacobian.input.device)

    def _matvec(self, v: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        image = self.jacobian.push(v)
        if not self.minus_identity:
            return self.jacobian.pull(image)
        image = image - v
        return self.jacobian.pull(image) - image

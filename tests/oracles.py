"""Independent oracles: exact dense matrices of a small model, in fp64, written as plainly as can be.

Nothing here uses eigenscope. The Hessian comes from reverse over reverse, one row at a time; the Gauss-Newton
matrix from an explicit Jacobian; the finite difference from gradients alone. All work on an fp64 copy of the
model in evaluation mode and leave the model as it was.
"""

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from zoo import CASES
from zoo.case import Batch, LossFn, SplitLoss, move

BatchWeight = Callable[[Batch], float]


def dense_hessian(
    model: nn.Module, loss_fn: LossFn, batches: Sequence[Batch], batch_weight: BatchWeight | None = None
) -> Float64[Tensor, "n n"]:
    """The Hessian of the mean loss, rows and columns in the order of the trainable `model.parameters()`."""
    twin = _fp64(model)

    def of_batch(batch: Batch) -> Tensor:
        return _hessian(loss_fn(twin, batch), _trainable(twin))

    return _weighted_mean(batches, batch_weight, of_batch)


def hessian_product(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Sequence[Batch],
    vector: Float64[Tensor, " n"],
    batch_weight: BatchWeight | None = None,
) -> Float64[Tensor, " n"]:
    """Hv alone, from a fresh graph, for models too large for `dense_hessian`."""
    twin = _fp64(model)
    points = _trainable(twin)

    def of_batch(batch: Batch) -> Tensor:
        first = torch.autograd.grad(loss_fn(twin, batch), points, create_graph=True, materialize_grads=True)
        along = torch.cat([part.flatten() for part in first]) @ vector
        return _jacobian(along.reshape(1), points)[0]

    return _weighted_mean(batches, batch_weight, of_batch)


def dense_ggn(
    model: nn.Module, loss_fn: SplitLoss, batches: Sequence[Batch], batch_weight: BatchWeight | None = None
) -> Float64[Tensor, "n n"]:
    """The generalized Gauss-Newton matrix: the mean of Jᵀ (∂²criterion/∂outputs²) J over the batches."""
    twin = _fp64(model)

    def of_batch(batch: Batch) -> Tensor:
        outputs = loss_fn.outputs(twin, batch)
        jacobian = _jacobian(outputs.flatten(), _trainable(twin))
        leaf = outputs.detach().requires_grad_()
        return jacobian.T @ _hessian(loss_fn.criterion(leaf, batch), [leaf]) @ jacobian

    return _weighted_mean(batches, batch_weight, of_batch)


def gradient(
    model: nn.Module, loss_fn: LossFn, batches: Sequence[Batch], batch_weight: BatchWeight | None = None
) -> Float64[Tensor, " n"]:
    """The gradient of the mean loss."""
    twin = _fp64(model)

    def of_batch(batch: Batch) -> Tensor:
        return _jacobian(loss_fn(twin, batch).reshape(1), _trainable(twin))[0]

    return _weighted_mean(batches, batch_weight, of_batch)


def finite_difference_product(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Sequence[Batch],
    vector: Float64[Tensor, " n"],
    batch_weight: BatchWeight | None = None,
    step: float = 1e-5,
) -> Float64[Tensor, " n"]:
    """Hv from the gradients at ``± step`` along v / ‖v‖; the error grows as step² · third derivative."""
    length = float(vector.norm())
    sides = []
    for sign in (1, -1):
        moved = _fp64(model)
        start = nn.utils.parameters_to_vector(_trainable(moved)).detach()
        nn.utils.vector_to_parameters(start + sign * step / length * vector, _trainable(moved))
        sides.append(gradient(moved, loss_fn, batches, batch_weight))
    return (sides[0] - sides[1]) / (2 * step) * length


@functools.cache
def hessian_of(name: str) -> Float64[Tensor, "n n"]:
    """`dense_hessian` of a zoo case, computed once a session; not to be written to."""
    case = CASES[name]
    return dense_hessian(*case.build(), case.batch_weight)


@functools.cache
def ggn_of(name: str) -> Float64[Tensor, "n n"]:
    """`dense_ggn` of a zoo case, computed once a session; not to be written to."""
    case = CASES[name]
    model, loss_fn, batches = case.build()
    split = case.split or loss_fn
    assert isinstance(split, SplitLoss)
    return dense_ggn(model, split, batches, case.batch_weight)


class StayDouble(TorchFunctionMode):
    """Casts of fp64 tensors to fp32 inside a model do nothing.

    Hugging Face computes the causal loss on ``logits.float()`` and Llama's RMSNorm in fp32, whatever the
    model's dtype; obeyed, these casts leave 7 digits of an "fp64" Hessian.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], Tensor) and args[0].dtype is torch.float64:
            if func is Tensor.float:
                return args[0]
            args = tuple(torch.float64 if arg is torch.float32 else arg for arg in args)
            kwargs = {key: torch.float64 if arg is torch.float32 else arg for key, arg in kwargs.items()}
        return func(*args, **kwargs)


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Fused attention, compiled modules and cuDNN's recurrent layers have no double backward: avoid them."""
    with (
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),
        torch.compiler.set_stance("force_eager"),
        torch.backends.cudnn.flags(enabled=False),
        StayDouble(),
    ):
        yield


def _fp64(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).double().eval()


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _weighted_mean(
    batches: Sequence[Batch], batch_weight: BatchWeight | None, of_batch: Callable[[Batch], Tensor]
) -> Tensor:
    weights = [float((batch_weight or _first_length)(batch)) for batch in batches]
    with twice_differentiable():
        parts = [of_batch(batch) for batch in move(list(batches), torch.float64)]
    return sum(w * part for w, part in zip(weights, parts, strict=True)) / sum(weights)  # type: ignore[return-value]


def _first_length(batch: Batch) -> int:
    return next(len(leaf) for leaf in tree_leaves(batch) if isinstance(leaf, Tensor))


def _hessian(loss: Tensor, points: Sequence[Tensor]) -> Tensor:
    gradients = torch.autograd.grad(loss, points, create_graph=True, materialize_grads=True)
    return torch.cat([_jacobian(part.flatten(), points) for part in gradients])


def _jacobian(values: Tensor, points: Sequence[Tensor]) -> Tensor:
    """∂values/∂points, a row a value; zeros where a value depends on no point."""
    rows = values.new_zeros(len(values), sum(point.numel() for point in points))
    if values.requires_grad:
        for i, unit in enumerate(torch.eye(len(values), dtype=values.dtype, device=values.device)):
            parts = torch.autograd.grad(values, points, unit, retain_graph=True, materialize_grads=True)
            rows[i] = torch.cat([part.flatten() for part in parts])
    return rows

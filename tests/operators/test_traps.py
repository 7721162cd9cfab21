"""Layers that differentiating twice is a trap for: each compared with a twin that is written without the trap."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import zoo
from comparer import assert_operator_is
from eigenscope.errors import MeasurementError
from eigenscope.operators import HessianOperator, Probe
from eigenscope.operators.loss_operator import KEPT, RECOMPUTED
from oracles import dense_hessian
from zoo.case import classification
from zoo.data import digits_batches


class ByHand(nn.Module):
    """A linear layer with weight norm, w = g v/‖v‖ row by row, of plain operations."""

    def __init__(self, like: nn.Linear) -> None:
        super().__init__()
        weight = like.weight.detach()
        self.bias = nn.Parameter(like.bias.detach().clone())
        self.g, self.v = nn.Parameter(weight.norm(dim=1, keepdim=True)), nn.Parameter(weight.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.g * self.v / self.v.norm(dim=1, keepdim=True)).T + self.bias


def _with_hooks(layer: nn.Linear) -> nn.Module:
    with pytest.warns(FutureWarning, match="deprecated"):
        return nn.utils.weight_norm(layer)


@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm, _with_hooks])
@pytest.mark.parametrize("method", [KEPT, RECOMPUTED])
def test_weight_norm_has_the_right_second_derivative(wrap: Callable[[nn.Linear], nn.Module], method: str) -> None:
    """torch's fused one takes ‖v‖ for a constant when it is differentiated twice: 5 % off, and asymmetric."""
    with zoo.seeded(6):
        layers = [nn.Linear(64, 5), nn.Linear(64, 5), nn.Linear(5, 10)]
    layers[1].load_state_dict(layers[0].state_dict())
    batches = zoo.move(digits_batches((20,)), torch.float64)
    twin = nn.Sequential(ByHand(layers[0]), nn.Tanh(), layers[2]).double()
    model = nn.Sequential(wrap(layers[1]), nn.Tanh(), layers[2]).double()
    assert [p.shape for p in model.parameters()] == [p.shape for p in twin.parameters()]
    operator = HessianOperator(Probe(model, classification, batches), method=method)
    assert_operator_is(operator, dense_hessian(twin, classification, batches), rtol=1e-12)


def test_an_embedding_with_sparse_gradients_is_one_with_dense_gradients() -> None:
    with zoo.seeded(7):
        models = [
            nn.Sequential(nn.Embedding(9, 4, sparse=sparse), nn.Flatten(), nn.Tanh(), nn.Linear(12, 10)).double()
            for sparse in (True, False)
        ]
        tokens = torch.randint(9, (20, 3))
    models[0].load_state_dict(models[1].state_dict())
    batches = [(tokens, digits_batches((20,))[0][1])]
    operator = HessianOperator(Probe(models[0], classification, batches))
    assert_operator_is(operator, dense_hessian(models[1], classification, batches), rtol=1e-12)


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        with zoo.seeded(8):
            self.first = nn.Linear(64, 5)
            self.rest = nn.Sequential(nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 10))
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.rest, self.first(x), use_reentrant=self.reentrant)  # type: ignore[no-any-return]


def test_activation_checkpointing_is_recomputed_in_isolation() -> None:
    """A product runs the checkpointed layers again, and must find the aliases in place: so nothing is kept."""
    batches = zoo.move(digits_batches((20,)), torch.float64)
    model = Checkpointed(reentrant=False).double()
    operator = HessianOperator(Probe(model, classification, batches))
    assert operator.method == RECOMPUTED
    assert operator.notes == ["activation checkpointing: each product runs the model again"]
    twin = nn.Sequential(model.first, *model.rest)
    assert_operator_is(operator, dense_hessian(twin, classification, batches), rtol=1e-12)


def test_reentrant_checkpointing_is_told_in_one_line() -> None:
    probe = Probe(Checkpointed(reentrant=True), classification, digits_batches((20,)))
    with pytest.raises(MeasurementError, match="the gradient of the loss can't be taken: When use_reentrant=True"):
        HessianOperator(probe)

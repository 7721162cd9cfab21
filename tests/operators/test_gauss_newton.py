"""The Gauss-Newton matrix: of all that a model returns, which outputs count."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from comparer import assert_operator_is, random_block
from eigenscope.errors import InputError
from eigenscope.operators import GaussNewtonOperator, HessianOperator, Probe
from oracles import dense_ggn
from zoo.case import classification
from zoo.data import digits_batches


class WithFeatures(nn.Module):
    """Returns logits and the features that they come from, as many models do."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 6), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x).tanh()
        return self.head(features), features


def test_an_output_that_leads_to_another_is_not_counted_twice() -> None:
    with zoo.seeded(3):
        model = WithFeatures().double()
    batches = zoo.move(digits_batches((20,)), torch.float64)
    twin = nn.Sequential(model.body, nn.Tanh(), model.head)
    operator = GaussNewtonOperator(Probe(model, lambda m, b: nn.functional.cross_entropy(m(b[0])[0], b[1]), batches))
    assert_operator_is(operator, dense_ggn(twin, classification, batches), rtol=1e-13)


@dataclass
class Record:
    loss: Tensor | None
    logits: Tensor
    tag: str = "an output that is no tensor"


class Recording(nn.Module):
    """Returns a record or a mapping with logits and more, as Hugging Face models do."""

    def __init__(self, kind: Callable[..., Any]) -> None:
        super().__init__()
        with zoo.seeded(3):
            self.body, self.head = nn.Linear(64, 6), nn.Linear(6, 10)
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        return self.kind(loss=None, logits=self.head(self.body(x).tanh()))


@pytest.mark.parametrize("kind", [Record, dict])
def test_of_a_record_the_logits_count(kind: Callable[..., Any]) -> None:
    batches = zoo.move(digits_batches((20,)), torch.float64)
    model = Recording(kind).double()

    def loss_fn(net: nn.Module, batch: zoo.Batch) -> Tensor:
        out = net(batch[0])
        return nn.functional.cross_entropy(out["logits"] if isinstance(out, dict) else out.logits, batch[1])

    twin = nn.Sequential(model.body, nn.Tanh(), model.head)
    operator = GaussNewtonOperator(Probe(model, loss_fn, batches))
    assert_operator_is(operator, dense_ggn(twin, classification, batches), rtol=1e-13)


def test_gauss_newton_of_a_loss_that_is_linear_in_the_outputs_is_zero() -> None:
    model = nn.Linear(3, 1).double()
    operator = GaussNewtonOperator(Probe(model, lambda m, b: m(b).mean(), random_block(5, 3)))
    assert not (operator @ random_block(4)).any()


def test_the_hessian_of_a_linear_loss_is_zero() -> None:
    model = nn.Linear(3, 1).double()
    operator = HessianOperator(Probe(model, lambda m, b: m(b).mean(), random_block(5, 3)))
    assert not (operator @ random_block(4)).any()


@pytest.mark.parametrize(
    ("loss_fn", "message"),
    [
        (lambda m, b: (m.weight**2).sum(), "needs a loss_fn that calls the model on the batch"),
        (lambda m, b: (m(b) * 0).detach().sum() + (m.weight**2).sum(), "does not depend on what the model returned"),
    ],
)
def test_gauss_newton_needs_the_model_s_outputs(loss_fn: zoo.LossFn, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GaussNewtonOperator(Probe(nn.Linear(3, 1), loss_fn, torch.ones(2, 3)))

"""The oracles agree with closed forms and with finite differences, on every case of the zoo."""

import copy

import pytest
import torch
from torch import Tensor, nn

import zoo
from oracles import (
    StayDouble,
    dense_ggn,
    dense_hessian,
    finite_difference_product,
    ggn_of,
    gradient,
    hessian_of,
    hessian_product,
)
from zoo.case import classification
from zoo.data import diabetes_batches, digits_batches
from zoo.regression import mean_squared_error


def _direction(n: int) -> Tensor:
    return torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _step(name: str) -> float:
    """Short where there are ReLUs: one that changes sign within the step adds a jump of the gradient."""
    return 1e-8 if "kinks" in zoo.CASES[name].traits else 1e-5


def _relative(difference: Tensor, reference: Tensor) -> float:
    return float(difference.norm() / reference.norm())


@pytest.mark.parametrize("name", zoo.SMALL)
def test_the_hessian_is_symmetric_and_agrees_with_differences_of_gradients(name: str) -> None:
    case, hessian = zoo.CASES[name], hessian_of(name)
    assert _relative(hessian - hessian.T, hessian) < 1e-14
    direction = _direction(len(hessian))
    expected = finite_difference_product(*case.build(), direction, case.batch_weight, _step(name))
    assert _relative(hessian @ direction - expected, expected) < 1e-6


@pytest.mark.parametrize("name", zoo.REAL)
def test_the_product_of_a_real_model_agrees_with_differences_of_gradients(name: str) -> None:
    case = zoo.CASES[name]
    model, loss_fn, batches = case.build()
    direction = _direction(case.num_parameters)
    product = hessian_product(model, loss_fn, batches[:1], direction)
    expected = finite_difference_product(model, loss_fn, batches[:1], direction, step=_step(name))
    assert _relative(product - expected, expected) < 1e-5  # rounding of the gradient, over a step of 1e-8


@pytest.mark.parametrize("name", zoo.SMALL)
def test_the_gauss_newton_matrix_has_no_negative_eigenvalue(name: str) -> None:
    eigenvalues = torch.linalg.eigvalsh(ggn_of(name))
    assert eigenvalues[0] > -1e-13 * eigenvalues[-1]


def _linear(inputs: int, outputs: int) -> nn.Linear:
    with zoo.seeded(0):
        return nn.Linear(inputs, outputs, bias=False)


def test_linear_regression_has_the_closed_form_2_xtx_over_n() -> None:
    batches = diabetes_batches((40, 13))
    features = torch.cat([batch[0] for batch in batches]).double()
    expected = 2 * features.T @ features / len(features)
    model = _linear(10, 1)
    for dense in (dense_hessian, dense_ggn):
        torch.testing.assert_close(dense(model, mean_squared_error, batches), expected)


def test_softmax_regression_has_the_closed_form() -> None:
    """The mean of (diag p - p pᵀ) ⊗ x xᵀ over the samples."""
    batches, model = digits_batches((20, 9)), _linear(64, 10)
    features = torch.cat([batch[0] for batch in batches]).double()
    p = (features @ model.weight.detach().double().T).softmax(1)
    of_outputs = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    expected = torch.einsum("bij,bk,bl->ikjl", of_outputs, features, features).reshape(640, 640) / len(features)
    for dense in (dense_hessian, dense_ggn):
        torch.testing.assert_close(dense(model, classification, batches), expected)


def test_ragged_batches_weighted_by_size_are_one_large_batch() -> None:
    model, loss_fn, batches = zoo.CASES["ragged"].build()
    whole = [tuple(torch.cat(parts) for parts in zip(*batches, strict=True))]
    hessian = hessian_of("ragged")
    torch.testing.assert_close(hessian, dense_hessian(model, loss_fn, whole))
    unweighted = dense_hessian(model, loss_fn, batches, batch_weight=lambda _: 1)
    assert _relative(unweighted - hessian, hessian) > 0.2


def test_padded_batches_weighted_by_tokens_are_one_large_batch() -> None:
    case = zoo.CASES["hf_gpt2"]
    model, loss_fn, batches = case.build()
    width = max(batch["labels"].shape[1] for batch in batches)
    fills = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    whole = {
        key: torch.cat([nn.functional.pad(b[key], (0, width - b[key].shape[1]), value=fill) for b in batches])
        for key, fill in fills.items()
    }
    torch.testing.assert_close(gradient(model, loss_fn, batches, case.batch_weight), gradient(model, loss_fn, [whole]))


def test_unused_parameters_have_zero_rows_and_frozen_ones_none() -> None:
    model, _, _ = zoo.CASES["partial_parameters"].build()
    rows = dict(_rows_by_parameter(model, hessian_of("partial_parameters")))
    assert not any(key.startswith("frozen") for key in rows)
    for key, block in rows.items():
        assert bool(block.any()) is not key.startswith("unused"), key
    assert not rows["adapters.0.weight"][:, 156:312].any()  # no batch reaches both adapters


def _rows_by_parameter(model: nn.Module, matrix: Tensor) -> list[tuple[str, Tensor]]:
    named = [(key, parameter) for key, parameter in model.named_parameters() if parameter.requires_grad]
    blocks = torch.split(matrix, [parameter.numel() for _, parameter in named])
    return [(key, block) for (key, _), block in zip(named, blocks, strict=True)]


@pytest.mark.parametrize("name", ["batchnorm_conv", "hf_gpt2", "compiled_in_place"])
def test_an_oracle_leaves_the_model_as_it_was(name: str) -> None:
    model, loss_fn, batches = zoo.CASES[name].build()
    model.train()
    before = copy.deepcopy(model.state_dict())
    gradient(model, loss_fn, batches)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert model.training
    assert all(p.grad is None and p.dtype is torch.float32 for p in model.parameters())


def test_doubles_stay_double_where_a_model_casts_to_single() -> None:
    x = torch.ones(2, dtype=torch.float64)
    with StayDouble():
        casts = [x.float(), x.to(torch.float32), x.to(dtype=torch.float32), x.softmax(0, dtype=torch.float32)]
        assert all(y.dtype is torch.float64 for y in casts)
        assert x.half().dtype is torch.float16
        assert torch.ones(2).float().dtype is torch.float32

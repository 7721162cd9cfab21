"""A right product is never rejected, a wrong one is."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import eigenscope as es
import zoo
from comparer import random_block
from eigenscope.errors import MeasurementError, ProductCheckError
from eigenscope.operators import GaussNewtonOperator, HessianOperator, Probe
from eigenscope.operators.checks import SelfCheck, self_check
from eigenscope.operators.loss_operator import FINITE_DIFFERENCE, RECOMPUTED
from zoo.case import classification
from zoo.data import digits_batches


def _leading(operator: HessianOperator) -> tuple[Tensor, Tensor, float]:
    """A unit vector near the leading eigenvector, its product, and the largest |λ|, by power iteration."""
    v = random_block(operator.shape[0], 1)[:, 0]
    for _ in range(20):
        v = operator @ (v / v.norm())
    v = v / v.norm()
    product = operator @ v
    return v, product, float(product.norm())


def _check(operator: HessianOperator, asymmetry: float = 0.0, factor: float = 1.0) -> SelfCheck:
    v, product, radius = _leading(operator)
    return self_check(operator, v, factor * product, asymmetry, radius)


def _checked(name: str) -> SelfCheck:
    case = zoo.CASES[name]
    found = es.curvature(*case.build(), batch_weight=case.batch_weight).self_check
    assert found is not None
    return found


@pytest.mark.parametrize("name", [n for n in zoo.SMALL if "kinks" not in zoo.CASES[n].traits])
def test_products_of_smooth_networks_pass(name: str) -> None:
    """fp32: symmetric to 10⁻⁶ of the largest eigenvalue; finite differences agree to 3 %."""
    found = _checked(name)
    assert found.status == "passed"
    assert found.symmetry < 1e-6
    assert found.finite_difference is not None
    assert found.finite_difference < 0.03


@pytest.mark.parametrize("name", zoo.named("kinks"))
def test_products_of_networks_with_kinks_are_not_rejected(name: str) -> None:
    """In fp32 no step is short enough to miss every kink and long enough for the rounding."""
    model, loss_fn, (batch, *_) = zoo.CASES[name].build()
    operator = HessianOperator(Probe(model, loss_fn, tuple(part[:8] for part in batch)))
    assert _check(operator).status in ("passed", "inconclusive")


def test_many_kinks_make_finite_differences_agree_on_a_wrong_answer() -> None:
    """The trap: across a million ReLUs two steps agree three times better than either does with the Hessian."""
    with zoo.seeded(3):
        model = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10),
        )  # fmt: skip
        batches = digits_batches((600,))
        zoo.settle(model, classification, batches, steps=3)
    found = _check(HessianOperator(Probe(model, classification, batches)))
    assert found.status == "inconclusive"
    assert found.finite_difference is not None
    assert found.difference_noise is not None
    assert found.finite_difference > 3 * found.difference_noise


class Cubed(torch.autograd.Function):
    """x³ with the right gradient, but `backward` takes x for a constant: the second derivative is lost."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x.detach() ** 2 * grad


class Cubic(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        with zoo.seeded(4):
            self.first, self.second = nn.Linear(8, 8, dtype=dtype), nn.Linear(8, 1, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(Cubed.apply(self.first(x)))  # type: ignore[no-any-return]


def _squares(model: nn.Module, batch: Tensor) -> Tensor:
    return ((model(batch) - 3) ** 2).mean()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_wrong_second_derivative_is_rejected(dtype: torch.dtype) -> None:
    batch = random_block(20, 8).to(dtype)
    with pytest.raises(ProductCheckError, match=r"disagree with finite .*: an operation has a wrong second derivative"):
        es.curvature(Cubic(dtype), _squares, batch)
    reading = es.curvature(Cubic(dtype), _squares, batch, method="finite_difference")
    assert reading.method == FINITE_DIFFERENCE


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, -1.0])
def test_a_product_that_is_off_by_a_tenth_is_rejected(factor: float) -> None:
    operator = HessianOperator(Probe(*zoo.CASES["mlp_tanh"].build()))
    with pytest.raises(ProductCheckError, match=f"disagree .* by {abs(1 - factor):.0%} "):
        _check(operator, factor=factor)


def test_in_bfloat16_finite_differences_reject_nothing() -> None:
    """A GPT with a gradient near 0: they agreed to 1.7 % and were 13 % off, the product 2.4 %."""
    model, loss_fn, batches = zoo.CASES["gpt_nano_sort"].build()

    def autocast_loss(net: nn.Module, batch: zoo.Batch) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss_fn(net, batch)

    reading = es.curvature(model, autocast_loss, batches, max_matvecs=20, seed=3)
    assert reading.self_check is not None
    assert reading.self_check.status == "inconclusive"


def test_a_padding_index_that_is_in_use_does_not_raise() -> None:
    """`padding_idx` cuts a gradient that is not zero. The product stays symmetric, that row and column left out;
    its leading eigenvector has no part there, so that finite differences along it agree.
    """
    with zoo.seeded(5):
        embedding = nn.Embedding(6, 4, padding_idx=0)
        model = nn.Sequential(embedding, nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3))
        nn.init.normal_(model[0].weight)
        batch = (torch.randint(0, 6, (40, 3)), torch.randint(0, 3, (40,)))
    assert (batch[0] == 0).any()
    found = es.curvature(model, classification, [batch]).self_check
    assert found is not None
    assert found.status == "passed"


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-5), (torch.float32, 1e-2)])
def test_an_asymmetric_operator_is_rejected(dtype: torch.dtype, allowed: float) -> None:
    model, loss_fn, batches = zoo.CASES["mlp_tanh"].build()
    operator = HessianOperator(Probe(model.to(dtype), loss_fn, zoo.move(batches, dtype)))
    radius = _leading(operator)[2]
    assert _check(operator, asymmetry=0.9 * allowed * radius).symmetry == pytest.approx(0.9 * allowed)
    with pytest.raises(ProductCheckError, match=r"the products are not symmetric .*: the loss is random or changes"):
        _check(operator, asymmetry=1.1 * allowed * radius)


def test_a_loss_with_randomness_of_its_own_is_rejected() -> None:
    """Its generator is the user's own: no isolation reaches it, and each rebuilt graph has another mask."""
    model, _, batches = zoo.CASES["mlp_tanh"].build()
    own = torch.Generator().manual_seed(0)

    def noisy(net: nn.Module, batch: zoo.Batch) -> Tensor:
        images = batch[0] * (torch.rand(batch[0].shape, generator=own) > 0.3)
        return classification(net, (images, batch[1]))

    with pytest.raises(ProductCheckError, match="not symmetric"):
        es.curvature(model, noisy, batches, method=RECOMPUTED)


def test_finite_differences_across_kinks_are_refused() -> None:
    with pytest.raises(ProductCheckError, match="finite differences can't be taken across its kinks"):
        es.curvature(*zoo.CASES["batchnorm_conv"].build(), method=FINITE_DIFFERENCE)


def test_what_finite_differences_can_t_judge_is_judged_by_symmetry_alone() -> None:
    """Gauss-Newton, products that are finite differences, and a matrix of zeros."""
    probe = Probe(*zoo.CASES["mlp_tanh"].build())
    v = random_block(1210, 1)[:, 0]
    for operator in (GaussNewtonOperator(probe), HessianOperator(probe, method=FINITE_DIFFERENCE)):
        assert self_check(operator, v, operator @ v, 0.0, 1.0) == SelfCheck(0.0, None, None, "passed")
    assert self_check(HessianOperator(probe), v, v, 0.0, 0.0) == SelfCheck(0.0, None, None, "passed")


def test_a_product_that_is_not_finite_is_an_error() -> None:
    """(3·10¹⁹ w)² at w = 10⁻¹⁵: the gradient is 2·10²⁴, but the curvature, 2·10³⁹, is past fp32's 3·10³⁸."""
    model = nn.Linear(3, 1, bias=False)
    nn.init.constant_(model.weight, 1e-15)
    with pytest.raises(MeasurementError, match="not finite: the loss overflows near here"):
        es.curvature(model, lambda m, b: (m(b) ** 2).sum(), torch.full((1, 3), 3e19))

"""Every operator multiplies as its dense twin does: the oracles' exact fp64 matrices, on the whole zoo."""

import pytest
import torch
from torch import Tensor, nn

import zoo
from comparer import assert_operator_is, random_block, relative
from eigenscope.errors import InputError, MeasurementError
from eigenscope.operators import DenseOperator, GaussNewtonOperator, HessianOperator, Probe, ScaledOperator
from eigenscope.operators.loss_operator import FINITE_DIFFERENCE, KEPT, METHODS, RECOMPUTED
from oracles import ggn_of, hessian_of, hessian_product
from spectra import indefinite, quadratic
from zoo.case import classification

SMOOTH = [name for name in zoo.SMALL if "kinks" not in zoo.CASES[name].traits]


def probe_of(name: str, dtype: torch.dtype) -> Probe:
    case = zoo.CASES[name]
    model, loss_fn, batches = case.build()
    return Probe(model.to(dtype), loss_fn, zoo.move(batches, dtype), batch_weight=case.batch_weight)


def rounding(name: str, dtype: torch.dtype = torch.float64) -> float:
    """Hugging Face casts logits and norms to fp32 whatever the model's type, so that 7 digits are left."""
    return 2e-6 if dtype is torch.float32 or "hugging_face" in zoo.CASES[name].traits else 1e-13


@pytest.mark.parametrize("method", [KEPT, RECOMPUTED])
@pytest.mark.parametrize("name", zoo.SMALL)
def test_the_hessian_is_exact_in_double(name: str, method: str) -> None:
    operator = HessianOperator(probe_of(name, torch.float64), method=method)
    assert operator.method == method
    assert_operator_is(operator, hessian_of(name), rtol=rounding(name))


@pytest.mark.parametrize("method", [KEPT, RECOMPUTED])
@pytest.mark.parametrize("name", zoo.SMALL)
def test_the_gauss_newton_matrix_is_exact_in_double(name: str, method: str) -> None:
    operator = GaussNewtonOperator(probe_of(name, torch.float64), method=method)
    assert operator.method == method
    assert_operator_is(operator, ggn_of(name), rtol=rounding(name))


@pytest.mark.parametrize("name", zoo.SMALL)
def test_in_single_precision_six_digits_are_left(name: str) -> None:
    for kind, dense in ((HessianOperator, hessian_of(name)), (GaussNewtonOperator, ggn_of(name))):
        assert_operator_is(kind(probe_of(name, torch.float32)), dense, rtol=rounding(name, torch.float32))


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 2e-9), (torch.float32, 2e-3)])
@pytest.mark.parametrize("name", [name for name in SMOOTH if "hugging_face" not in zoo.CASES[name].traits])
def test_finite_differences_are_near_on_smooth_networks(name: str, dtype: torch.dtype, rtol: float) -> None:
    """ε^(2/3) is 4·10⁻¹¹ in fp64 and 2·10⁻⁵ in fp32; third derivatives cost a factor of up to 50 here."""
    operator = HessianOperator(probe_of(name, dtype), method=FINITE_DIFFERENCE)
    assert_operator_is(operator, hessian_of(name), rtol=rtol)


@pytest.mark.parametrize("name", zoo.REAL)
def test_a_product_of_a_real_model_is_the_oracle_s(name: str) -> None:
    """fp32 products of a ReLU network: a unit at its kink may fall on either side, so 10⁻⁵ and not 10⁻⁶."""
    model, loss_fn, batches = zoo.CASES[name].build()
    direction = random_block(zoo.CASES[name].num_parameters, 1)[:, 0]
    operator = HessianOperator(Probe(model, loss_fn, batches[:1]))
    expected = hessian_product(model, loss_fn, batches[:1], direction)
    assert relative(operator @ direction - expected, expected) < 1e-5


def test_loss_and_gradient_are_those_of_the_whole_probe() -> None:
    """Batches of 32, 20 and 5 samples: the mean over all 57, not over three means."""
    model, loss_fn, batches = zoo.CASES["ragged"].build()
    operator = HessianOperator(Probe(model, loss_fn, batches))
    whole = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    loss = loss_fn(model, whole)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    assert operator.loss == pytest.approx(loss.item(), rel=1e-6)
    assert relative(operator.gradient - gradient, gradient) < 1e-6
    assert operator.probe.samples == 57


def test_one_product_counts_one_whatever_the_number_of_batches() -> None:
    operator = HessianOperator(probe_of("ragged", torch.float32))
    seen: list[int] = []
    operator.on_product = seen.append
    v = random_block(460, 1)[:, 0]
    operator @ v
    operator.spread(v)
    operator @ torch.stack([v, v], 1)
    assert seen == [1, 2, 4]
    assert operator.num_matvecs == 4


def test_the_spread_over_batches_is_the_standard_error_of_the_quadratic_form() -> None:
    """Four batches of equal weight: the sample deviation of vᵀA_b v over √4."""
    model, loss_fn, batches = quadratic(indefinite(30).matrix, num_batches=4, spread=0.5)
    v = random_block(30, 1)[:, 0]
    product, error = HessianOperator(Probe(model, loss_fn, batches)).spread(v)
    forms = torch.stack([v @ batch[0] @ v for batch in batches])
    assert relative(product - torch.cat(batches).mean(0) @ v, product) < 1e-13
    assert error == pytest.approx(float(forms.std() / 2), rel=1e-9)


def test_a_single_batch_has_no_spread() -> None:
    operator = HessianOperator(Probe(*quadratic(indefinite(30).matrix)))
    assert operator.spread(random_block(30, 1)[:, 0])[1] is None


# -- which way products are made ------------------------------------------------------------------------------------


def test_a_short_memory_limit_rebuilds_the_graph_and_says_so() -> None:
    probe = probe_of("mlp_tanh", torch.float64)
    roomy = HessianOperator(probe)
    tight = HessianOperator(probe, memory_limit=1.9 * roomy.graph_bytes)
    assert (roomy.method, roomy.notes) == (KEPT, [])
    assert tight.method == RECOMPUTED
    assert "do not fit half of the memory limit" in tight.notes[0]
    assert_operator_is(tight, hessian_of("mlp_tanh"), rtol=1e-13)


def test_the_estimated_size_of_the_graphs_grows_with_the_batches() -> None:
    """The batches hold 32, 20 and 5 samples: saved activations are proportional to them."""
    probe = probe_of("ragged", torch.float64)
    one = Probe(probe.model, probe.loss_fn, probe.batches[:1])
    ratio = HessianOperator(probe).graph_bytes / HessianOperator(one).graph_bytes
    assert ratio == pytest.approx(57 / 32, rel=1e-2)


class Once(torch.autograd.Function):
    """x², whose backward can't be differentiated again."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return 2 * x * grad


class Squared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))

    def forward(self, scale: Tensor) -> Tensor:
        return (scale * Once.apply(self.x) ** 2).sum()


def _value(model: nn.Module, batch: Tensor) -> Tensor:
    out: Tensor = model(batch)
    return out


def test_without_a_second_derivative_finite_differences_take_over() -> None:
    """The Hessian of Σ s·x⁴ is 12·s·x² on the diagonal."""
    scale = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    operator = HessianOperator(Probe(Squared(), _value, scale))
    assert operator.method == FINITE_DIFFERENCE
    assert "no second derivative" in operator.notes[0]
    dense = torch.diag(12 * scale * torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64))
    assert_operator_is(operator, dense, rtol=1e-8)


@pytest.mark.parametrize("method", [KEPT, RECOMPUTED])
def test_asking_for_a_second_derivative_that_is_not_there_is_an_error(method: str) -> None:
    with pytest.raises(MeasurementError, match=r"no second derivative: .*; method='finite_difference' needs none"):
        HessianOperator(Probe(Squared(), _value, torch.ones(3, dtype=torch.float64)), method=method)


def test_gauss_newton_has_no_finite_differences() -> None:
    probe = probe_of("mlp_tanh", torch.float32)
    with pytest.raises(InputError, match="GaussNewtonOperator has no finite differences: use matrix='hessian'"):
        GaussNewtonOperator(probe, method=FINITE_DIFFERENCE)


def test_an_unknown_method_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match=f"method='magic' is not one of {', '.join(METHODS)}"):
        HessianOperator(probe_of("mlp_tanh", torch.float32), method="magic")


def test_finite_differences_of_a_loss_that_keeps_its_own_parameters_are_refused() -> None:
    """They move the model's aliases; what the loss holds in a list of its own would stand still, without a word."""
    model, _, batches = zoo.CASES["mlp_tanh"].build()
    cached = list(model.parameters())
    probe = Probe(model, lambda m, b: classification(m, b) + sum((p**2).sum() for p in cached), batches)
    with pytest.raises(InputError, match="finite differences move the model's parameters, but the loss uses some"):
        HessianOperator(probe, method=FINITE_DIFFERENCE)


def test_a_difference_along_nothing_is_nothing() -> None:
    operator = HessianOperator(probe_of("mlp_tanh", torch.float32), method=FINITE_DIFFERENCE)
    assert not (operator @ torch.zeros(1210)).any()


# -- matrices without a model ---------------------------------------------------------------------------------------


def test_a_dense_operator_is_its_matrix() -> None:
    matrix = indefinite(30).matrix
    assert_operator_is(DenseOperator(matrix), matrix, rtol=1e-14)


def test_a_scaled_operator_is_dad_and_counts_the_products_of_the_one_below() -> None:
    matrix, diagonal = indefinite(30).matrix, torch.linspace(0, 2, 30, dtype=torch.float64)
    below = DenseOperator(matrix)
    assert_operator_is(ScaledOperator(below, diagonal), diagonal[:, None] * matrix * diagonal, rtol=1e-14)
    assert below.num_matvecs == 8


def test_a_matrix_that_is_not_square_and_a_vector_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a square matrix, got shape \(3, 4\)"):
        DenseOperator(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"a vector or block with 3 rows, got shape \(4,\)"):
        DenseOperator(torch.eye(3)) @ torch.zeros(4)

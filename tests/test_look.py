"""One look: from any size, within its budget, wherever it is called; warm looks follow what cold ones found."""

import json
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eigenscope as es
import zoo
from eigenscope.diagnostics.reading import CurvatureReading
from eigenscope.look import look
from eigenscope.operators import Probe
from eigenscope.settings import Memory, Settings
from oracles import hessian_of
from spectra import indefinite, neural, quadratic


def read(name: str, **settings: Any) -> CurvatureReading:
    case = zoo.CASES[name]
    model, loss_fn, batches = case.build()
    batches = zoo.move(batches, torch.float64)
    return es.curvature(model.double(), loss_fn, batches, batch_weight=case.batch_weight, **settings)


# -- the default look -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.SMALL)
def test_in_60_products_both_ends_and_the_top_ten_are_right_to_a_thousandth(name: str) -> None:
    """Against the exact spectrum; the trace to 3 of its standard errors; Hugging Face rounds to fp32 inside (10⁻⁶)."""
    reading, exact = read(name), np.linalg.eigvalsh(hessian_of(name).numpy())
    assert reading.num_matvecs <= 60
    np.testing.assert_allclose([e.value for e in reading.top_eigenvalues], exact[::-1][:10], rtol=1e-3)
    assert reading.lambda_min.value == pytest.approx(exact[0], rel=1e-3)
    assert abs((reading.trace.value or 0.0) - exact.sum()) <= 3 * (reading.trace.standard_error or 0.0)
    assert (reading.trace.standard_error or 0.0) < 0.05 * exact.sum()
    assert 1 <= reading.negative_count_certified <= (exact < -reading.noise_floor).sum()
    mean = exact[-1] / np.abs(exact).mean()
    assert abs((reading.condition_mean.value or 0.0) - mean) <= 4 * (reading.condition_mean.standard_error or 0.0)


@pytest.mark.parametrize("name", ["mlp_tanh", "regression"])
def test_the_drawn_density_and_its_outliers_hold_n_eigenvalues(name: str) -> None:
    reading = read(name)
    density = reading.density
    assert density is not None
    axis = np.arcsinh(density.grid / (1e-3 * (reading.spectral_radius.value or 0.0)))
    bulk = density.values.sum() * (axis[1] - axis[0])
    assert bulk + len(density.outliers) == pytest.approx(reading.num_parameters, rel=1e-6)


@pytest.mark.parametrize("name", ["compiled_module", "compiled_part", "compiled_in_place"])
def test_a_compiled_model_reads_as_it_does_uncompiled(name: str) -> None:
    compiled = read(name)
    torch.compiler.reset()
    model, loss_fn, batches = zoo.CASES[name].build()
    plain = nn.Sequential(*(getattr(module, "_orig_mod", module) for module in (model.first, nn.Tanh(), model.second)))
    reading = es.curvature(plain.double(), loss_fn, zoo.move(batches, torch.float64))
    assert compiled.lambda_max.value == pytest.approx(reading.lambda_max.value, rel=1e-9)
    assert compiled.lambda_min.value == pytest.approx(reading.lambda_min.value, rel=1e-9)


@pytest.mark.parametrize("name", zoo.REAL)
def test_a_real_model_is_read_in_float32(name: str) -> None:
    """No dense oracle here: the residuals bound the errors, and the checks of the product must not object."""
    model, loss_fn, (batch, *_) = zoo.CASES[name].build()
    reading = es.curvature(model, loss_fn, tuple(part[:4] for part in batch), max_matvecs=24, tolerance=1e-2)
    assert reading.self_check is not None
    assert reading.self_check.symmetry < 1e-5
    assert (reading.lambda_max.error or 0.0) < 0.02 * (reading.lambda_max.value or 0.0)
    assert reading.verdict in ("not_converged", "saddle")
    assert (reading.trace.value or 0.0) > 0


# -- sizes and budgets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
def test_a_model_of_a_few_parameters_is_read_exactly(n: int, sign: float) -> None:
    values = sign * torch.arange(1, n + 1, dtype=torch.float64)
    reading = es.curvature(*quadratic(torch.diag(values), distance=1.0))
    low, high = float(values.min()), float(values.max())
    assert reading.lambda_max.value == pytest.approx(high, abs=1e-12)
    assert reading.lambda_min.value == pytest.approx(low, abs=1e-12)
    assert reading.trace.value == pytest.approx(float(values.sum()), abs=1e-12)
    assert reading.trace.standard_error == 0
    assert reading.converged
    assert reading.negative_count_certified == (n if sign < 0 else 0)
    assert reading.negative_count_estimate.value == (n if sign < 0 else 0)
    assert reading.condition_status == {1.0: "definite", -1.0: "indefinite", 0.0: "singular"}[sign]
    assert reading.condition_number.value == (pytest.approx(n) if sign > 0 else None)
    json.dumps(reading.to_dict(), allow_nan=False)
    assert str(reading)


@pytest.mark.parametrize("budget", [8, 9, 12, 25, 60])
def test_a_look_takes_no_more_products_than_it_may(budget: int) -> None:
    reading = es.curvature(*quadratic(neural().matrix, distance=1.0), max_matvecs=budget)
    assert reading.num_matvecs <= budget
    assert reading.converged or any("not converged" in note for note in reading.notes)


def test_too_few_products_are_said_to_be_too_few() -> None:
    reading = es.curvature(*quadratic(neural().matrix), max_matvecs=8)
    assert not reading.converged
    assert any("not converged to 0.001" in note for note in reading.notes)
    assert abs((reading.lambda_max.value or 0.0) - 100) <= (reading.lambda_max.error or 0.0)


@pytest.mark.parametrize("memory_limit", [float("inf"), 1e9, 2e5, 1.0])
def test_whatever_the_memory_the_ends_are_the_same(memory_limit: float) -> None:
    """With room for a single byte sixteen vectors are kept all the same, and products rebuild their graph."""
    reading = es.curvature(*quadratic(neural().matrix), memory_limit=memory_limit, max_matvecs=90)
    assert reading.lambda_max.value == pytest.approx(100, rel=1e-6)
    restarted = any("Krylov vectors" in note for note in reading.notes)
    assert restarted == (memory_limit < 1e6)
    assert reading.method.endswith("kept" if memory_limit > 1e6 else "recomputed")


def test_progress_is_told_product_by_product() -> None:
    told: list[tuple[int, int]] = []
    reading = es.curvature(*quadratic(indefinite().matrix), progress=lambda done, most: told.append((done, most)))
    assert [done for done, _ in told] == list(range(1, reading.num_matvecs + 1))
    assert {most for _, most in told} == {60}


def test_a_seed_makes_a_reading_reproducible() -> None:
    def numbers(seed: int) -> dict[str, object]:
        reading = es.curvature(*quadratic(indefinite().matrix), seed=seed)
        return replace(reading, seconds=0.0, cost_in_gradients=0.0, density=None).to_dict()

    assert numbers(0) == numbers(0)
    assert numbers(0) != numbers(1)


@pytest.mark.parametrize(
    "around", [nullcontext, torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", dtype=torch.bfloat16)]
)
def test_a_reading_is_the_same_wherever_it_is_taken(around: Any) -> None:
    model, loss_fn, batches = zoo.CASES["causal_transformer"].build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with around():
        inside = es.curvature(model, loss_fn, batches, optimizer=optimizer)
    outside = es.curvature(model, loss_fn, batches, optimizer=optimizer)
    assert inside.lambda_max == outside.lambda_max
    assert inside.trace == outside.trace
    assert inside.stability_ratio == outside.stability_ratio


def test_a_loss_that_is_linear_has_a_curvature_of_zero() -> None:
    reading = es.curvature(nn.Linear(3, 1), lambda model, batch: model(batch).mean(), torch.ones(4, 3))
    assert reading.lambda_max.value == reading.lambda_min.value == 0
    assert reading.verdict == "not_converged"
    assert reading.condition_mean.value is None
    json.dumps(reading.to_dict(), allow_nan=False)


# -- warm looks -----------------------------------------------------------------------------------------------------


def test_warm_looks_survive_a_change_of_context_and_of_what_is_trainable() -> None:
    """The first look in inference mode, the next outside; then a layer is frozen: that one starts afresh."""
    model, loss_fn, batches = zoo.CASES["mlp_tanh"].build()
    memory = Memory()
    with torch.inference_mode():
        look(Probe(model, loss_fn, batches), Settings(), memory)
    warm = look(Probe(model, loss_fn, batches), Settings(), memory, step=1, cold=False)
    assert (warm.kind, warm.spectrum_step) == ("warm", 0)
    model[0].requires_grad_(False)
    fresh = look(Probe(model, loss_fn, batches), Settings(), memory, step=2, cold=False)
    assert (fresh.kind, fresh.spectrum_step) == ("cold", 2)
    assert fresh.num_parameters == 170


def test_a_warm_look_is_cheaper_and_says_from_which_step_the_rest_is() -> None:
    model, loss_fn, batches = zoo.CASES["mlp_tanh"].build()
    memory, probe = Memory(), Probe(model, loss_fn, batches)
    cold = look(probe, Settings(), memory, step=5)
    warm = look(probe, Settings(), memory, step=6, cold=False)
    assert warm.num_matvecs <= 25 < cold.num_matvecs
    assert (warm.step, warm.spectrum_step) == (6, 5)
    assert warm.trace == cold.trace
    assert warm.lambda_max.sampling_error is None
    assert warm.lambda_max.value == pytest.approx(cold.lambda_max.value, rel=1e-4)


def test_the_first_look_is_cold_whatever_is_asked_for() -> None:
    reading = look(Probe(*quadratic(indefinite().matrix)), Settings(), Memory(), cold=False)
    assert reading.kind == "cold"


# -- escape ---------------------------------------------------------------------------------------------------------


class Surface(nn.Module):
    """f(x, y) at a point."""

    def __init__(self, x: float, y: float) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor([x, y], dtype=torch.float64))


def saddle(model: Any, _batch: Tensor) -> Tensor:
    x, y = model.at
    return 1 + x**2 - y**2  # type: ignore[no-any-return]


def test_the_escape_from_a_saddle_at_the_origin_is_a_step_worth_taking() -> None:
    """‖θ‖ = 0 gives no scale; along y the loss falls by t², by the quadratic model and in truth."""
    escape = es.curvature(Surface(0.0, 0.0), saddle, torch.zeros(1)).escape
    assert escape is not None
    assert escape.measured > 1e-3
    assert escape.measured == pytest.approx(escape.step**2)
    assert escape.predicted == pytest.approx(escape.measured)


@pytest.mark.parametrize("y", [0.3, -0.3])
def test_the_escape_follows_the_gradient_downhill(y: float) -> None:
    """From y ≠ 0 the loss falls faster on the side that y is on: by (|y| + t)² − y²."""
    escape = es.curvature(Surface(0.0, y), saddle, torch.zeros(1)).escape
    assert escape is not None
    assert escape.measured == pytest.approx((abs(y) + escape.step) ** 2 - y**2)
    assert escape.predicted == pytest.approx(escape.measured)


def test_an_escape_into_overflow_or_a_wall_is_shortened() -> None:
    """−y² + (30 y)⁴ falls only up to |y| = 8·10⁻⁴, a twelfth of the first step; further out the loss is infinite."""

    def narrow(model: Any, _batch: Tensor) -> Tensor:
        x, y = model.at
        return 1 + x**2 - y**2 + (30 * y) ** 4 + torch.where(y.abs() > 0.005, torch.inf, 0.0)  # type: ignore[no-any-return]

    escape = es.curvature(Surface(0.0, 0.0), narrow, torch.zeros(1), method="double_backward_graph_kept").escape
    assert escape is not None
    assert 0 < escape.measured < escape.predicted
    assert escape.step < 0.0012


def test_without_certified_negative_curvature_there_is_nothing_to_escape() -> None:
    assert es.curvature(*quadratic(torch.eye(3, dtype=torch.float64))).escape is None
    ggn = es.curvature(*zoo.CASES["mlp_tanh"].build(), matrix="gauss_newton")
    assert ggn.escape is None


# -- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"matrix": "fisher"}, "^matrix='fisher' is not one of hessian, gauss_newton$"),
        ({"matrix": 3}, "^matrix=3: a word is needed$"),
        ({"method": "magic"}, "^method='magic' is not one of auto, "),
        ({"method": None}, "^method=None: a word is needed$"),
        ({"top": 0}, "^top=0 is too little: at least 1 is needed$"),
        ({"top": 2.5}, r"^top=2\.5: a whole number is needed$"),
        ({"max_matvecs": 3}, "^max_matvecs=3 is too little: at least 8 is needed$"),
        ({"max_matvecs": "many"}, "^max_matvecs='many': a whole number is needed$"),
        ({"warm_matvecs": 1}, "^warm_matvecs=1 is too little: at least 4 is needed$"),
        ({"tolerance": 0.0}, r"^tolerance=0\.0 is too little: at least 1e-12 is needed$"),
        ({"tolerance": float("nan")}, "^tolerance=nan is too little"),
        ({"trace_tolerance": -1}, "^trace_tolerance=-1 is too little"),
        ({"gradient_tolerance": "small"}, "^gradient_tolerance='small': a number is needed$"),
        ({"memory_limit": "2 GB"}, "^memory_limit='2 GB': a number is needed$"),
        ({"memory_limit": -1.0}, "^memory_limit=-1: a number of bytes over 0 is needed$"),
        ({"train_mode": "yes"}, "^train_mode='yes': True or False is needed$"),
        ({"seed": 0.5}, r"^seed=0\.5: a whole number is needed$"),
        ({"colour": "red"}, "there is no setting 'colour': there are gradient_tolerance, matrix"),
    ],
)
def test_a_bad_setting_is_told_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(es.InputError, match=message) as caught:
        es.curvature(*quadratic(indefinite(30).matrix), **settings)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers() -> None:
    settings = Settings(top=np.int64(3), tolerance=np.float32(1e-3), memory_limit=np.float64(1e9))  # type: ignore[arg-type]
    assert settings.top == 3


# -- λmax alone -----------------------------------------------------------------------------------------------------


def test_sharpness_is_the_largest_eigenvalue_within_its_error() -> None:
    found = es.sharpness(*quadratic(neural().matrix))
    assert abs((found.lambda_max.value or 0.0) - 100) <= (found.lambda_max.error or 0.0)
    assert found.lambda_max.value == pytest.approx(100, rel=3e-3)


def test_sharpness_does_not_start_from_another_model() -> None:
    other = es.sharpness(*quadratic(indefinite(30).matrix))
    with pytest.raises(es.InputError, match="start is of 30 parameters, but 40 are trainable now"):
        es.sharpness(*quadratic(indefinite(40).matrix), start=other)

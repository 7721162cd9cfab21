"""`es.curvature` against the exact dense Hessian in fp64, against closed forms, and against its own error bars."""

import json
from functools import cache

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
from oracles import dense_hessian, ggn_of, hessian_of
from spectra import SPECTRA, conjugated, quadratic
from zoo.data import digits_batches

NAMES = {  # the table "Curvature" of the design
    "lambda_max", "lambda_min", "spectral_radius", "resolution", "noise_floor", "condition_number",
    "condition_status", "condition_mean", "iterations_to_halve", "negative_count_certified",
    "negative_count_estimate", "negative_share", "verdict", "escape", "trace", "density", "stability_ratio",
    "sharpness_score", "gradient_norm", "num_matvecs", "cost_in_gradients", "probe_samples", "method",
}  # fmt: skip


@cache
def measured(name: str) -> CurvatureReading:
    """A zoo case in fp64, with enough products for its small and dense spectrum."""
    case = zoo.CASES[name]
    model, loss_fn, batches = case.build()
    batches = zoo.move(batches, torch.float64)
    return es.curvature(model.double(), loss_fn, batches, batch_weight=case.batch_weight, max_matvecs=200)


@pytest.mark.parametrize("name", zoo.SMALL)
def test_extremes_trace_and_counts_agree_with_the_exact_spectrum(name: str) -> None:
    """The oracle differentiates row by row on a fresh graph; Hugging Face models round to fp32 inside (to 10⁻⁶)."""
    reading, exact = measured(name), np.linalg.eigvalsh(hessian_of(name).numpy())
    radius = np.abs(exact).max()
    found = np.array([e.value for e in reading.top_eigenvalues], dtype=float)
    assert found == pytest.approx(exact[::-1][: len(found)], rel=1e-3, abs=1e-5 * radius)
    assert reading.lambda_min.value == pytest.approx(exact[0], rel=1e-3, abs=1e-4 * radius)
    for estimate, truth in ((reading.lambda_max, exact[-1]), (reading.lambda_min, exact[0])):
        assert abs(estimate.value - truth) <= estimate.error + 1e-6 * radius
    assert abs(reading.trace.value - exact.sum()) <= 4 * reading.trace.standard_error + 1e-5 * radius * len(exact)
    assert reading.negative_count_certified <= (exact < -reading.noise_floor).sum()


@pytest.mark.parametrize("name", ["mlp_tanh", "causal_transformer"])
def test_the_gauss_newton_matrix_is_measured_alike(name: str) -> None:
    case = zoo.CASES[name]
    model, loss_fn, batches = case.build()
    reading = es.curvature(
        model.double(), loss_fn, zoo.move(batches, torch.float64), matrix="gauss_newton", max_matvecs=120
    )
    exact = np.linalg.eigvalsh(ggn_of(name).numpy())
    assert reading.lambda_max.value == pytest.approx(exact[-1], rel=1e-4)
    assert reading.negative_count_certified == 0
    assert abs(reading.trace.value - exact.sum()) <= 4 * reading.trace.standard_error + 1e-6


def test_the_density_holds_every_eigenvalue_once() -> None:
    reading = measured("mlp_tanh")
    assert reading.density is not None
    floor = 1e-3 * reading.spectral_radius.value
    axis = np.arcsinh(reading.density.grid / floor)
    total = np.trapezoid(reading.density.values, axis) + len(reading.density.outliers)
    assert total == pytest.approx(reading.num_parameters, rel=0.02)


def test_json_is_strict_and_has_the_names_of_the_design() -> None:
    plain = json.loads(json.dumps(measured("mlp_tanh").to_dict(), allow_nan=False))
    assert plain.keys() >= NAMES
    assert plain["lambda_max"].keys() == {"value", "error", "sampling_error"}
    assert plain["trace"].keys() == {"value", "standard_error"}
    assert plain["condition_number"]["value"] is None
    assert "indefinite" in plain["condition_number"]["reason"]


@pytest.mark.parametrize(("name", "kappa"), [("definite_1e2", 1e2), ("definite_1e4", 1e4)])
def test_the_condition_number_of_a_definite_matrix(name: str, kappa: float) -> None:
    """The spectrum is prescribed; 200 dimensions, so that Lanczos may run to the end."""
    problem = quadratic(SPECTRA[name]().matrix, distance=1.0)
    rough, exact = (es.curvature(*problem, max_matvecs=300, tolerance=t) for t in (1e-3, 1e-9))
    assert rough.condition_status == exact.condition_status == "definite"
    assert rough.condition_number.value == pytest.approx(kappa, rel=1e-2)
    assert abs(rough.condition_number.value - kappa) <= rough.condition_number.error <= 0.15 * kappa
    assert exact.condition_number.value == pytest.approx(kappa, rel=1e-4)
    steps = np.log(2) / np.log((kappa + 1) / (kappa - 1))
    assert exact.iterations_to_halve.value == pytest.approx(steps, rel=1e-4)


@pytest.mark.parametrize(("name", "status"), [("singular", "singular"), ("indefinite", "indefinite")])
@pytest.mark.parametrize("products", [60, 300])
def test_kappa_is_never_printed_where_it_means_nothing(name: str, status: str, products: int) -> None:
    reading = es.curvature(*quadratic(SPECTRA[name]().matrix), max_matvecs=products)
    assert reading.condition_status == status
    assert reading.condition_number.value is None
    assert reading.iterations_to_halve.value is None


def test_three_negative_eigenvalues_are_certified_and_estimated_as_three() -> None:
    reading = es.curvature(*quadratic(SPECTRA["indefinite"]().matrix), max_matvecs=300)
    assert reading.negative_count_certified == 3
    assert reading.negative_count_estimate.value == pytest.approx(3)
    assert reading.negative_count_estimate.resolved


def verdict_of(matrix: Tensor, distance: float = 0.0, products: int = 300) -> str:
    return es.curvature(*quadratic(matrix, distance=distance), max_matvecs=products).verdict


def test_verdicts() -> None:
    """At the stationary point of a quadratic the spectrum decides; away from it the gradient does."""
    assert verdict_of(SPECTRA["definite_1e2"]().matrix) == "minimum"
    assert verdict_of(SPECTRA["indefinite"]().matrix) == "saddle"
    assert verdict_of(SPECTRA["indefinite"]().matrix, distance=1.0) == "not_converged"
    mostly_flat = torch.cat([torch.ones(20), torch.zeros(180)]).double()
    assert verdict_of(conjugated(mostly_flat).matrix) == "plateau"
    assert verdict_of(torch.zeros(5, 5, dtype=torch.float64)) == "plateau"
    bulk = torch.linspace(-0.004, 1.0, 400).double()
    assert verdict_of(conjugated(bulk).matrix, products=10) == "unresolved"


def test_the_escape_from_a_quadratic_saddle_is_as_predicted() -> None:
    reading = es.curvature(*quadratic(SPECTRA["indefinite"]().matrix), max_matvecs=300)
    assert reading.escape is not None
    assert reading.escape.predicted > 0
    assert reading.escape.measured == pytest.approx(reading.escape.predicted, rel=1e-6)


def test_sampling_errors_are_those_of_the_batches() -> None:
    """vᵀH_b v of each batch, from the dense Hessians of the batches."""
    case = zoo.CASES["mlp_tanh"]
    model, loss_fn, batches = case.build()
    model, batches = model.double(), zoo.move(batches, torch.float64)
    reading = es.curvature(model, loss_fn, batches, max_matvecs=200)
    _, vectors = np.linalg.eigh(hessian_of("mlp_tanh").numpy())
    v = vectors[:, -1]
    forms = [float(v @ dense_hessian(model, loss_fn, [b]).numpy() @ v) for b in batches]
    assert len({len(b[0]) for b in batches}) == 1
    expected = np.std(forms, ddof=1) / len(forms) ** 0.5
    assert reading.lambda_max.sampling_error == pytest.approx(expected, rel=1e-4)


def test_warm_checks_follow_a_training_run_in_25_products() -> None:
    """λmax and the top ten against the dense Hessian of the model as it stands at each check."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10)).double()
    (batch,) = zoo.move(digits_batches((256,)), torch.float64)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    optimizer, memory, worst = torch.optim.SGD(model.parameters(), lr=0.3), Memory(), []
    for check in range(8):
        reading = look(Probe(model, loss_fn, [batch]), Settings(), memory, step=check, cold=check == 0)
        exact = np.linalg.eigvalsh(dense_hessian(model, loss_fn, [batch]).numpy())
        found = np.array([e.value for e in reading.top_eigenvalues])
        worst.append(np.max(np.abs(found / exact[::-1][:10] - 1)))
        assert reading.lambda_max.value == pytest.approx(exact[-1], rel=1e-3)
        assert reading.negative_count_certified <= (exact < -reading.noise_floor).sum()
        assert reading.num_matvecs <= (25 if check else 60)
        assert reading.spectrum_step == 0
        for _ in range(5):
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
    assert np.median(worst[1:]) < 1e-2


def test_lambda_max_alone_is_followed_in_a_few_products() -> None:
    case = zoo.CASES["mlp_tanh"]
    model, loss_fn, batches = case.build()
    first = es.sharpness(model, loss_fn, batches)
    again = es.sharpness(model, loss_fn, batches, start=first)
    assert again.num_matvecs <= 5 < first.num_matvecs
    assert again.lambda_max.value == pytest.approx(float(torch.linalg.eigvalsh(hessian_of("mlp_tanh"))[-1]), rel=5e-3)


def test_a_short_memory_restarts_and_says_so() -> None:
    case = zoo.CASES["mlp_tanh"]
    model, loss_fn, batches = case.build()
    reading = es.curvature(model, loss_fn, batches, memory_limit=2 * 4 * 1210 * 25, max_matvecs=200)
    assert any("Krylov vectors" in note for note in reading.notes)
    assert reading.lambda_max.value == pytest.approx(measured("mlp_tanh").lambda_max.value, rel=1e-3)


def quadratic_loss(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().mean()


BATCH = torch.ones(4, 3)


@pytest.mark.parametrize(
    ("loss_fn", "message"),
    [
        (lambda model, batch: 1.0, "loss_fn returned a float"),
        (lambda model, batch: model(batch), r"loss_fn returned shape \(4, 2\)"),
        (lambda model, batch: model(batch).mean() * float("nan"), "the loss of probe batch 0 is nan"),
        (lambda model, batch: model(batch).detach().mean(), "does not depend on any trainable parameter"),
        (lambda model, batch: torch.ones(1, requires_grad=True).sum(), "does not depend on any trainable parameter"),
    ],
)
def test_a_bad_loss_is_told_in_one_line(loss_fn: object, message: str) -> None:
    with pytest.raises(es.InputError, match=message) as caught:
        es.curvature(nn.Linear(3, 2), loss_fn, BATCH)
    assert "\n" not in str(caught.value)


def test_bad_models_and_probes_are_told_in_one_line() -> None:
    model = nn.Linear(3, 2)
    for batches, message in (([], "the probe is empty"), (7, "the probe is a int"), (iter([1]), "the probe is a")):
        with pytest.raises(es.InputError, match=message):
            es.curvature(model, quadratic_loss, batches)
    with pytest.raises(es.InputError, match="the model is a str"):
        es.curvature("model", quadratic_loss, BATCH)
    with pytest.raises(es.InputError, match="max_matvecs=3 is too"):
        es.curvature(model, quadratic_loss, BATCH, max_matvecs=3)
    with pytest.raises(es.InputError, match="'colour'"):
        es.curvature(model, quadratic_loss, BATCH, colour="red")
    with torch.no_grad():
        model.bias[1] = float("inf")
    with pytest.raises(es.InputError, match="parameter 'bias' holds NaN or infinity"):
        es.curvature(model, quadratic_loss, BATCH)
    with pytest.raises(es.InputError, match="no trainable parameter"):
        es.curvature(nn.Linear(3, 2).requires_grad_(False), quadratic_loss, BATCH)


def test_parameters_on_several_devices_are_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model[1].to("meta")
    with pytest.raises(es.InputError, match=r"several devices|meta"):
        es.curvature(model, quadratic_loss, BATCH)

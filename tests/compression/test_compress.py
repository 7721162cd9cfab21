"""A whole model: what the report says is so, the original stays, and bad input is told in a line."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import eigenscope as es
from compression.networks import mlp, stretched
from eigenscope.compression.layers import LowRank
from eigenscope.compression.preparing import build, prepare
from eigenscope.compression.refit import refit as fit_again
from zoo.case import seeded


@pytest.fixture(scope="module")
def digits():
    """A network trained on scikit-learn's digits, 93 % right on the 600 held out; and data to calibrate with."""
    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = torch.tensor(pixels, dtype=torch.float32) / 16, torch.tensor(labels)
    with seeded(0):
        model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10))
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(150):
            optimizer.zero_grad()
            F.cross_entropy(model(pixels[:1197]), labels[:1197]).backward()
            optimizer.step()
    model.requires_grad_(True).eval()
    model.zero_grad()

    def accuracy(model):
        return (model(pixels[1197:]).argmax(-1) == labels[1197:]).float().mean().item()

    return model, list(pixels[:1024].split(256)), accuracy


def test_half_of_a_digit_classifier_is_as_good_and_plain_svd_is_not(digits):
    model, calibration, accuracy = digits
    ours = es.compress(model, calibration, keep=0.5, evaluate=accuracy).report
    plain = es.compress(model, keep=0.5, evaluate=accuracy).report
    assert ours.metric > 0.9
    assert ours.metric_after > ours.metric - 0.01
    assert plain.metric_after < ours.metric_after


def test_the_counts_of_the_report_are_the_models(digits):
    model, calibration, accuracy = digits
    made = es.compress(model, calibration, keep=0.5, evaluate=accuracy)
    report = made.report
    assert report.parameters == sum(p.numel() for p in model.parameters())
    assert report.parameters_after == sum(p.numel() for p in made.model.parameters())
    assert report.memory_bytes == 4 * report.parameters
    assert 0.45 < report.kept <= 0.5
    assert report.flops == 2 * 256 * (64 * 96 + 96 * 96 + 96 * 10)
    weights = [p for p in made.model.parameters() if p.ndim == 2]
    assert report.flops_after == 2 * 256 * sum(p.numel() for p in weights)
    assert report.metric == accuracy(model)
    assert report.metric_after == accuracy(made.model)
    assert report.latency.low <= report.latency.median <= report.latency.high
    with torch.no_grad():
        before, after = (torch.cat([m(x) for x in calibration]) for m in (model, made.model))
    error = float((before - after).norm() / (before - before.mean(0)).norm())
    assert report.output_error == pytest.approx(error, rel=0.02)  # f̄ is each batch's own there
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize("budget", [{"keep": 0.6}, {"rank": 5}, {"energy": 0.8}])
def test_the_weight_error_of_plain_svd_is_eckart_youngs(digits, budget):
    model, _, _ = digits
    report = es.compress(model, **budget).report
    assert report.compressed
    for layer in report.compressed:
        assert layer.weight_error == pytest.approx(layer.weight_error_bound, rel=1e-6)


def test_no_error_is_below_its_bound(digits):
    model, calibration, _ = digits
    for options in ({}, {"refit": True}, {"method": "plain"}):
        for layer in es.compress(model, calibration, keep=0.5, **options).report.compressed:
            assert layer.weight_error >= layer.weight_error_bound * (1 - 1e-6)
            assert layer.output_error >= layer.output_error_bound * (1 - 1e-6)


def test_refitting_makes_up_for_errors_before_a_layer(digits):
    model, calibration, _ = digits
    errors = [es.compress(model, calibration, keep=0.3, refit=refit).report.output_error for refit in (False, True)]
    assert errors[1] < errors[0]


def test_refitting_runs_the_original_once_and_the_compressed_model_once_a_layer():
    prepared = prepare(mlp(), [stretched(100, 24), stretched(50, 24, seed=3)])
    made = build(prepared, {"0": 4, "2": 4, "4": 4}).eval()
    runs = []

    def forward(model, batch):
        runs.append("original" if model is prepared.model else "compressed")
        return model(batch)

    fit_again(prepared.model, made, prepared.statistics, prepared.batches, forward)
    assert runs.count("original") == 2  # batches
    assert runs.count("compressed") == 1 + 2 * 3  # once to see in which order layers run


def test_the_original_stays_as_it_is(digits):
    model, calibration, _ = digits
    model = copy.deepcopy(model).train()
    model.append(nn.BatchNorm1d(10))
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    made = es.compress(model, calibration, keep=0.5, refit=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert all(module.training and not module._forward_hooks for module in [*model.modules(), *made.model.modules()])
    assert all(p.requires_grad and p.grad is None for p in [*model.parameters(), *made.model.parameters()])
    assert made.model.state_dict()["5.num_batches_tracked"] == 0


def test_the_same_input_gives_the_same_model(digits):
    model, calibration, _ = digits
    pair = [es.compress(model, calibration, keep=0.5).model.state_dict().values() for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))


def test_it_works_where_gradients_are_off(digits):
    model, calibration, _ = digits
    with torch.inference_mode():
        inside = es.compress(model, calibration, keep=0.5).report.layers
    assert [layer.rank for layer in inside] == [
        layer.rank for layer in es.compress(model, calibration, keep=0.5).report.layers
    ]


def test_only_and_skip_choose_layers():
    made = es.compress(mlp(), rank=3, only=["[02]"], skip="2")
    assert {name for name, module in made.model.named_modules() if isinstance(module, LowRank)} == {"0"}
    reasons = {layer.name: layer.reason for layer in made.report.skipped}
    assert reasons == {"2": "skipped as asked", "4": "not among those asked for"}


def test_a_flat_spectrum_is_called_so():
    with seeded(0):
        model = nn.Sequential(nn.Linear(32, 32))
        model[0].weight.data = torch.linalg.qr(torch.randn(32, 32))[0]
    notes = es.compress(model, torch.randn(500, 32), keep=0.5).report.notes
    assert any("low rank is dear in 1 of 1 layer (0)" in note for note in notes)


def test_a_flat_layer_that_stays_is_told_apart_from_one_that_was_taken():
    with seeded(0):
        model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
        model[0].weight.data = torch.linalg.qr(torch.randn(32, 32))[0]
        model[1].weight.data = torch.randn(32, 3) @ torch.randn(3, 32)  # all that is saved is saved here
    made = es.compress(model, torch.randn(500, 32), keep=0.7)
    assert {layer.name: layer.rank for layer in made.report.layers}["0"] is None
    assert any(note.startswith("low rank does not pay in 1 of 2 layers (0)") for note in made.report.notes)
    assert repr(made) == "<Compressed: 2,112 → 1,472 parameters, 1 of 2 layers; .model, .report>"


def test_a_loss_says_which_rows_matter():
    """Half of the rows are padding of another kind of data, which the loss leaves out: they change nothing."""
    x, padding = stretched(300, 24), 5 * stretched(300, 24, seed=7)
    mask = torch.cat([torch.ones(300), torch.zeros(300)])

    def loss(model, batch):
        inputs, mask = batch
        return (model(inputs).square().mean(-1) * mask).sum() / mask.sum()

    clean = es.compress(mlp(), x, keep=0.5, forward=lambda m, b: loss(m, (b, torch.ones(len(b))))).report
    padded = es.compress(mlp(), [(torch.cat([x, padding]), mask)], keep=0.5, forward=loss).report
    for a, b in zip(clean.layers, padded.layers, strict=True):
        assert abs((a.rank or 24) - (b.rank or 24)) <= 2
        assert a.output_error == pytest.approx(b.output_error, rel=0.3, abs=0.02)


def test_pricing_gives_what_compressing_gives(digits):
    model, calibration, accuracy = digits
    offer = es.compression_curve(model, calibration, (0.8, 0.4, 0.01), evaluate=accuracy)
    assert [point.keep for point in offer.points] == [0.8, 0.4]
    assert offer.notes[0].startswith("keep=0.01 can't be reached")
    report = es.compress(model, calibration, keep=0.4, evaluate=accuracy).report
    point = offer.points[1]
    assert (point.metric, point.parameters_after) == (report.metric_after, report.parameters_after)
    assert point.kept == pytest.approx(report.kept)
    assert point.output_error == pytest.approx(report.output_error)
    assert offer.points[0].output_error < point.output_error
    json.dumps(offer.to_dict(), allow_nan=False)


X = stretched(40, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give exactly one of keep=, energy= and rank=: none of them was given"),
        ({"keep": 0.5, "rank": 3}, "give exactly one of keep=, energy= and rank=: keep=0.5 and rank=3 was given"),
        ({"keep": 1.5}, "keep=1.5: it must lie between 0 and 1, such as 0.8"),
        ({"energy": float("nan")}, "energy=nan: it must lie between 0 and 1"),
        ({"rank": 0}, "rank=0: it must be at least 1"),
        ({"rank": 2.5}, "rank=2.5: it must be a whole number"),
        ({"rank": 99}, "rank=99 is more than any of these layers can have: 40 at most"),
        ({"keep": 0.01}, "keep=0.01 can't be reached"),
        ({"keep": 0.5, "min_rank": 0}, "min_rank=0: it must be at least 1"),
        ({"keep": 0.5, "only": "encoder.*"}, "only='encoder.*' matches no layer: there are 0, 2, 4"),
        ({"keep": 0.5, "refit": True}, "refit=True needs calibration="),
        ({"keep": 0.5, "method": "activation"}, "method='activation' needs calibration="),
        ({"keep": 0.5, "calibration": []}, "the calibration is empty: pass at least one batch"),
        ({"keep": 0.5, "method": "magic"}, "method='magic' is not known"),
        (
            {"keep": 0.5, "calibration": torch.full((4, 24), float("nan"))},
            "layer '0' sees NaN or infinity on calibration batch 0",
        ),
        ({"keep": 0.5, "calibration": torch.ones(4, 7)}, "the model failed on calibration batch 0 (RuntimeError"),
        (
            {"keep": 0.5, "calibration": X, "forward": lambda m, b: b},
            "the calibration reaches none of the layers (0, 2, 4): it has to run the model",
        ),
        ({"keep": 0.5, "evaluate": lambda m: "good"}, "evaluate returned a str"),
        ({"keep": 0.5, "evaluate": lambda m: float("nan")}, "evaluate returned nan for the model as it is"),
    ],
)
def test_bad_input_is_told_in_one_line(options, message):
    with pytest.raises(es.InputError) as caught:
        es.compress(mlp(), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_a_model_is_told_in_one_line():
    broken = mlp()
    broken[2].weight.data[0, 0] = float("inf")
    with pytest.raises(es.InputError, match="layer '2' holds NaN or infinity"):
        es.compress(broken, keep=0.5)
    broken = mlp()
    broken[4].bias.data[0] = float("nan")
    with pytest.raises(es.InputError, match="layer '4' holds NaN or infinity"):
        es.compress(broken, keep=0.5)
    broken = mlp()
    broken[0].forward = broken[0].forward
    assert es.compress(broken, rank=3).report.skipped[0].reason.startswith("its forward was replaced")
    with pytest.raises(es.InputError, match="Embedding has no layer to compress"):
        es.compress(nn.Embedding(5, 5), keep=0.5)
    with pytest.raises(es.InputError, match="parameter 'weight' is on the meta device"):
        es.compress(nn.Linear(8, 8, device="meta"), keep=0.5)
    with pytest.raises(es.InputError, match="the model is a OrderedDict"):
        es.compress(mlp().state_dict(), keep=0.5)


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.8])
def test_the_budget_holds_where_biases_are_added(keep):
    with seeded(0):
        model = nn.Sequential(nn.Linear(24, 40, bias=False), nn.Tanh(), nn.Linear(40, 30, bias=False))
    made = es.compress(model, stretched(300, 24) + 3, keep=keep)
    assert any("bias" in name for name, _ in made.model.named_parameters())
    assert sum(p.numel() for p in made.model.parameters()) <= keep * sum(p.numel() for p in model.parameters())


def test_a_metric_that_compression_ruins_is_null_with_a_note():
    def perplexity(model):
        return 2.0 if isinstance(model[0], nn.Linear) else float("inf")

    report = es.compress(mlp(), rank=3, evaluate=perplexity).report
    assert (report.metric, report.metric_after) == (2.0, None)
    assert "evaluate returned inf for the compressed model: it has no value there" in report.notes
    curve = es.compression_curve(mlp(), keeps=(0.5,), evaluate=perplexity)
    assert curve.points[0].metric is None
    assert "evaluate returned inf for the compressed model at keep=0.5: it has no value there" in curve.notes


def test_all_of_the_energy_may_be_asked_for():
    with seeded(0):
        model = nn.Linear(40, 40).double()
        model.weight.data = torch.randn(40, 5).double() @ torch.randn(5, 40).double()
    (layer,) = es.compress(model, energy=1).report.layers
    assert (layer.rank, layer.weight_error) == (5, pytest.approx(0, abs=1e-6))


def test_advice_can_be_followed():
    with pytest.raises(es.InputError, match=r"give more$"):
        es.compress(mlp(), keep=0.01)
    with pytest.raises(es.InputError, match=r"give more, or a smaller min_rank$"):
        es.compress(mlp(), keep=0.1, min_rank=9)

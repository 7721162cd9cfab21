"""`lipschitz` end to end: bounds in order on every model, radii in order on every sample, and clear refusals."""

import copy
import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from bounds.networks import F, Function, linear, steepest
from eigenscope.bounds.certify import LipschitzReading, lipschitz
from eigenscope.errors import InputError

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
BOUNDED = ["regression", "mlp_tanh", "mlp_relu", "batchnorm_conv", "layernorm_silu", "groupnorm_conv", "ragged",
           "compiled_module", "compiled_part", "compiled_in_place", "mnist_mlp"]  # fmt: skip
ATTENTION = ["causal_transformer", "hf_gpt2", "hf_bert", "hf_llama", "gpt_nano_sort"]


def _measure(name: str, **settings: Any) -> LipschitzReading:
    model, _, batches = zoo.CASES[name].build()
    return lipschitz(model, batches, **settings)


def _strict_json(reading: LipschitzReading) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(json.dumps(reading.to_dict(), allow_nan=False))
    return decoded


@pytest.mark.parametrize("name", BOUNDED)
def test_bounds_and_radii_are_in_order(name: str) -> None:
    reading = _measure(name, max_samples=8)
    lower, upper, product = reading.lipschitz_lower, reading.lipschitz_upper, reading.lipschitz_product
    assert lower.value is not None, lower.reason
    assert upper.value is not None, upper.reason
    assert product.value is not None
    assert reading.local is not None
    assert 0 < reading.local <= lower.value <= upper.value <= product.value * (1 + 1e-9)
    for sample in reading.samples:
        assert sample.certified_radius is not None
        assert sample.certified_radius <= (math.inf if sample.attacked_radius is None else sample.attacked_radius)
        assert (sample.certified_radius > 0) == (sample.margin > 0)
    assert _strict_json(reading)["ratio"] == pytest.approx(upper.value / lower.value)


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_has_no_global_bound_and_a_local_figure(name: str) -> None:
    reading = _measure(name, max_samples=2, ascent_steps=4)
    assert reading.no_global_bound is not None
    assert "dot-product attention is not Lipschitz" in reading.no_global_bound
    assert (
        "attn" in reading.no_global_bound
        or "attention" in reading.no_global_bound
        or "blocks" in reading.no_global_bound
    )
    assert reading.lipschitz_upper.value is None
    assert reading.lipschitz_upper.reason == reading.no_global_bound
    assert reading.local is not None
    assert reading.local > 0
    assert reading.ratio is None
    assert any("embedding" in note for note in reading.notes)
    assert {layer.kind for layer in reading.layers} >= {"Linear"}
    _strict_json(reading)


def test_a_linear_model_is_known_exactly() -> None:
    model = linear(6, 4)
    exact = float(torch.linalg.matrix_norm(model.weight.detach().double(), 2))
    reading = lipschitz(model, X)
    assert reading.lipschitz_upper.value == pytest.approx(exact, rel=1e-7)
    assert reading.lipschitz_lower.value == pytest.approx(exact, rel=2e-5)
    assert reading.lipschitz_lower.value <= exact
    assert reading.method == "composition"


def test_dense_chains_are_bounded_by_eclipse() -> None:
    """mnist-mlp: the product of the layers' norms is 0.5285."""
    reading = _measure("mnist_mlp", max_samples=4)
    assert reading.method == "eclipse_fast"
    assert reading.lipschitz_product.value == pytest.approx(0.5285, abs=1e-4)
    assert reading.lipschitz_upper.value == pytest.approx(0.4320, abs=1e-4)


def test_a_real_resnet_folds_its_batch_norms() -> None:
    reading = _measure("resnet20", max_samples=4, attack=False, ascent_steps=0)
    assert any(note.startswith("19 batch norms folded") for note in reading.notes)
    assert reading.lipschitz_upper.value is not None
    assert reading.lipschitz_product.value is not None
    assert reading.lipschitz_upper.value < reading.lipschitz_product.value / 100
    convolutions = [layer for layer in reading.layers if layer.kind == "Conv2d"]
    assert len(convolutions) == 19
    assert [layer.name for layer in convolutions[:2]] == ["conv1", "layer1.0.conv1"]
    for layer in convolutions:
        assert layer.norm is not None
        assert layer.exact or (layer.lower is not None and layer.norm < 1.021 * layer.lower)


def test_the_lower_bound_is_the_jacobians_norm_on_the_data() -> None:
    """By dense Jacobians of PyTorch's own, and by Lanczos where there are too many outputs to write J out."""
    for width in (4, 40):
        model = nn.Sequential(linear(6, 8), nn.Tanh(), linear(8, width, 1))
        jacobians = [torch.autograd.functional.jacobian(model, x[None]).reshape(width, 6) for x in X]
        exact = max(float(torch.linalg.matrix_norm(j.double(), 2)) for j in jacobians)
        reading = lipschitz(model, X, ascent_steps=0)
        assert reading.local == pytest.approx(exact, rel=1e-2)
        assert reading.local <= exact * (1 + 1e-6)


def test_ascent_finds_steeper_points_than_the_data_has() -> None:
    """tanh(3x) is steepest at 0, the data lies at 2: the slope 3 is found."""
    model = Function(lambda x: (3 * x).tanh())
    x = torch.full((4, 1), 2.0)
    still, climbed = (lipschitz(model, x, ascent_steps=steps).lipschitz_lower.value for steps in (0, 200))
    assert still is not None
    assert climbed is not None
    assert still < 0.01
    assert 2.5 < climbed <= 3.0


def test_ascent_never_passes_a_slope_that_is_not_there() -> None:
    model = nn.Sequential(linear(6, 8), nn.ReLU(), linear(8, 3, 1))
    reading = lipschitz(model, X)
    assert reading.lipschitz_lower.value is not None
    assert reading.lipschitz_lower.value >= 0.99 * steepest(model, 6, points=50)
    assert reading.lipschitz_upper.value is not None
    assert reading.lipschitz_lower.value <= reading.lipschitz_upper.value


def test_labels_decide_the_margin() -> None:
    model = linear(6, 4)
    predicted = model(X).argmax(1)
    right, wrong = lipschitz(model, (X, predicted)), lipschitz(model, (X, (predicted + 1) % 4))
    assert all(sample.margin > 0 and sample.label == sample.predicted for sample in right.samples)
    assert all(sample.margin < 0 and sample.certified_radius == 0 for sample in wrong.samples)
    assert all(sample.label is None for sample in lipschitz(model, X).samples)


def test_real_targets_have_no_answer_to_flip() -> None:
    autoencoder = linear(6, 6)
    reading = lipschitz(autoencoder, (X, X))
    assert (reading.samples, reading.certified_radius) == ((), None)
    assert any("the targets are real numbers" in note for note in reading.notes)
    assert reading.risk.startswith("no margin, so no radius; on the probe a small change is magnified")


def test_shares_of_classes_count_as_their_largest() -> None:
    model = linear(6, 4)
    shares = 0.9 * F.one_hot(model(X).argmax(1), 4) + 0.1 / 4  # label smoothing
    assert [s.label for s in lipschitz(model, (X, shares)).samples] == model(X).argmax(1).tolist()


def test_without_labels_an_answer_is_not_called_right() -> None:
    model = linear(6, 4)
    assert "of 8 answers" in lipschitz(model, X).risk
    assert "of 8 right answers" in lipschitz(model, (X, model(X).argmax(1))).risk


def test_one_output_has_no_margin() -> None:
    reading = lipschitz(linear(6, 1), X)
    assert reading.samples == ()
    assert reading.certified_radius is None
    assert "no margin" in reading.risk


def test_one_sample_is_enough() -> None:
    reading = lipschitz(linear(6, 3), X[:1])
    assert len(reading.samples) == 1


def test_the_same_seed_gives_the_same_reading() -> None:
    first, second = (_measure("mlp_tanh", max_samples=4, seed=3).to_dict() for _ in range(2))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_progress_counts_up_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    lipschitz(linear(6, 3), X, progress=lambda done, most: seen.append((done, most)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == seen[-1][1]


def test_a_reading_can_be_read() -> None:
    text = str(lipschitz(linear(6, 3), X))
    assert "proven" in text
    assert "certified" in text


# -- what is left behind --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["batchnorm_conv", "hf_gpt2", "lstm", "compiled_in_place"])
def test_nothing_is_left_behind(name: str) -> None:
    model, loss_fn, batches = zoo.CASES[name].build()
    loss_fn(model, batches[0]).backward()  # type: ignore[no-untyped-call]
    for index, module in enumerate(model.modules()):
        module.training = index % 2 == 0
    before = _state(model, batches)
    lipschitz(model, batches, max_samples=2, ascent_steps=2)
    after = _state(model, batches)
    for key, value in before.items():
        assert after[key] == value, key


def _state(model: nn.Module, batches: Any) -> dict[str, Any]:
    return {
        "values": {k: v.tolist() for k, v in model.state_dict().items()},
        "identities": {k: id(v) for k, v in model.state_dict(keep_vars=True).items()},
        "requires_grad": {k: p.requires_grad for k, p in model.named_parameters()},
        "grads": {k: None if p.grad is None else p.grad.tolist() for k, p in model.named_parameters()},
        "modes": {k: m.training for k, m in model.named_modules()},
        "hooks": {k: len(m._forward_hooks) + len(m._forward_pre_hooks) for k, m in model.named_modules()},
        "attributes": {k: sorted(vars(m)) for k, m in model.named_modules()},
        "random": torch.get_rng_state().tolist(),
        "batches": copy.deepcopy(str(batches)),
    }


def test_a_model_that_works_in_place_on_its_input_leaves_the_probe_alone() -> None:
    def body(x: Tensor, layer: nn.Module) -> Tensor:
        x.mul_(2.0)
        out: Tensor = layer(x).relu_()
        return out

    layer, x = linear(6, 3), X.clone()
    reading = lipschitz(Function(body, layer), x)
    assert torch.equal(x, X)
    exact = 2 * float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2))
    assert reading.lipschitz_upper.value == pytest.approx(exact, rel=1e-6)


# -- what can't be done ---------------------------------------------------------------------------------------------


def test_a_recurrent_network_says_which_layer_has_no_rule() -> None:
    reading = _measure("lstm", max_samples=2, ascent_steps=2)
    assert reading.lipschitz_upper.value is None
    assert reading.lipschitz_upper.reason == "layer 'lstm': no rule for the operation lstm"
    assert reading.no_global_bound is None
    assert reading.lipschitz_lower.value is not None
    assert [layer.kind for layer in reading.layers] == ["Linear"]


def test_a_branch_on_the_data_ends_the_bound_but_not_the_layers() -> None:
    def body(x: Tensor, f: nn.Module, g: nn.Module) -> Tensor:
        out: Tensor = f(x) if bool(x.sum() > 0) else g(x)
        return out

    reading = lipschitz(Function(body, linear(6, 3), linear(6, 3, 1)), X, ascent_steps=2)
    assert reading.lipschitz_upper.value is None
    assert reading.lipschitz_upper.reason is not None
    assert "can't be exported" in reading.lipschitz_upper.reason
    assert "\n" not in reading.lipschitz_upper.reason
    assert [layer.kind for layer in reading.layers] == ["Linear"]  # of the branch that the probe takes


def test_samples_that_are_mixed_are_measured_one_by_one() -> None:
    model = Function(lambda x, f: f(x) - f(x).mean(0, keepdim=True) / 2, linear(6, 3))
    reading = lipschitz(model, X, ascent_steps=2)
    assert any("mixes the samples" in note for note in reading.notes)
    assert len(reading.samples) == len(X)


class _NotATensor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> str:
        return "no"


def _with_nan_weight() -> nn.Module:
    model = linear(6, 3)
    model.weight.data[0, 0] = math.nan
    return model


def _diverging() -> nn.Module:
    return nn.Sequential(linear(6, 4), Function(lambda x: x / 0.0 * 0.0), linear(4, 3))


REFUSED = {
    "not a module": (lambda: 3, X, "the model is a int"),
    "no tensor": (_NotATensor, X, "the model returns a str without a floating tensor"),
    "empty probe": (lambda: linear(6, 3), [], "the probe is empty"),
    "no samples": (lambda: linear(6, 3), X[:0], "the probe holds no sample"),
    "NaN input": (lambda: linear(6, 3), X * math.nan, "an input holds NaN"),
    "NaN weight": (_with_nan_weight, X, "parameter 'weight' holds NaN"),
    "NaN activation": (_diverging, X, "layer '1' is the first to give NaN or infinity"),
    "wrong width": (lambda: linear(5, 3), X, "can't be run on the probe .RuntimeError: mat1 and mat2"),
    "integers without an embedding": (lambda: Function(lambda x: x.float()), X.long(), "index no embedding"),
    "mean over the batch": (lambda: Function(lambda x, f: f(x).mean(), linear(6, 3)), X, "one row a sample is needed"),
    "meta device": (lambda: nn.Linear(6, 3, device="meta"), X, "is on the meta device"),
    "constant": (lambda: Function(lambda x: torch.ones(len(x), 3)), X, "the output does not depend on the input"),
    "a scalar": (lambda: linear(6, 3), torch.tensor(1.0), "an input is a single number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_measured_is_refused_in_one_line(name: str) -> None:
    build, batches, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        lipschitz(build(), batches)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"max_samples": 0}, {"ascent_steps": -1}])
def test_settings_out_of_range_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match="are needed"):
        lipschitz(linear(6, 3), X, **settings)


def test_functional_layers_count_too() -> None:
    weight = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    reading = lipschitz(Function(lambda x: F.linear(x, weight)), X)
    assert reading.lipschitz_upper.value == pytest.approx(float(torch.linalg.matrix_norm(weight.double(), 2)), rel=1e-6)

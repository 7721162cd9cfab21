"""Certificates that looked right and were not: each of these was once claimed too small, or claimed at all."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bounds.networks import Function, linear, steepest
from eigenscope.bounds import everywhere, rules
from eigenscope.bounds.certify import lipschitz
from eigenscope.bounds.composition import Walk
from eigenscope.bounds.gate import contradiction
from eigenscope.bounds.graph import export
from eigenscope.bounds.inputs import Samples
from eigenscope.bounds.local import LocalModel
from eigenscope.bounds.robustness import SampleRobustness, certified_radii, margins
from eigenscope.bounds.rules import walk
from eigenscope.bounds.value import Value

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def _walk(model: nn.Module, *shape: int) -> tuple[Walk, Value]:
    state = walk(export(model.eval(), Samples(torch.ones(1, *shape))))
    return state, state.values[state.graph.output]


class _Conv1D(nn.Module):
    """Of transformers: a dense layer whose weight lies the other way round, run as `addmm`."""

    def __init__(self, weight: Tensor, alpha: float = 1.0) -> None:
        super().__init__()
        self.weight, self.bias, self.alpha = nn.Parameter(weight), nn.Parameter(torch.zeros(weight.shape[1])), alpha

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight, alpha=self.alpha)


@pytest.mark.parametrize("size", [12, 64])
@pytest.mark.parametrize("kind", ["addmm", "scaled addmm", "linear", "matmul"])
def test_layers_of_equal_shape_have_each_their_own_norm(kind: str, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(size, size, generator=generator) * 10.0 ** (k - 2) for k in range(5)]
    alpha = 0.5 if kind == "scaled addmm" else 1.0

    def layer(x: Tensor, k: int, module: nn.Module) -> Tensor:
        if kind == "linear":
            return F.linear(x, weights[k])
        out: Tensor = x @ (weights[k] * 1.0) if kind == "matmul" else module(x)
        return out

    def body(x: Tensor, *modules: nn.Module) -> Tensor:
        for k, module in enumerate(modules):
            x = layer(x, k, module).tanh()
        return x

    state, _ = _walk(Function(body, *[_Conv1D(weight, alpha) for weight in weights]), size)
    norms = [layer.norm for layer in state.layers if layer.kind != "tanh"]
    assert norms == pytest.approx([alpha * float(torch.linalg.matrix_norm(w.double(), 2)) for w in weights], rel=1e-6)


# -- arguments that depend on the input -------------------------------------------------------------------------------

DEPENDENT: dict[str, Callable[[Tensor], Tensor]] = {
    "the bias of a dense layer": lambda x: F.linear(x, torch.eye(6), 5 * x[0]),
    "the weight of a dense layer": lambda x: F.linear(x, x),
    "the bias of a convolution": lambda x: F.conv1d(x.unsqueeze(1), torch.ones(6, 1, 1), 5 * x[0]),
    "the summand of addmm": lambda x: torch.addmm(9 * x, x, torch.eye(6)),
    "the weight of a layer norm": lambda x: F.layer_norm(x, (6,), x[0]),
    "the weight of a PReLU": lambda x: F.prelu(x, 3 * x[0].abs()),
    "the indices of gather": lambda x: x.gather(1, x.argsort(1)),
    "the mask": lambda x: x.masked_fill(x > 0, 0.0),
    "what a mask fills in": lambda x: x.masked_fill(torch.ones(6).bool(), 9 * x[0, 0]),
    "the exponent": lambda x: torch.ones(6) ** x,
}


@pytest.mark.parametrize("name", DEPENDENT)
def test_an_argument_that_depends_on_the_input_is_never_overlooked(name: str) -> None:
    _, value = _walk(Function(DEPENDENT[name]), 6)
    assert value.bound is None
    assert value.reason


@pytest.mark.parametrize(
    "body",
    [
        lambda x: torch.clamp(x, min=5 * x.flip(-1)),
        lambda x: torch.clamp(x, min=torch.full((5, 6), -9.0)),
        lambda x: torch.clamp(x, max=torch.full((5, 6), 9.0)),
        lambda x: torch.clamp(x, 2 * x.flip(-1), 3 * x.roll(1, -1)),
        lambda x: torch.max(x, 4 * x.flip(-1)),
        lambda x: x.sort(-1).values + x.max(-1, keepdim=True).values,
        lambda x: torch.linalg.vector_norm(x, 1, dim=-1),
        lambda x: torch.ones(3, 5, 6).to(x) @ x.unsqueeze(-1),
    ],
)
def test_clamps_extremes_and_broadcasts_stay_above_every_slope(body: Callable[[Tensor], Tensor]) -> None:
    model = Function(body)
    _, value = _walk(model, 6)
    assert value.bound is not None, value.reason
    assert steepest(model.eval(), 6) <= value.bound * (1 + 1e-9)


JUMPS: dict[str, Callable[[Tensor], Tensor]] = {
    "div floor": lambda x: torch.div(x, 0.5, rounding_mode="floor"),
    "div trunc": lambda x: torch.div(x, 0.5, rounding_mode="trunc"),
    "softplus": lambda x: F.softplus(x, threshold=0.5),
    "celu": lambda x: F.celu(x, alpha=-1.0),
    "dropout": lambda x: F.dropout(x, 0.5, training=True),
    "rrelu": lambda x: F.rrelu(x, training=True),
}


@pytest.mark.parametrize("name", JUMPS)
def test_settings_that_jump_or_explode_end_the_bound(name: str) -> None:
    assert _walk(Function(JUMPS[name]), 6)[1].bound is None


# -- rules that fail --------------------------------------------------------------------------------------------------


def test_a_rule_that_fails_ends_the_bound_and_not_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Value:
        raise IndexError("not thought of")

    monkeypatch.setitem(rules.RULES, "flip", replace(rules.RULES["flip"], bound=fails))
    reading = lipschitz(Function(lambda x, f: f(x).flip(-1), linear(6, 3)), X, ascent_steps=2, attack=False)
    assert reading.lipschitz_upper.reason == "the model itself: no rule for flip of these arguments"
    assert reading.lipschitz_lower.value is not None


@pytest.mark.parametrize("mode", ["linear", "nearest", "nearest-exact"])
def test_upsampling_along_one_axis_is_exact(mode: str) -> None:
    model = Function(lambda x: F.interpolate(x, scale_factor=1.7, mode=mode))
    assert _walk(model, 2, 7)[1].bound == pytest.approx(steepest(model, 2, 7, points=1), rel=1e-6)


@pytest.mark.parametrize("settings", [{"size": (13, 4)}, {"scale_factor": 0.6}, {"scale_factor": (2.0, 0.3)}])
def test_upsampling_is_exact_at_any_scale(settings: dict[str, Any]) -> None:
    model = Function(lambda x: F.interpolate(x, mode="bilinear", **settings))
    assert _walk(model, 2, 7, 6)[1].bound == pytest.approx(steepest(model, 2, 7, 6, points=1), rel=1e-6)


def test_a_product_with_a_vector_is_exact() -> None:
    vector = torch.arange(6.0)
    assert _walk(Function(lambda x: x @ vector), 6)[1].bound == pytest.approx(float(vector.norm()), rel=1e-6)


# -- nothing may contradict a certificate -----------------------------------------------------------------------------


def test_a_bound_below_a_slope_that_was_found_is_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug: every constant is taken for a hundredth of what it is."""
    real = everywhere.walk

    def wrong(*arguments: Any, **named: Any) -> Walk:
        state = real(*arguments, **named)
        state.values = {name: v.through(0.01) for name, v in state.values.items()}
        return state

    monkeypatch.setattr(everywhere, "walk", wrong)
    reading = lipschitz(linear(6, 3), X)
    assert reading.lipschitz_upper.value is None
    assert reading.lipschitz_product.value is None
    assert reading.certified_radius is None
    assert all(sample.certified_radius is None for sample in reading.samples)
    assert "withdrawn: a slope of" in str(reading.lipschitz_upper.reason)
    assert "this is a bug in eigenscope" in reading.risk


def test_an_attack_within_a_certified_radius_withdraws_it() -> None:
    sample = SampleRobustness(3, 0, 0, 1.0, 0.5, 0.4, 10.0)
    assert contradiction(1.0, 2.0, [sample]) is not None
    assert contradiction(1.0, 2.0, [replace(sample, certified_radius=0.3)]) is None
    assert contradiction(1.0, None, [sample]) is None
    assert contradiction(2.0 * (1 + 1e-9), 2.0, []) is None


def test_two_rows_that_are_almost_equal_keep_the_rounding_of_their_difference() -> None:
    """The rows differ by 1e-9 of their length; their Gram matrix can't tell."""
    weight = torch.ones(2, 6, dtype=torch.float64) * 1e4
    weight[1, 0] += 1e-4
    logits = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    gram = weight @ weight.T
    gram[0, 1] = gram[1, 0] = (gram[0, 0] + gram[1, 1]) / 2  # as rounding may leave it
    radius = float(certified_radii(margins(logits, None), logits, 1e9, gram)[0])
    assert radius <= 1.0 / float((weight[0] - weight[1]).norm())


def test_a_kink_is_no_slope() -> None:
    """At 0 PyTorch gives both halves the slope 1; the identity has 1, not 2."""
    model = Function(lambda x: x.clamp(max=0.0) + x.clamp(min=0.0))
    reading = lipschitz(model, torch.zeros(2, 4), ascent_steps=0, attack=False)
    assert reading.lipschitz_lower.value is not None
    assert 0.99 < reading.lipschitz_lower.value <= 1.0


def test_a_gradient_passed_straight_through_is_no_slope() -> None:
    model = Function(lambda x: 0.1 * x + (5 * x - (5 * x).detach()))
    reading = lipschitz(model, X, ascent_steps=4, attack=False)
    assert reading.lipschitz_lower.value is not None
    assert reading.lipschitz_lower.value <= 0.1


@pytest.mark.parametrize(
    "body",
    [
        lambda x: x + torch.cat([torch.zeros_like(x[:1]), x[:-1]]),
        lambda x: x + torch.cat([x[1:], torch.zeros_like(x[:1])]),
        lambda x: (x - x.mean(0)).softmax(1),
    ],
)
def test_samples_that_reach_each_other_are_noticed(body: Callable[[Tensor], Tensor]) -> None:
    assert LocalModel(Function(body), Samples(X)).mixes_samples()
    assert not LocalModel(Function(lambda x: x.softmax(1)), Samples(X)).mixes_samples()


def test_a_reshape_does_not_carry_a_convolution_to_other_channels() -> None:
    """A batch norm behind it works on other axes than the convolution's channels."""
    norm = nn.BatchNorm1d(10)
    norm.weight.data = torch.tensor([100.0] + [0.01] * 9)
    model = Function(lambda x, conv, bn: bn(conv(x).flatten(1, 2)), nn.Conv2d(2, 2, 3, padding=1), norm).eval()
    state, value = _walk(model, 2, 5, 5)
    assert state.folded == 0
    assert value.bound is not None
    assert steepest(model, 2, 5, 5, points=1) <= value.bound


# -- what is said to have no constant ---------------------------------------------------------------------------------

HAVE_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "softsign": lambda x: F.softsign(x),
    "SiLU by hand": lambda x: x * x.sigmoid(),
    "a Fourier transform": lambda x: torch.fft.fft(x).real,
    "ReLU by where": lambda x: torch.where(x > 0, x, 0.0),
    "attention to constant keys": lambda x: F.scaled_dot_product_attention(
        x.view(-1, 1, 6), torch.ones(1, 3, 6), torch.ones(1, 3, 6)
    ),
}


@pytest.mark.parametrize("name", HAVE_ONE)
def test_a_model_without_a_rule_is_not_said_to_have_no_constant(name: str) -> None:
    reading = lipschitz(Function(HAVE_ONE[name]), X, ascent_steps=0, attack=False)
    assert reading.lipschitz_upper.value is None
    assert reading.lipschitz_upper.reason
    assert reading.no_global_bound is None


class _Counting(nn.Module):
    """Also works out what its answer does not use: a jump, a square, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear(6, 3)
        self.register_buffer("usage", torch.zeros(()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.layer(x)
        self.usage.copy_((y > 0).float().mean())
        return y, F.scaled_dot_product_attention(y, y, y) * y


def test_what_the_answer_does_not_use_does_not_end_the_bound() -> None:
    reading = lipschitz(_Counting(), X, ascent_steps=0, attack=False)
    assert reading.lipschitz_upper.value is not None
    assert reading.no_global_bound is None

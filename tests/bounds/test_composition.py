"""The bound of a whole graph: above every slope there is, equal to it where a closed form says so, or none."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bounds.networks import Function, linear, shaken_batch_norm, steepest
from eigenscope.bounds.composition import Walk
from eigenscope.bounds.graph import export
from eigenscope.bounds.inputs import Samples
from eigenscope.bounds.rules import walk
from eigenscope.bounds.value import Value


def _walk(model: nn.Module, *shape: int) -> tuple[Walk, Value]:
    state = walk(export(model.eval(), Samples(torch.ones(1, *shape))))
    return state, state.values[state.graph.output]


def _bound(model: nn.Module, *shape: int) -> float:
    _, value = _walk(model, *shape)
    assert value.bound is not None, value.reason
    assert value.product is not None
    assert value.bound <= value.product * (1 + 1e-12)
    return value.bound


def _norm(layer: nn.Linear) -> float:
    return float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2))


def test_a_linear_network_is_exact_because_its_layers_are_folded() -> None:
    first, second = linear(6, 5), linear(5, 4, seed=1)
    product = second.weight.detach().double() @ first.weight.detach().double()
    expected = float(torch.linalg.matrix_norm(product, 2))
    assert _bound(nn.Sequential(first, nn.Dropout(), second), 6) == pytest.approx(expected, rel=1e-7)


def test_a_residual_connection_adds() -> None:
    layer = linear(5, 5)
    model = Function(lambda x, f: x + f(x).relu(), layer)
    assert _bound(model, 5) == pytest.approx(1 + _norm(layer), rel=1e-7)


def test_a_concatenation_adds_squares() -> None:
    first, second = linear(5, 3), linear(5, 4, seed=1)
    model = Function(lambda x, f, g: torch.cat([f(x), g(x)], 1), first, second)
    assert _bound(model, 5) == pytest.approx(math.hypot(_norm(first), _norm(second)), rel=1e-7)


def test_a_layer_used_twice_counts_twice_and_is_listed_twice() -> None:
    layer = linear(5, 5)
    state, value = _walk(Function(lambda x, f: f(f(x).abs()), layer), 5)
    assert value.bound == pytest.approx(_norm(layer) ** 2, rel=1e-7)
    assert [entry.name for entry in state.layers if entry.kind == "Linear"] == ["layers.0", "layers.0#2"]


def test_a_layer_never_used_is_not_listed() -> None:
    state, _ = _walk(Function(lambda x, f, _: f(x), linear(3, 3), linear(3, 3)), 3)
    assert [entry.name for entry in state.layers] == ["layers.0"]


def test_batch_norm_is_folded_into_the_convolution_before_it() -> None:
    conv, norm = nn.Conv2d(2, 3, 3, padding=1), shaken_batch_norm(nn.BatchNorm2d(3))
    model = nn.Sequential(conv, norm)
    state, value = _walk(model, 2, 5, 5)
    exact = steepest(model, 2, 5, 5, points=1)  # it is affine: one point says all
    assert state.folded == 1
    assert value.bound == pytest.approx(exact, rel=1e-6)
    assert value.product is not None
    assert value.bound is not None
    assert value.product > 1.01 * value.bound


def test_batch_norm_is_folded_into_the_dense_layer_before_it() -> None:
    model = nn.Sequential(linear(6, 5), shaken_batch_norm(nn.BatchNorm1d(5)))
    assert _bound(model, 6) == pytest.approx(steepest(model, 6, points=1), rel=1e-6)


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
def test_padding_modes_belong_to_the_convolution(mode: str) -> None:
    model = nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode)
    assert _bound(model, 2, 6, 6) == pytest.approx(steepest(model, 2, 6, 6, points=1), rel=1e-6)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name(padding: str) -> None:
    model = nn.Conv2d(2, 3, (2, 3), padding=padding)
    assert _bound(model, 2, 6, 6) == pytest.approx(steepest(model, 2, 6, 6, points=1), rel=1e-6)


@pytest.mark.parametrize(
    "settings", [{}, {"stride": 2}, {"stride": 2, "padding": 1, "output_padding": 1}, {"groups": 2}]
)
def test_transposed_convolutions_are_adjoints(settings: dict[str, int]) -> None:
    model = nn.ConvTranspose2d(4, 2, 3, **settings)
    assert _bound(model, 4, 5, 5) == pytest.approx(steepest(model, 4, 5, 5, points=1), rel=1e-6)


LINEAR: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "slice": (lambda x: x[:, :, ::2], (2, 6)),
    "expand": (lambda x: x.unsqueeze(1).expand(-1, 3, -1), (4,)),
    "repeat": (lambda x: x.repeat(1, 3), (4,)),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, -1), (4,)),
    "index": (lambda x: x[:, [0, 0, 0, 2]], (4,)),
    "roll and flip": (lambda x: x.roll(1, -1).flip(-1), (4,)),
    "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2), (4, 2, 2)),
    "zero padding": (lambda x: F.pad(x, (1, 2)), (4,)),
    "replicated padding": (lambda x: F.pad(x, (2, 1), mode="replicate"), (2, 4)),
    "sum": (lambda x: x.sum(-1), (2, 5)),
    "mean": (lambda x: x.mean((2, 3)), (2, 4, 4)),
    "scale": (lambda x: 3 * x / torch.tensor([1.0, 2.0, 0.5]), (3,)),
    "minus itself": (lambda x: 5 - 2 * x, (3,)),
    "broadcast constant": (lambda x: x + torch.ones(4, 1), (3,)),
    "average pool": (lambda x: F.avg_pool2d(x, 3, 2, 1), (2, 6, 6)),
    "nearest upsampling": (lambda x: F.interpolate(x, scale_factor=2), (2, 3, 3)),
    "bilinear upsampling": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (2, 3, 3)),
    "constant matrix": (lambda x: x @ torch.arange(12.0).view(4, 3).to(x), (4,)),
    "masked": (lambda x: x.masked_fill(torch.tensor([True, False, True]), 7.0), (3,)),
    "written in place": (_in_place := lambda x: x.clone().mul_(2.0).add_(1.0), (3,)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_operations_are_exact(name: str) -> None:
    body, shape = LINEAR[name]
    model = Function(body)
    assert _bound(model, *shape) == pytest.approx(steepest(model, *shape, points=1), rel=1e-6)


BOUNDED: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "softmax": (lambda x: x.softmax(-1), (2,)),
    "log_softmax": (lambda x: (20 * x).log_softmax(-1), (4,)),
    "max pool": (lambda x: F.max_pool2d(x, 3, 2, 1), (1, 6, 6)),
    "chunks": (lambda x: torch.cat([part.tanh() for part in x.chunk(2, 1)], 1), (6,)),
    "maximum": (lambda x: torch.maximum(x, 2 * x.flip(-1)), (4,)),
    "where": (lambda x: torch.where(torch.tensor([True, False, True]), x, -x), (3,)),
    "stack": (lambda x: torch.stack([x, x.sin()], 1), (3,)),
    "amax": (lambda x: x.amax(-1), (2, 5)),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_other_operations_are_never_below_a_slope(name: str) -> None:
    body, shape = BOUNDED[name]
    model = Function(body)
    true = steepest(model, *shape)
    assert true <= _bound(model, *shape) * (1 + 1e-9)
    assert _bound(model, *shape) < 3 * true


@pytest.mark.parametrize("seed", range(4))
def test_small_networks_are_above_every_slope(seed: int) -> None:
    model = nn.Sequential(
        linear(6, 8, seed), nn.ReLU(), linear(8, 8, seed + 10), nn.GELU(), linear(8, 7, seed + 20), nn.Sigmoid(),
        linear(7, 3, seed + 30), nn.LeakyReLU(0.2),
    )  # fmt: skip
    assert steepest(model, 6) <= _bound(model, 6)


def test_weights_behind_a_parametrization_are_the_effective_ones() -> None:
    normed = nn.utils.parametrizations.spectral_norm(linear(6, 5), n_power_iterations=50)
    weighted = nn.utils.parametrizations.weight_norm(linear(5, 4, seed=1))
    state, _ = _walk(nn.Sequential(normed, nn.ReLU(), weighted), 6)
    first, _, last = state.layers
    assert first.norm == pytest.approx(1.0, abs=1e-4)
    assert last.norm == pytest.approx(_norm(weighted), rel=1e-6)
    assert first.name == "0"


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "gate": (lambda x: x * x.sigmoid(), "a product of two tensors that both depend on the input has no constant"),
    "square": (lambda x: x**2, "pow has no constant"),
    "division": (lambda x: x / (1 + x.abs()), "a division by a tensor that depends on the input has no constant"),
    "own attention": (lambda x: (x @ x.mT).softmax(-1) @ x, "a product of two tensors"),
    "exponential": (lambda x: x.exp(), "exp has no constant"),
    "jump": (lambda x: F.hardshrink(x), "has no constant: it jumps"),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x), "dot-product attention is not Lipschitz"),
    "no rule": (lambda x: x.cumsum(-1), "no rule for the operation cumsum"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_constant_is_named_and_the_rest_is_still_listed(name: str) -> None:
    body, reason = REFUSED[name]
    state, value = _walk(Function(lambda x, f, g: g(body(f(x))), linear(4, 4), linear(4, 4, seed=1)), 4, 4)
    assert value.bound is None
    assert value.reason is not None
    assert reason in value.reason
    assert [entry.name for entry in state.layers if entry.kind == "Linear"] == ["layers.0", "layers.1"]

"""What the bound covers: every shape and side input of the probe, on any device, again and again, in the time given."""

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bounds.networks import Function, linear
from eigenscope.bounds import graph
from eigenscope.bounds.certify import lipschitz
from eigenscope.bounds.convolution import Convolution
from eigenscope.bounds.convolution_norm import convolution_norm
from eigenscope.bounds.graph import Operation
from eigenscope.bounds.memory import LipschitzMemory
from eigenscope.bounds.quick import quick_convolution, quick_dense

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
SETTINGS: dict[str, Any] = {"ascent_steps": 2, "attack": False}


class _Summed(nn.Module):
    """The longer the input, the larger the constant: √length."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 2, bias=False)
        self.layer.weight.data = torch.tensor([[1.0], [-1.0]])

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.sum(1))  # type: ignore[no-any-return]


def test_the_bound_is_that_of_the_largest_shape() -> None:
    labels = torch.zeros(2, dtype=torch.long)
    reading = lipschitz(_Summed(), [(torch.ones(2, 4, 1), labels), (torch.ones(2, 100, 1), labels)])
    assert reading.lipschitz_upper.value == pytest.approx(2**0.5 * 10, rel=1e-6)
    assert reading.ball == "everywhere, for inputs of 4×1, 100×1"
    for sample in reading.samples:
        assert sample.certified_radius is not None
        assert sample.attacked_radius is not None
        assert sample.certified_radius <= sample.attacked_radius


def test_too_many_shapes_are_not_bounded_in_part() -> None:
    reading = lipschitz(_Summed(), [(torch.ones(1, n, 1), torch.zeros(1).long()) for n in range(1, 11)], **SETTINGS)
    assert reading.lipschitz_upper.value is None
    assert reading.lipschitz_upper.reason == "the probe has 10 input shapes: 8 at most are bounded"


class _Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = linear(6, 3)

    def forward(self, x: Tensor, gain: Tensor, sign: int = 1) -> Tensor:
        return self.layer(x * gain) * sign  # type: ignore[no-any-return]


def test_the_bound_is_that_of_the_largest_side_input() -> None:
    model, gain = _Gain(), torch.tensor([[0.1], [1.0], [100.0], [10.0]])
    reading = lipschitz(model, {"x": X, "gain": gain, "sign": -1}, **SETTINGS)
    norm = float(torch.linalg.matrix_norm(model.layer.weight.detach().double(), 2))
    assert reading.lipschitz_upper.value == pytest.approx(100 * norm, rel=1e-6)
    assert reading.lipschitz_lower.value == pytest.approx(100 * norm, rel=1e-3)


class _Lookup(nn.Module):
    """Its constant depends on the integers: how many are not padding."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(5, 4), linear(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out((self.table(ids) * (ids > 0).unsqueeze(-1)).sum(1))  # type: ignore[no-any-return]


def test_integers_that_make_a_mask_count_by_their_values() -> None:
    model = _Lookup()
    reading = lipschitz(model, torch.tensor([[0, 0, 0, 1], [1, 2, 3, 4]]), **SETTINGS)
    norm = float(torch.linalg.matrix_norm(model.out.weight.detach().double(), 2))
    assert reading.lipschitz_upper.value == pytest.approx(2 * norm, rel=1e-6)
    assert reading.lipschitz_lower.value == pytest.approx(2 * norm, rel=1e-3)


# -- devices ----------------------------------------------------------------------------------------------------------


def test_a_rule_sees_its_constants_on_the_cpu() -> None:
    copies: dict[int, tuple[Tensor, Tensor]] = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        weight = torch.empty(3, 3, device="cuda")
        arguments = {"weight": weight, "tensors": [weight, 1.0]}
        moved = Operation("out", "linear", "", None, arguments, (3,), torch.float32).on_cpu(copies).arguments
    assert weight.device.type == "cuda"
    assert moved["weight"].device.type == "cpu"
    assert moved["tensors"][0] is moved["weight"]  # one copy, so that its norm is found once


# -- again ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that a model is exported."""
    seen: list[int] = []
    real = torch.export.export

    def counted(*arguments: Any, **named: Any) -> Any:
        seen.append(1)
        return real(*arguments, **named)

    monkeypatch.setattr(graph.torch.export, "export", counted)
    return seen


def _model() -> nn.Sequential:
    return nn.Sequential(linear(6, 5), nn.BatchNorm1d(5), nn.LeakyReLU(0.1), nn.Dropout(), linear(5, 3, 1))


def test_a_memory_saves_the_export_and_reads_the_numbers_anew(exports: list[int]) -> None:
    model, memory = _model(), LipschitzMemory()
    lipschitz(model, X, memory=memory, **SETTINGS)
    with torch.no_grad():
        model[0].weight.mul_(3.0)
        model[1].running_var.mul_(4.0)
        model[4].weight = nn.Parameter(model[4].weight * 2)
    again, fresh = (lipschitz(model, X, memory=m, **SETTINGS) for m in (memory, None))
    assert len(exports) == 2
    assert again.lipschitz_upper.value == fresh.lipschitz_upper.value
    assert again.lipschitz_product.value == fresh.lipschitz_product.value


def test_a_memory_notices_a_setting_another_shape_and_another_model(exports: list[int]) -> None:
    model, memory = _model(), LipschitzMemory()
    lipschitz(model, X, memory=memory, **SETTINGS)
    model[2].negative_slope = 7.0
    steep = lipschitz(model, X, memory=memory, **SETTINGS)
    assert [layer.norm for layer in steep.layers if layer.kind == "leaky_relu"] == [7.0]
    lipschitz(nn.Sequential(linear(6, 3)), X, memory=memory, **SETTINGS)
    lipschitz(_Summed(), [(torch.ones(2, n, 1), torch.zeros(2).long()) for n in (3, 4)], memory=memory, **SETTINGS)
    assert len(exports) == 5


def test_a_memory_notices_what_it_cannot_see_by_the_answer(exports: list[int]) -> None:
    held = {"gain": 1.0}
    model, memory = Function(lambda x, f: f(x) * held["gain"], linear(6, 3)), LipschitzMemory()
    first = lipschitz(model, X, memory=memory, **SETTINGS)
    held["gain"] = 5.0
    second = lipschitz(model, X, memory=memory, **SETTINGS)
    assert second.lipschitz_upper.value == pytest.approx(5 * (first.lipschitz_upper.value or 0.0))
    assert len(exports) == 2


def test_a_memory_leaves_nothing_behind_that_grows() -> None:
    model, memory = _model(), LipschitzMemory()

    def objects() -> int:
        lipschitz(model, X, memory=memory, **SETTINGS)
        gc.collect()
        return len(gc.get_objects())

    objects()
    before = objects()
    for _ in range(4):
        after = objects()
    assert after - before < 40


# -- in time ----------------------------------------------------------------------------------------------------------


def test_without_time_the_norms_are_loose_bounds_and_said_to_be() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), linear(64, 3))
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    hurried, tight = (lipschitz(model, x, deadline_seconds=seconds, **SETTINGS) for seconds in (0.0, None))
    assert hurried.lipschitz_upper.value is not None
    assert tight.lipschitz_upper.value is not None
    assert tight.lipschitz_upper.value < hurried.lipschitz_upper.value < 50 * tight.lipschitz_upper.value
    assert any("2 norms bounded by sums of magnitudes, which is loose" in note for note in hurried.notes)
    assert lipschitz(model, x, deadline_seconds=600, **SETTINGS).lipschitz_upper == tight.lipschitz_upper


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (2, 1), (2, 2)])
def test_a_quick_bound_is_never_below_the_norm(mode: str, groups: int, stride: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for kernel in (1, 2, 3):
        weight = torch.randn(4, 4 // groups, kernel, kernel, generator=generator)
        conv = Convolution(weight, (5, 5), (stride, stride), ((1, 1), (0, 1)), (1, 1), groups, mode)
        assert quick_convolution(conv).value >= convolution_norm(conv).value
        assert quick_dense(weight.flatten(1)).value >= float(torch.linalg.matrix_norm(weight.flatten(1).double(), 2))


def test_a_kernel_of_zeros_costs_nothing() -> None:
    """Every frequency of it was solved, as none could be ruled out."""
    conv = Convolution(torch.zeros(256, 256, 3, 3), (56, 56), (1, 1), ((1, 1), (1, 1)), (1, 1))
    norm = convolution_norm(conv)
    assert (norm.value, norm.exact) == (0.0, True)

"""Each kind of layer as two, run in the ways in which layers are run."""

from __future__ import annotations

import copy
import inspect
import io

import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from compression.networks import convolutions, images, mlp, stretched
from eigenscope.compression.candidates import find_layers
from eigenscope.compression.compressing import compress
from eigenscope.compression.layers import LowRank, bias_of, with_factors
from eigenscope.compression.whitening import plain
from zoo.case import seeded


def conv1d_of_gpt2(rows, columns):
    from transformers.pytorch_utils import Conv1D

    return Conv1D(rows, columns)


def kinds():
    """Layers with an input each: every option that a convolution has."""
    with seeded(0):
        return {
            "linear": (nn.Linear(9, 7), torch.randn(4, 3, 9)),
            "linear, one vector": (nn.Linear(9, 7, bias=False), torch.randn(9)),
            "gpt-2": (conv1d_of_gpt2(7, 9), torch.randn(4, 3, 9)),
            "conv1d": (nn.Conv1d(3, 8, 5, stride=2, padding=1, padding_mode="circular"), torch.randn(2, 3, 20)),
            "conv2d": (nn.Conv2d(3, 8, (3, 2), dilation=2, padding="same", bias=False), torch.randn(2, 3, 9, 8)),
            "conv2d, one image": (nn.Conv2d(6, 8, 1, padding_mode="reflect"), torch.randn(6, 5, 5)),
            "conv3d": (nn.Conv3d(2, 5, 3, stride=(1, 2, 1), padding=1), torch.randn(2, 2, 5, 6, 4)),
        }


@pytest.mark.parametrize("name", kinds())
def test_at_full_rank_two_layers_do_what_one_did(name):
    layer, x = kinds()[name]
    candidate = find_layers(layer, None, None)[0][0]
    factors = plain(candidate).factors(candidate.rank_full)
    made = with_factors(layer, factors.left, factors.right, bias_of(layer))
    assert torch.allclose(made(x), layer(x), atol=1e-5)
    assert torch.allclose(made.weight, layer.weight, atol=1e-5)
    assert made.weight.shape == layer.weight.shape
    assert (made.bias is None) == (layer.bias is None)


@pytest.mark.parametrize("method", ["plain", "activation"])
def test_convolutions_of_all_kinds_are_compressed_within_a_model(method):
    model, x = convolutions(), images()
    made = compress(model, x, keep=0.6, method=method)
    assert {layer.name for layer in made.report.layers} == {"0", "3", "5", "9"}
    assert {layer.name: layer.reason for layer in made.report.skipped}["6"].startswith("a convolution in 4 groups")
    assert made.model(x).shape == model(x).shape


def test_types_devices_modes_and_gradients_are_those_of_the_layer_replaced():
    model = mlp().to(torch.bfloat16).train()
    model[2].requires_grad_(False)
    made = compress(model, rank=4).model
    assert {p.dtype for p in made.parameters()} == {torch.bfloat16}
    assert all(module.training for module in made.modules())
    assert [p.requires_grad for p in made[2].parameters()] == [False] * 3
    assert all(p.requires_grad for p in made[0].parameters())


def test_a_compressed_model_trains():
    made = compress(mlp(), stretched(200, 24), keep=0.6).model
    made(stretched(8, 24)).sum().backward()
    assert all(p.grad is not None for p in made.parameters())


def test_it_runs_under_autocast():
    x = stretched(200, 24)
    made = compress(mlp(), x, keep=0.6).model
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = made(x)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), made(x), atol=0.1)


def test_it_compiles_in_one_piece():
    x = stretched(200, 24)
    made = compress(mlp(), x, keep=0.6).model
    compiled = torch.compile(copy.deepcopy(made), fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), made(x), atol=1e-6)


@pytest.mark.parametrize(("model", "x"), [(mlp(), stretched(50, 24)), (convolutions(), images())], ids=["mlp", "cnn"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the exporter without onnxscript is the old one
def test_onnx_gives_the_same_numbers(model, x):
    made = compress(model, x, keep=0.6).model.eval()
    file = io.BytesIO()
    torch.onnx.export(made, (x,), file, dynamo=False)
    exported = onnx.load_from_string(file.getvalue())
    onnx.checker.check_model(exported)
    (found,) = ReferenceEvaluator(exported).run(None, {exported.graph.input[0].name: x.numpy()})
    assert torch.allclose(torch.from_numpy(found), made(x), atol=1e-4)


@pytest.mark.parametrize("name", kinds())
def test_the_input_goes_by_the_name_that_the_layer_had_for_it(name):
    layer, x = kinds()[name]
    (argument,) = inspect.signature(layer.forward).parameters

    class ByName(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(**{argument: x})

    made = compress(ByName(), [x], rank=1, refit=True)
    (report,) = made.report.layers
    assert report.rank in (1, None)
    assert made.model(x).shape == layer(x).shape


class Listed(nn.Module):
    """Layers that the model holds in a plain list too, and with a hook of the user's."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(24, 24), nn.Linear(24, 8)
        self.order = [self.first, self.second]
        self.second.register_forward_hook(lambda module, inputs, output: output + 1)

    def forward(self, x):
        for layer in self.order:
            x = layer(x)
        return x


def test_layers_are_replaced_wherever_they_stand_and_keep_their_hooks():
    with seeded(0):
        model = Listed()
    made = compress(model, rank=3)
    assert made.model.order[0] is made.model.first
    assert isinstance(made.model.order[0], LowRank)
    x = stretched(5, 24)
    expected = made.model.second.second(made.model.second.first(made.model.first(x))) + 1
    assert torch.equal(made.model(x), expected)
    assert type(model.first) is nn.Linear


def test_a_bias_keeps_its_own_say_in_training():
    model = nn.Sequential(nn.Linear(24, 24), nn.Linear(24, 24))
    model[0].weight.requires_grad_(False)
    model[1].bias.requires_grad_(False)
    made = compress(model, rank=3).model
    assert [p.requires_grad for p in made[0].parameters()] == [False, False, True]
    assert [p.requires_grad for p in made[1].parameters()] == [True, True, False]


def test_the_weight_is_a_product_that_nobody_pays_for_who_asks_its_type():
    layer = compress(nn.Linear(64, 64), rank=4).model
    with FlopCounterMode(display=False) as counter:
        weight = layer.weight
        assert (weight.dtype, weight.shape, weight.device) == (torch.float32, (64, 64), torch.device("cpu"))
        assert isinstance(weight, torch.Tensor)
        assert counter.get_total_flops() == 0
        weight.sum().backward()
        assert counter.get_total_flops() > 0
    assert layer.first.weight.grad is not None
    x = stretched(3, 64)
    assert torch.allclose(torch.nn.functional.linear(x, weight, layer.bias), layer(x), atol=1e-5)


class ReadsItsWeight(nn.Module):
    """As the dense block of a T5 does."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(24, 24)

    def forward(self, x):
        return self.out(x.to(self.out.weight.dtype) if isinstance(self.out.weight, torch.Tensor) else x)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    "way",
    [
        lambda model, x: torch.compile(model, fullgraph=True, backend="aot_eager"),
        lambda model, x: torch.export.export(model, (x,)).module(),
        lambda model, x: torch.jit.trace(model, (x,)),
    ],
    ids=["compile", "export", "trace"],
)
def test_code_that_asks_the_type_of_a_weight_compiles_exports_and_traces(way):
    made, x = compress(ReadsItsWeight(), rank=3).model.eval(), torch.ones(2, 24)
    assert torch.allclose(way(made, x)(x), made(x), atol=1e-6)

"""Tensors of three axes and more: convolutions with their norm as operators, Keras's layouts, stacks."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import eigenscope as es
from eigenscope.scanning.directions import directions


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def true_norm(weight, side=8, groups=1):
    """Of the convolution with stride 1 and "same" padding, written out."""
    channels = weight.shape[1] * groups
    eye = torch.eye(channels * side**2).view(-1, channels, side, side)
    reach = weight.shape[-1] // 2
    return float(torch.linalg.matrix_norm(F.conv2d(eye, weight, padding=reach, groups=groups).flatten(1), 2))


def keras(tmp_path, **arrays):
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = np.asarray(array)
    return path


@pytest.mark.parametrize("groups", [1, 2, 4, 16])
def test_a_live_convolution_s_norm_knows_its_groups(groups):
    layer = nn.Conv2d(16, 16, 3, padding=1, groups=groups, bias=False)
    row = es.scan(layer, input_size=(8, 8))["weight"]
    assert row.operator_norm == pytest.approx(true_norm(layer.weight.detach(), groups=groups), rel=0.02)


def test_filters_of_one_channel_are_depthwise_but_the_first_sees_grey_images():
    grey, depthwise = normal(8, 1, 3, 3), normal(8, 1, 3, 3, seed=1)
    found = es.scan({"a.weight": grey, "b.weight": depthwise}, input_size=(8, 8))
    assert found["a.weight"].operator_norm == pytest.approx(true_norm(grey), rel=0.02)
    assert found["b.weight"].operator_norm == pytest.approx(true_norm(depthwise, groups=8), rel=0.02)
    part = es.scan({"a.weight": grey, "b.weight": depthwise}, match="a.*", input_size=(8, 8))
    assert part["a.weight"].operator_norm == found["a.weight"].operator_norm
    alone = es.scan({"b.weight": depthwise}, input_size=(8, 8))
    assert alone["b.weight"].operator_norm == pytest.approx(true_norm(depthwise, groups=8), rel=0.02)


def test_a_normalized_convolution_is_one_whether_given_as_it_is_or_as_what_it_is_made_from():
    state = {f"{name}.{form}": normal(*shape) for name, shape in {"a": (8, 1, 3, 3), "b": (1, 8, 3, 3)}.items()
             for form in ("weight", "weight_orig")}  # fmt: skip
    found = es.scan(state, input_size=(8, 8))
    assert {row.name for row in found.matrices} == {"a.weight", "a.weight_orig"}  # the others are a single row
    for row in found.matrices:
        assert row.operator_norm == pytest.approx(true_norm(state[row.name]), rel=0.02)


@pytest.mark.parametrize("options", [{}, {"workers": 2}])
def test_keras_s_convolutions_have_the_norm_of_theirs_in_pytorch(tmp_path, options):
    kernel, deep = normal(3, 3, 4, 8), normal(3, 3, 6, 2)
    path = keras(tmp_path, layers__conv2d__vars__0=kernel, layers__depthwise_conv2d__vars__0=deep)
    found = es.scan(path, input_size=(8, 8), **options)
    plain = kernel.permute(3, 2, 0, 1).contiguous()
    assert found["layers/conv2d/vars/0"].operator_norm == pytest.approx(true_norm(plain), rel=0.02)
    each = deep.permute(2, 3, 0, 1).reshape(12, 1, 3, 3)
    row = found["layers/depthwise_conv2d/vars/0"]
    assert row.operator_norm == pytest.approx(true_norm(each, groups=6), rel=0.02)
    np.testing.assert_allclose(row.reading.singular_values, np.linalg.svd(each.flatten(1).numpy())[1], rtol=1e-5)


@pytest.mark.parametrize("names", [("query_dense/vars", "output_dense/vars"), ("query/kernel:0", "attention_output/k")])
def test_keras_s_attention_is_no_convolution(tmp_path, names):
    """MultiHeadAttention keeps in × heads × width and heads × width × out; its biases have two axes."""
    query, output = normal(64, 4, 16), normal(4, 16, 48)
    into, out = (f"layers__mha__{name.replace('/', '__')}" for name in names)
    path = keras(tmp_path, **{f"{into}__0": query, f"{out}__0": output})
    with h5py.File(path, "a") as file:
        file["layers/mha/key_dense/vars/1"] = normal(4, 16).numpy()
    found = es.scan(path)
    rows = {row.name.split("/")[2]: row.reading for row in found.matrices}
    first, second = (rows[name.split("/")[0]] for name in names)
    assert (first.rows, first.columns, second.rows, second.columns) == (64, 64, 48, 64)
    expected = np.linalg.svd(query.reshape(64, 64).numpy(), compute_uv=False)
    np.testing.assert_allclose(first.singular_values, expected, rtol=1e-4)
    np.testing.assert_allclose(second.singular_values, np.linalg.svd(output.reshape(64, 48))[1], rtol=1e-4)
    assert [item.reason for item in found.skipped] == ["a bias: no matrix"]
    heads = es.scan(path, per_head=True)
    assert sum("head" in row.part for row in heads.matrices) == 4


def test_keras_s_dense_layers_have_their_inputs_first(tmp_path):
    """A kernel that turns input 2 into output 33, also in what fine-tuning changed."""
    kernel = 0.01 * normal(10, 40)
    kernel[2, 33] = 5
    path = keras(tmp_path, layers__dense__vars__0=kernel)
    strongest = directions(path, "layers/dense/vars/0", 1)[0]
    assert (strongest.inputs[0][0], strongest.outputs[0][0]) == ("#2", "#33")


def test_what_fine_tuning_did_to_keras_kernels_has_their_outputs_as_rows(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    kernel = normal(3, 3, 4, 8)
    base = keras(first, layers__conv__vars__0=kernel)
    (change,) = es.compare(base, keras(second, layers__conv__vars__0=kernel + 0.1 * normal(3, 3, 4, 8, seed=1))).changes
    assert (change.difference.rows, change.difference.columns) == (8, 36)


@pytest.mark.parametrize(("name", "shape", "parts"), [
    ("tcn.0.weight", (12, 8, 25), [""]),
    ("tcn.0.weight", (12, 32, 31), [""]),
    ("blk.0.ffn_gate_exps.weight", (3, 16, 24), ["expert 0", "expert 1", "expert 2"]),
    ("block_sparse_moe.input_linear.weight", (2, 8, 4), ["expert 0", "expert 1"]),
    ("wq", (2, 16, 24), ["0", "1"]),
    ("filters", (2, 16, 5), [""]),
])  # fmt: skip
def test_three_axes_are_a_stack_where_the_name_or_the_sides_say_so(name, shape, parts):
    assert [row.part for row in es.scan({name: normal(*shape)}).matrices] == parts


def test_leading_axes_of_one_are_left_out_of_parameters_but_not_of_a_layer_s_weight():
    state = {"pos_embed": normal(1, 197, 64), "cls_token": normal(1, 1, 64), "conv.weight": normal(1, 64, 3, 3)}
    found = es.scan(state)
    assert [(row.name, row.reading.rows, row.reading.columns) for row in found.matrices] == [("pos_embed", 197, 64)]
    assert {item.reason for item in found.skipped} == {"too small: a single row or column"}

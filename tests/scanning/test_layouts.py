"""Which matrices a tensor holds: known answers of GPT-2, and cuts that are put together again."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from eigenscope.estimators.gram import singular_spectrum
from eigenscope.scanning.layouts import Layout, views
from eigenscope.weights.reading import read_weights
from zoo import shared_data

GPT2 = {"model_type": "gpt2", "n_head": 12, "n_embd": 768}


def parts(name, tensor, config=None, *, form="", **options):
    """Every view's matrix by its part."""
    layout = Layout.of(config or {}, {name: tuple(tensor.shape)}, form)
    found = {view.part: (view.cut(tensor), view.shape) for view in views(name, tensor.shape, layout, **options)}
    for matrix, shape in found.values():
        assert tuple(matrix.shape) == shape
    return {part: matrix for part, (matrix, _) in found.items()}


def test_gpt2_s_first_projection_has_the_known_figures():
    """../shared/data/README.md: effective rank 542.72, condition number 45.53, 12.94 % in the top 10."""
    weight = load_file(shared_data("weights/gpt2-small-block0.safetensors"))["transformer.h.0.attn.c_attn.weight"]
    found = parts("transformer.h.0.attn.c_attn.weight", weight, GPT2)
    assert list(found) == ["", "query", "key", "value"]
    whole = read_weights(singular_spectrum(found[""]), *found[""].shape)
    assert whole.effective_rank == pytest.approx(542.72, abs=0.005)
    assert whole.condition_number.value == pytest.approx(45.53, abs=0.005)
    assert whole.variance_at_10 == pytest.approx(0.1294, abs=5e-5)
    assert "spreads over 543 of 768 directions; no elbow" in whole.sentence
    side_by_side = torch.cat([found["query"], found["key"], found["value"]])
    torch.testing.assert_close(side_by_side, found[""])


def test_the_wrong_stacking_gives_the_figures_of_a_mistake():
    """The same data file: query, key and value side by side along the wrong axis, 536.02 and 30.22."""
    weight = load_file(shared_data("weights/gpt2-small-block0.safetensors"))["transformer.h.0.attn.c_attn.weight"]
    wrong = read_weights(singular_spectrum(torch.cat(weight.split(768, 1), 1).reshape(2304, 768)), 2304, 768)
    stacked = read_weights(singular_spectrum(torch.cat([p.T for p in weight.split(768, 1)], 1)), 768, 2304)
    figures = {(round(r.effective_rank, 2), round(r.condition_number.value, 2)) for r in (wrong, stacked)}
    assert (536.02, 30.22) in figures
    assert (542.72, 45.53) not in figures


def test_a_linear_layer_that_borrows_gpt2_s_name_is_not_turned():
    weight = torch.randn(144, 48)
    found = parts("blocks.0.attn.c_attn.weight", weight)
    torch.testing.assert_close(found["value"], weight[96:])


@pytest.mark.parametrize("name", ["self_attn.in_proj_weight", "attn.qkv.weight", "blk.0.attn_qkv.weight"])
def test_thirds(name):
    weight = torch.randn(48, 16)
    found = parts(name, weight)
    torch.testing.assert_close(found["key"], weight[16:32])


def test_grouped_queries():
    """Phi-3's `qkv_proj`: 4 heads of queries, 2 of keys and values, 8 wide."""
    config = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32}
    weight = torch.randn(64, 32)
    found = parts("layers.0.self_attn.qkv_proj.weight", weight, config)
    assert [len(found[part]) for part in ("query", "key", "value")] == [32, 16, 16]
    torch.testing.assert_close(found["value"], weight[48:])


def test_interleaved_heads():
    """GPT-NeoX: each head's query, key and value follow one another; torch's own view says which rows."""
    config = {"model_type": "gpt_neox", "num_attention_heads": 4, "hidden_size": 32}
    weight = torch.randn(96, 32)
    found = parts("layers.0.attention.query_key_value.weight", weight, config)
    by_head = weight.view(4, 3, 8, 32)
    torch.testing.assert_close(found["key"], by_head[:, 1].reshape(32, 32))


def test_falcon_s_groups():
    config = {
        "model_type": "falcon", "new_decoder_architecture": True, "num_attention_heads": 4, "num_kv_heads": 2,
        "hidden_size": 32,
    }  # fmt: skip
    weight = torch.randn(64, 32)
    found = parts("h.0.self_attention.query_key_value.weight", weight, config)
    groups = weight.view(2, 4, 8, 32)
    torch.testing.assert_close(found["query"], groups[:, :2].reshape(32, 32))
    torch.testing.assert_close(found["value"], groups[:, 3].reshape(16, 32))


def test_a_fused_layer_of_unknown_heads_is_left_whole():
    assert list(parts("layers.0.attention.query_key_value.weight", torch.randn(96, 32))) == [""]


def test_heads_on_request():
    found = parts("h.0.attn.c_attn.weight", torch.randn(768, 2304), GPT2, per_head=True)
    assert sum("head" in part for part in found) == 36
    torch.testing.assert_close(found["query head 3"], found["query"][192:256])


def test_a_convolution_is_unrolled_and_keras_kernels_are_turned():
    kernel = torch.randn(8, 3, 5, 5)
    unrolled = parts("conv.weight", kernel)[""]
    assert unrolled.shape == (8, 75)
    keras = parts("conv/kernel", kernel.permute(2, 3, 1, 0), form="keras")[""]
    np.testing.assert_allclose(
        np.linalg.svd(keras, compute_uv=False), np.linalg.svd(unrolled, compute_uv=False), rtol=1e-5
    )


def test_experts_are_matrices_of_their_own_and_a_kernel_is_not():
    stack = torch.randn(4, 16, 32)
    found = parts("mlp.experts.gate_up_proj", stack)
    assert list(found) == [f"expert {i}" for i in range(4)]
    torch.testing.assert_close(found["expert 2"], stack[2])
    assert list(parts("conv1.weight", torch.randn(4, 16, 32))) == [""]
    assert list(parts("weight", torch.randn(4, 16, 3))) == [""]

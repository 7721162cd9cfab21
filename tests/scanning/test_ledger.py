"""What is no matrix of the model is listed with its reason; what goes wrong with one tensor stops no scan."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import eigenscope as es
from eigenscope.errors import InputError
from eigenscope.scanning.findings import failing
from eigenscope.scanning.layouts import Layout


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def reasons(found):
    return {item.name: item.reason for item in found.skipped}


# -- nothing is changed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [nn.Linear(12, 10), nn.Linear(40, 50), nn.MultiheadAttention(12, 3)])
def test_a_scan_leaves_a_module_in_double_precision_as_it_was(module):
    module = module.double()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    es.scan(module, per_head=True)
    for name, value in module.state_dict().items():
        assert value.numpy().tobytes() == before[name].numpy().tobytes()


def test_the_parts_of_a_small_fused_projection_are_measured_as_they_are():
    weight = normal(36, 12).double()
    expected = {"": weight, "query": weight[:12], "key": weight[12:24], "value": weight[24:]}
    state = {"in_proj_weight": weight.clone()}
    for row in es.scan(state).matrices:
        sigma = np.linalg.svd(expected[row.part].numpy(), compute_uv=False)
        np.testing.assert_allclose(row.reading.singular_values, sigma, rtol=1e-9)
    assert torch.equal(state["in_proj_weight"], weight)


# -- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [
    torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
])  # fmt: skip
def test_eight_bit_floats_have_the_spectrum_of_their_values(dtype):
    weight = normal(32, 48).to(dtype)
    row = es.scan({"w": weight})["w"]
    expected = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    np.testing.assert_allclose(row.reading.singular_values, expected, rtol=1e-9)
    assert row.dtype == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_numbers_are_listed(dtype, tmp_path):
    np.save(tmp_path / "c.npy", normal(8, 9).to(dtype).numpy())
    for source in ({"w": normal(8, 9).to(dtype)}, tmp_path / "c.npy"):
        assert set(reasons(es.scan(source)).values()) == {"complex numbers: only real matrices are analysed"}


@pytest.mark.filterwarnings("ignore:.*quanti.*")
def test_quantized_tensors_in_memory_are_analysed_by_the_numbers_they_stand_for():
    weight = normal(20, 30)
    stored = torch.quantize_per_tensor(weight, float(weight.abs().max()) / 127, 0, torch.qint8)
    row = es.scan({"w": stored})["w"]
    assert row.dtype == "qint8"
    expected = np.linalg.svd(stored.dequantize().numpy(), compute_uv=False)
    np.testing.assert_allclose(row.reading.singular_values, expected, rtol=1e-5)


def test_scales_of_packed_weights_are_no_matrices():
    state = {
        "gptq.qweight": torch.ones(16, 128, dtype=torch.int32), "gptq.scales": normal(32, 128).half(),
        "gptq.qzeros": torch.ones(32, 16, dtype=torch.int32), "norm.scale": normal(8, 8),
        "packed.weight_packed": torch.ones(8, 8, dtype=torch.int32), "packed.weight_scale": normal(8, 4),
    }  # fmt: skip
    found = es.scan(state)
    assert [row.name for row in found.matrices] == ["norm.scale"]
    why = "scales or zeros of {}, whose values are quantized: no matrix by itself"
    assert reasons(found)["gptq.scales"] == why.format("gptq.qweight")
    assert reasons(found)["packed.weight_scale"] == why.format("packed.weight_packed")


class Broken(torch.Tensor):
    """Fails wherever it is computed with, as a tensor beyond memory or a decomposition without an end does."""

    error: Exception

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.aminmax:
            raise cls.error
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize("error", [
    MemoryError("of 9 GB"), np.linalg.LinAlgError("did not converge"), ValueError("a\nb"),
])  # fmt: skip
def test_whatever_goes_wrong_with_one_tensor_is_one_line_in_the_ledger(error):
    Broken.error = error
    found = es.scan({"good": normal(5, 6), "bad": normal(5, 6).as_subclass(Broken)})
    assert [row.name for row in found.matrices] == ["good"]
    said = str(error).splitlines()[0]
    assert reasons(found)["bad"] == f"it could not be analysed ({type(error).__name__}: {said})"


# -- heads ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tied(tmp_path):
    """A folder that stores its head beside the embedding it is tied to."""

    def written(says: object, head: torch.Tensor):
        config = {"model_type": "llama", "hidden_size": 16, "num_attention_heads": 2, "tie_word_embeddings": says}
        (tmp_path / "config.json").write_text(json.dumps(config))
        state = {"model.embed_tokens.weight": normal(50, 16), "lm_head.weight": head}
        save_file(state, tmp_path / "model.safetensors")
        return tmp_path

    return written


def test_a_tied_head_that_is_stored_twice_is_counted_once(tied):
    found = es.scan(tied(True, normal(50, 16)))
    assert [row.name for row in found.matrices] == ["model.embed_tokens.weight"]
    assert reasons(found) == {"lm_head.weight": "tied to model.embed_tokens.weight: counted there"}
    assert found.summary["parameters"] == 800


@pytest.mark.parametrize(
    ("config", "first", "other"),
    [
        ({"model_type": "gpt2"}, "transformer.wte.weight", "lm_head.weight"),
        ({"model_type": "bert"}, "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        ({"model_type": "t5", "tie_word_embeddings": True}, "shared.weight", "encoder.embed_tokens.weight"),
    ],
)
def test_equal_copies_are_counted_once_unless_the_configuration_denies_it(tmp_path, config, first, other):
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({first: normal(50, 16), other: normal(50, 16)}, tmp_path / "model.safetensors")
    assert len(es.scan(tmp_path).matrices) == 1


@pytest.mark.parametrize(("says", "head"), [(False, normal(50, 16)), (True, normal(50, 16, seed=1))])
def test_a_head_of_its_own_is_counted(tied, says, head):
    assert len(es.scan(tied(says, head)).matrices) == 2


def test_heads_that_can_not_be_told_apart_are_noted():
    state = {"encoder.block.0.layer.0.SelfAttention.q.weight": normal(32, 32)}
    assert any("no heads are told apart" in note for note in es.scan(state, per_head=True).notes)
    assert not es.scan(state).notes


# -- names ------------------------------------------------------------------------------------------------------------


def test_names_that_would_write_to_the_terminal_are_shown_without_their_control_characters():
    found = es.scan({"a\x1b]0;taken\x07": normal(5, 6), "line\nbreak": normal(5), "c": normal(7, 6)})
    assert found.matrices[0].title == "a�]0;taken�"
    assert found.matrices[0].name == "a\x1b]0;taken\x07"
    assert found.skipped[0].title == "line�break"
    assert all(line.isprintable() for line in failing(found, "rank>1"))
    with pytest.raises(InputError) as raised:
        es.scan({"a\x1b[2J": normal(5, 6)}, match="b*")
    assert str(raised.value).isprintable()


# -- device -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "said"), [
    ({"device": "mps"}, "is not cpu, cuda or cuda:N"), ({"device": "cuda", "workers": 2}, "is for one process"),
    ({"device": f"cuda:{torch.cuda.device_count() + 7}"}, "PyTorch finds no CUDA here|counted from cuda:0"),
])  # fmt: skip
def test_a_device_that_can_not_be_used_is_told(options, said):
    with pytest.raises(InputError, match=said):
        es.scan({"w": normal(5, 6)}, **options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graphics_processor_gives_the_numbers_of_the_cpu():
    config = {"model_type": "gpt_neox", "num_attention_heads": 4, "hidden_size": 64}
    name = "layers.0.attention.query_key_value.weight"
    assert Layout.of(config, {name: (192, 64)}, "").order == "heads"
    state = {name: normal(192, 64), "conv.weight": normal(32, 16, 3, 3), "low.weight": normal(80, 3) @ normal(3, 90)}
    plain, quick = (es.scan(state, device=device, input_size=(8, 8)) for device in ("cpu", None))
    assert [row.title for row in quick.matrices] == [row.title for row in plain.matrices]
    for row, other in zip(quick.matrices, plain.matrices, strict=True):
        sigma, expected = row.reading.singular_values, other.reading.singular_values
        np.testing.assert_allclose(sigma, expected, atol=1e-7 * expected[0], rtol=1e-9)
        assert row.operator_norm == pytest.approx(other.operator_norm)


def test_masks_and_state_of_layers_are_no_weights():
    """minGPT's causal mask under the name of a bias, the vectors of spectral normalization, tables of a rotation."""
    square = normal(11, 11)
    kept = {"h.0.attn.bias": square[None, None], "conv.weight_u": normal(1, 8, 40, 40), "freq_cos": square}
    found = es.scan({"w.weight": normal(20, 30), **kept})
    assert [row.name for row in found] == ["w.weight"]
    assert set(reasons(found)) == set(kept)

"""Merging heads, embeddings and what is tied: the merged folder computes what PEFT's model does, unmerged."""

import copy
import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from adapters.models import FAMILIES, loaded, logits, made, merged, saved, write_adapter
from eigenscope.adapters.inspecting import inspect_lora
from eigenscope.adapters.merging import merge_lora
from eigenscope.errors import CheckpointError, InputError
from eigenscope.scanning.compare import compare

pytestmark = pytest.mark.filterwarnings("ignore")
PARTS = {
    "gpt2": ("wte", "lm_head", "attn.c_proj"),
    "bert": ("word_embeddings", "predictions.decoder", "query"),
    "llama": ("embed_tokens", "lm_head", "q_proj"),
}
KINDS = {
    "factors beside the head": ([], ["head"]),
    "factors beside the embedding": ([], ["embedding"]),
    "factors beside both": ([], ["embedding", "head"]),
    "a head of its own": (["head"], []),
    "an embedding of its own": (["embedding"], []),
    "both of their own": (["embedding", "head"], []),
}


@torch.no_grad()
def by_peft(base, family, kind, folder, **options):
    """An adapter with random values that real PEFT wrote: beside a square layer, the last of the targets a head."""
    names = dict(zip(("embedding", "head"), PARTS[family], strict=False))
    own, beside = ([names[part] for part in parts] for parts in KINDS[kind])
    config = LoraConfig(r=3, target_modules=[PARTS[family][2], *beside], modules_to_save=own or None, **options)
    adapted = get_peft_model(copy.deepcopy(base), config)
    generator = torch.Generator().manual_seed(2)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    adapted.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "apart"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", PARTS)
def test_the_merged_model_computes_what_the_adapted_one_does(family, kind, tied, tmp_path):
    base = made(FAMILIES[family][0], tie_word_embeddings=tied)
    adapter = by_peft(base, family, kind, tmp_path / "adapter")
    report = merge_lora(saved(base, tmp_path / "base"), adapter, tmp_path / "merged")
    again, told = type(base).from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(told[f"{what}_keys"] for what in ("missing", "unexpected", "mismatched"))
    assert torch.allclose(logits(again.eval()), logits(loaded(base, adapter)), rtol=0, atol=1e-5)
    assert not set(report.merged) & set(report.replaced)
    assert report.added == ()
    assert ("were tied" in " ".join(report.notes)) == tied
    if not tied:  # PEFT's own merge would part what is tied
        state, wanted = again.state_dict(), merged(loaded(base, adapter)).state_dict()
        assert all(torch.equal(state[name], value) for name, value in wanted.items())


@pytest.mark.parametrize("options", [{}, {"use_dora": True, "use_rslora": True}], ids=["plain", "dora"])
def test_a_square_conv1d_is_told_by_its_layer_and_not_by_the_configuration(options, tmp_path):
    """PEFT saves the flag that the last layer needed: false, where that is a head."""
    base = made(FAMILIES["gpt2"][0], tie_word_embeddings=False)
    adapter = by_peft(base, "gpt2", "factors beside the head", tmp_path / "adapter", **options)
    assert json.loads((adapter / "adapter_config.json").read_text())["fan_in_fan_out"] is False
    merge_lora(saved(base, tmp_path / "base"), adapter, tmp_path / "merged")
    found, wanted = load_file(tmp_path / "merged" / "model.safetensors"), merged(loaded(base, adapter)).state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted if not name.endswith("attn.bias"))
    with_adapter = {change.name: change for change in compare(base, adapter).changes}
    with_merged = {change.name: change for change in compare(base, merged(loaded(base, adapter))).changes}
    square = "transformer.h.0.attn.c_proj.weight"
    if not options:
        assert with_adapter[square].relative_size == pytest.approx(with_merged[square].relative_size, rel=1e-4)
        assert with_adapter[square].overlap == pytest.approx(with_merged[square].overlap, rel=1e-3)


def test_a_square_weight_whose_layer_can_not_be_told_is_refused(tmp_path):
    save_file({"dense.weight": torch.randn(6, 6)}, tmp_path / "base.safetensors")
    tensors = {"base_model.model.dense.lora_A.weight": torch.arange(6.0)[None]}
    tensors["base_model.model.dense.lora_B.weight"] = torch.ones(6, 1)
    write_adapter(tmp_path / "adapter", tensors, fan_in_fan_out=True)
    with pytest.raises(CheckpointError, match=r"dense.weight is square, and the adapter may be for its transpose"):
        merge_lora(tmp_path / "base.safetensors", tmp_path / "adapter", tmp_path / "out")
    (skipped,) = compare(tmp_path / "base.safetensors", tmp_path / "adapter").skipped
    assert "may be for its transpose" in skipped.reason
    layer = torch.nn.Sequential()
    layer.add_module("dense", torch.nn.Linear(6, 6, bias=False))
    merge_lora(layer, tmp_path / "adapter", tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")["dense.weight"]
    assert torch.allclose(found, layer.dense.weight + 4 * torch.arange(6.0).expand(6, 6))


def test_one_of_several_tied_tensors_is_refused_by_that_word(tmp_path):
    base = made(FAMILIES["t5"][0])
    adapted = get_peft_model(copy.deepcopy(base), LoraConfig(r=2, target_modules=["q", "lm_head"]))
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(InputError, match=r"several tied tensors \(lm_head.weight, shared.weight\), and not all"):
        merge_lora(saved(base, tmp_path / "base"), tmp_path / "adapter", tmp_path / "out")


def test_a_base_without_the_body_s_prefix_is_untied_too(tmp_path):
    """As the first GPT-2 is stored."""
    base = made(FAMILIES["gpt2"][0])
    adapter = by_peft(base, "gpt2", "a head of its own", tmp_path / "adapter")
    folder = saved(base, tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name.removeprefix("transformer."): value for name, value in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    merge_lora(folder, adapter, tmp_path / "merged")
    again = type(base).from_pretrained(tmp_path / "merged").eval()
    assert torch.allclose(logits(again), logits(loaded(base, adapter)), rtol=0, atol=1e-5)


def test_a_tied_pair_of_which_the_base_stores_both_is_untied_too(tmp_path):
    base = made(FAMILIES["llama"][0], tie_word_embeddings=True)
    adapter = by_peft(base, "llama", "factors beside the head", tmp_path / "adapter")
    folder = saved(base, tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    merge_lora(folder, adapter, tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"] is False
    again = type(base).from_pretrained(tmp_path / "merged").eval()
    assert torch.allclose(logits(again), logits(loaded(base, adapter)), rtol=0, atol=1e-5)


def test_the_weight_below_factors_is_not_listed_as_brought_whole(tmp_path):
    base = made(FAMILIES["llama"][0], tie_word_embeddings=False)
    adapter = by_peft(base, "llama", "factors beside the head", tmp_path / "adapter")
    found = inspect_lora(adapter, base)
    assert found.whole == ()
    assert "lm_head" in {layer.name for layer in found.layers}


def test_a_grown_vocabulary_below_factors_is_the_base_of_their_update(tmp_path):
    base = made(FAMILIES["llama"][0])
    grown = copy.deepcopy(base)
    grown.resize_token_embeddings(64)
    adapter = by_peft(grown, "llama", "factors beside both", tmp_path / "adapter")
    report = merge_lora(saved(base, tmp_path / "base"), adapter, tmp_path / "merged")
    again = type(base).from_pretrained(tmp_path / "merged").eval()
    assert torch.allclose(logits(again), logits(loaded(grown, adapter)), rtol=0, atol=1e-5)
    assert any("the vocabulary is now of 64" in note for note in report.notes)


def test_what_is_read_is_never_written_over(tmp_path):
    base = saved(made(FAMILIES["llama"][0]), tmp_path / "base")
    adapter = by_peft(made(FAMILIES["llama"][0]), "llama", "a head of its own", tmp_path / "adapter")
    before = (base / "model.safetensors").read_bytes()
    for out in (base, adapter, base / "merged"):
        with pytest.raises(InputError, match="which is read: give another folder"):
            merge_lora(base, adapter, out, force=True)
    assert (base / "model.safetensors").read_bytes() == before

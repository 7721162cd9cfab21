"""Whose the rows of a fused projection are, by what the models' own code does with them.

Two facts tell query, key and value apart, whatever the code looks like. The last output depends on the last input alone
through its query, so the gradient of a query's row is a multiple of that input. And without values, nothing depends on
queries or keys.
"""

import pytest
import torch
import transformers as hf
from torch import nn

from eigenscope.checkpoints import open_checkpoint
from eigenscope.scanning.fused import FUSED, split
from eigenscope.scanning.layouts import Layout, views

TINY = {
    "vocab_size": 40, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 48,
    "max_position_embeddings": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT = {
    "vocab_size": 40, "n_embd": 32, "n_head": 4, "n_layer": 1, "n_positions": 16, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FALCON = {**TINY, "alibi": False, "bias": True}
MODELS = {
    "gpt_neox": (hf.GPTNeoXConfig, TINY),
    "gpt_neox_japanese": (hf.GPTNeoXJapaneseConfig, {k: v for k, v in TINY.items() if k != "intermediate_size"}),
    "bloom": (hf.BloomConfig, {"vocab_size": 40, "hidden_size": 32, "n_head": 4, "n_layer": 1}),
    "persimmon": (hf.PersimmonConfig, {**TINY, "qk_layernorm": False}),
    "minimax": (hf.MiniMaxConfig, {**TINY, "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 2,
                                   "num_experts_per_tok": 1, "layer_types": ["linear_attention"]}),
    "deberta": (hf.DebertaConfig, TINY),
    "bigcode, one key": (hf.GPTBigCodeConfig, {**GPT, "multi_query": True}),
    "bigcode, many keys": (hf.GPTBigCodeConfig, {**GPT, "multi_query": False}),
    "falcon 7B": (hf.FalconConfig, {**FALCON, "multi_query": True}),
    "falcon 40B": (hf.FalconConfig, {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon, many keys": (hf.FalconConfig, {**FALCON, "multi_query": False}),
    "codegen": (hf.CodeGenConfig, {**GPT, "rotary_dim": 4, "n_ctx": 16, "n_head": 8}),
    "phi3": (hf.Phi3Config, {**TINY, "num_key_value_heads": 2}),
    "gpt2": (hf.GPT2Config, GPT),
    "mpt": (hf.MptConfig, {"vocab_size": 40, "d_model": 32, "n_heads": 4, "n_layers": 1, "max_seq_len": 16}),
    "modernbert": (hf.ModernBertConfig, {**TINY, "cls_token_id": 1, "sep_token_id": 2}),
}  # fmt: skip


EAGER = {"minimax": {"experts_implementation": "eager"}}  # the other takes no double precision


class Attention:
    """The first fused projection of a tiny model, its input and the attention's output, in double precision."""

    def __init__(self, name: str) -> None:
        kind, options = MODELS[name]
        torch.manual_seed(0)
        how = {"attn_implementation": "eager", **EAGER.get(name, {})}
        self.model = hf.AutoModel.from_config(kind(**options), **how).double().eval()
        with open_checkpoint(self.model) as checkpoint:
            self.layout = Layout.of_checkpoint(checkpoint)
            self.name = next(entry.name for entry in checkpoint.entries if FUSED.search(entry.name))
        self.module = self.model.get_submodule(self.name.rpartition(".")[0])
        self.weight = self.module.weight
        nn.init.normal_(self.weight, std=0.3)
        if getattr(self.module, "bias", None) is not None:
            nn.init.zeros_(self.module.bias)
        self.views = {v.part: v for v in views(self.name, self.weight.shape, self.layout) if v.part}

    def gradient(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of some number made of the last position's output by the weight, and the last position's input."""
        seen = {}
        attention = self.model.get_submodule(self.name.rpartition(".")[0].rpartition(".")[0])
        hooks = [
            self.module.register_forward_pre_hook(lambda _, given: seen.update(x=given[0].detach())),
            attention.register_forward_hook(lambda _, given, found: seen.update(out=found)),
        ]
        self.model(torch.tensor([[3, 7, 11, 4, 9]]))
        for hook in hooks:
            hook.remove()
        out = seen["out"] if isinstance(seen["out"], torch.Tensor) else seen["out"][0]
        last = out[0, -1]
        (found,) = torch.autograd.grad((last * torch.linspace(1, 2, len(last)).double()).sum(), self.weight)
        return found, seen["x"][0, -1]

    def forget(self, part: str) -> None:
        places = self.views[part].cut(torch.arange(self.weight.numel()).view(self.weight.shape))
        self.weight.data.view(-1)[places.flatten()] = 0.0


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", MODELS)
def test_the_parts_are_what_the_model_s_own_code_takes_them_for(name):
    attention = Attention(name)
    assert list(attention.views) == ["query", "key", "value"]
    rows = sum(view.shape[0] for view in attention.views.values())
    assert rows == attention.weight.numel() // attention.views["query"].shape[1]
    gradient, last = attention.gradient()
    off = {part: off_direction(view.cut(gradient), last) for part, view in attention.views.items()}
    assert off["query"].max() < 1e-9
    assert off["key"].min() > 1e-6
    assert off["value"].min() > 1e-6
    attention.forget("value")
    gradient, _ = attention.gradient()
    assert not attention.views["query"].cut(gradient).any()
    assert not attention.views["key"].cut(gradient).any()
    assert attention.views["value"].cut(gradient).any()


def off_direction(rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """How far each row is from being a multiple of x, relative to its own length."""
    unit = x / x.norm()
    return (rows - torch.outer(rows @ unit, unit)).norm(dim=1) / rows.norm(dim=1)


@pytest.mark.parametrize("name", [
    "h.0.attn.qkv_proj.weight", "h.0.attention.query_key_value.weight", "backbone.layers.0.mixer.in_proj.weight",
])  # fmt: skip
@pytest.mark.parametrize("config", [{}, {"model_type": "gptj_neox"}, {"model_type": "mamba"}])
def test_a_name_of_several_orders_is_left_whole_where_the_type_is_unknown(name, config):
    known = {**config, "num_attention_heads": 4, "hidden_size": 32} if config else {}
    layout = Layout.of(known, {name: (96, 32)}, "safetensors")
    assert [view.part for view in views(name, (96, 32), layout)] == [""]


def test_torch_s_own_attention_is_in_blocks_whatever_the_model():
    layout = Layout.of({"model_type": "gpt_neox", "num_attention_heads": 4, "hidden_size": 32}, {}, "safetensors")
    found = split("attn.in_proj_weight", 96, 32, order=layout.order, queries=4, keys=4, width=8)
    assert found == {"query": range(32), "key": range(32, 64), "value": range(64, 96)}


def test_falcon_s_new_architecture_ignores_multi_query():
    """As the configurations of Falcon-40B and 180B have it."""
    config = {
        "model_type": "falcon", "new_decoder_architecture": True, "multi_query": True, "num_attention_heads": 128,
        "num_kv_heads": 8, "hidden_size": 8192,
    }  # fmt: skip
    name = "transformer.h.0.self_attention.query_key_value.weight"
    found = {view.part: view.shape for view in views(name, (9216, 8192), Layout.of(config, {}, "safetensors"))}
    assert found == {"": (9216, 8192), "query": (8192, 8192), "key": (512, 8192), "value": (512, 8192)}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_t5_s_heads_are_of_the_width_that_its_configuration_says():
    config = hf.T5Config(vocab_size=40, d_model=32, d_kv=4, d_ff=48, num_layers=1, num_heads=4)
    model = hf.AutoModel.from_config(config)
    with open_checkpoint(model) as checkpoint:
        layout = Layout.of_checkpoint(checkpoint)
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    found = list(views(name, (16, 32), layout, per_head=True))
    assert [view.part for view in found] == ["", "head 0", "head 1", "head 2", "head 3"]
    weight = model.get_parameter(name)
    torch.testing.assert_close(found[2].cut(weight), weight[4:8])
    other = "decoder.block.0.layer.1.EncDecAttention.v.weight"
    assert len(list(views(other, (16, 32), layout, per_head=True))) == 5

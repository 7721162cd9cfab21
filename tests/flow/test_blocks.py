"""Which blocks a network folds into: readable, in the order in which data passes, none missing."""

import pytest
import torch
from torch import nn

import eigenscope as es
from eigenscope.errors import InputError
from flow.networks import (
    WIDTH,
    Cells,
    DenseNet,
    InParent,
    InPlaceResidual,
    Letters,
    Output,
    Parallel,
    Passed,
    Stack,
    UNet,
    inputs,
    wave,
)  # fmt: skip
from zoo import seeded

IDS = torch.arange(18).view(3, 6) % 20
INTEGERS = "its inputs are integers: the flow starts at its output"


def listed(model, x, loss_fn=wave, **settings):
    found = es.signal_flow(model, loss_fn, x, **settings)
    return [(block.name, block.about) for block in found.blocks]


def names(model, x, loss_fn=wave, **settings):
    return [name for name, _ in listed(model, x, loss_fn, **settings)]


def hugging_face(kind, config, **sizes):
    transformers = pytest.importorskip("transformers")
    common = {"vocab_size": 30, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    with seeded(0):
        return getattr(transformers, kind)(getattr(transformers, config)(**{**common, **sizes}))


def language(model, ids):
    return model(input_ids=ids, labels=ids).loss


def test_gpt2_folds_into_its_transformer_blocks():
    model = hugging_face("GPT2LMHeadModel", "GPT2Config", n_embd=8, n_layer=3, n_head=2, n_positions=8)
    found = es.signal_flow(model, language, IDS)
    assert [block.name for block in found.blocks] == [
        "transformer.wte", "transformer.wpe", "transformer.h.0", "transformer.h.1", "transformer.h.2", "lm_head",
    ]  # fmt: skip
    assert [block.reason for block in found.blocks[:2]] == [INTEGERS, INTEGERS]
    assert all(block.branch for block in found.blocks[2:5]), "x + attention + mlp: the +1 is seen"
    assert found.blocks[5].about == "LayerNorm + Linear"


def test_llama_folds_alike():
    model = hugging_face(
        "LlamaForCausalLM", "LlamaConfig", hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=16,
    )  # fmt: skip
    assert names(model, IDS, language) == ["model.embed_tokens", "model.layers.0", "model.layers.1", "lm_head"]


def test_bert_folds_into_its_layers():
    model = hugging_face(
        "BertForMaskedLM", "BertConfig", hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16
    )
    found = es.signal_flow(model, language, IDS)
    assert [block.name for block in found.blocks] == [
        "bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1", "bert.encoder.layer.2", "cls",
    ]  # fmt: skip
    assert not any(block.branch for block in found.blocks), "a normalization after the sum leaves no identity"


def test_t5_shows_encoder_and_decoder_in_the_order_in_which_data_passes():
    model = hugging_face(
        "T5ForConditionalGeneration", "T5Config", d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    found = es.signal_flow(model, language, IDS)
    assert [block.name for block in found.blocks] == [
        "encoder.embed_tokens", "encoder.block.0", "encoder.block.1", "encoder.final_layer_norm",
        "decoder.embed_tokens", "decoder.block.0", "decoder.block.1", "lm_head",
    ]  # fmt: skip
    assert [block.name for block in found.blocks if block.reason] == ["encoder.embed_tokens", "decoder.embed_tokens"]


def test_a_vision_transformer_starts_at_its_pixels():
    model = hugging_face(
        "ViTForImageClassification", "ViTConfig", hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16, image_size=8, patch_size=4, num_labels=3,
    )  # fmt: skip

    def loss(model, batch):
        return model(pixel_values=batch[0], labels=batch[1]).loss

    batch = (inputs(2, 3, 8, 8), torch.tensor([0, 1]))
    found = es.signal_flow(model, loss, [batch])
    assert [block.name for block in found.blocks] == ["vit.embeddings", "vit.layers.0", "vit.layers.1", "classifier"]
    assert not any(block.reason for block in found.blocks)


def test_a_plain_chain_is_its_layers_each_with_what_follows_it():
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.Tanh(),
        nn.Linear(8, 2),
    )  # fmt: skip
    assert listed(model, inputs(3, 8)) == [
        ("1", "Flatten + Linear + BatchNorm1d + ReLU + Dropout"), ("5", "Linear + Tanh"), ("7", "Linear"),
    ]  # fmt: skip


def test_one_layer_is_a_network():
    assert listed(nn.Linear(8, 2), inputs(3, 8)) == [("Linear", "Linear")]


def test_pytorchs_own_transformers():
    with seeded(0):
        encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 8, norm_first=True, batch_first=True), 3, enable_nested_tensor=False
        )
        whole = nn.Transformer(8, 2, 2, 2, 8, batch_first=True)
    found = es.signal_flow(encoder, wave, inputs(2, 5, 8))
    assert [block.name for block in found.blocks] == ["layers.0", "layers.1", "layers.2"]
    assert all(block.branch for block in found.blocks)
    assert names(whole, inputs(2, 5, 8), lambda model, x: wave(lambda x: model(x, x), x)) == [
        "encoder.layers.0", "encoder.layers.1", "encoder.norm", "decoder.layers.0", "decoder.layers.1", "decoder.norm",
    ]  # fmt: skip


def test_a_causal_mask_is_no_input_of_the_flow():
    encoder = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, dropout=0.0)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    found = es.signal_flow(
        encoder, lambda m, x: wave(lambda x: m(x, src_mask=mask, is_causal=True), x), inputs(2, 5, 8)
    )
    assert [block.reason for block in found.blocks] == [None] * len(found.blocks), "its -inf is no fault either"


@pytest.mark.parametrize("layers", [1, 3])
def test_a_list_of_attention_heads_is_no_stack(layers):
    blocks = [f"blocks.{index}" for index in range(layers)]
    assert names(Letters(layers), IDS) == ["tok", "pos", *blocks, "lm_head"]


@pytest.mark.parametrize("norm", [False, True])
def test_a_residual_written_in_the_parent_shows_its_plus_one(norm):
    with seeded(0):
        model = InParent(norm)
    found = es.signal_flow(model, wave, inputs(2, 5, WIDTH))
    assert [block.name for block in found.blocks] == ["attn.0", "mlp.0.0", "attn.1", "mlp.1.0", "out"]
    assert [block.branch is not None for block in found.blocks] == [True] * 4 + [False]
    prefix = "LayerNorm + " if norm else ""
    assert [b.about for b in found.blocks[:2]] == [f"{prefix}Heads", f"{prefix}Linear + ReLU + Linear"]
    for block in found.blocks[:4]:
        assert block.growth <= block.sigma_max.value * 1.01


@pytest.mark.parametrize("join", [torch.add, lambda a, b: torch.cat([a, b], -1)], ids=["added", "concatenated"])
def test_parallel_branches_are_listed_each(join):
    model = Parallel(join)
    model(inputs(2, WIDTH))
    assert names(model, inputs(2, WIDTH)) == ["stem", "left", "right", "out"]


def test_a_dense_net_is_its_layers():
    assert names(DenseNet(), inputs(2, 1, 6, 6)) == ["stem", "layers.0", "layers.1", "layers.2", "head"]


def test_a_u_net_says_that_a_shortcut_leads_around():
    with seeded(0):
        model = UNet()
    found = es.signal_flow(model, wave, inputs(2, 1, 8, 8))
    assert [block.name for block in found.blocks] == ["down", "bottom", "out"]
    assert any("a shortcut leads around" in note for note in found.notes) == any(
        block.growth > 1.1 * block.sigma_max.value for block in found.blocks
    )


def test_residual_blocks_in_place():
    with seeded(0):
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3), *[InPlaceResidual() for _ in range(3)], nn.Flatten(), nn.Linear(48, 2)
        )
    found = es.signal_flow(model, wave, inputs(2, 1, 6, 6))
    assert [block.name for block in found.blocks] == ["0", "1", "2", "3", "5"]
    assert [block.branch is not None for block in found.blocks] == [False, True, True, True, False]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_recurrent_layer_is_a_block(kind):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = kind(5, 6, 2, batch_first=True), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.inner(x)[0])

    assert listed(Reader(), inputs(2, 4, 5)) == [("inner", kind.__name__), ("head", "Linear")]


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell])
def test_a_module_used_several_times_is_listed_for_each_use(kind):
    assert names(Cells(kind), inputs(2, 4, WIDTH)) == ["cell", "cell (use 2)", "cell (use 3)", "cell (use 4)", "head"]


def test_layers_with_tied_weights_stay_two():
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    model = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), first)
    found = es.signal_flow(model, wave, inputs(3, 8))
    assert [block.name for block in found.blocks] == ["0", "2", "0 (use 2)"]
    sigma = float(torch.linalg.svdvals(first.weight.detach())[0])
    assert found.blocks[2].sigma_max.value == pytest.approx(sigma, rel=1e-2)


WAYS = {
    "tuple": (lambda h: (h, None), lambda out: out[0]),
    "mapping": (lambda h: {"hidden": h}, lambda out: out["hidden"]),
    "dataclass": (Output, lambda out: out.hidden),
    "nested": (lambda h: [(h, {"extra": 3})], lambda out: out[0][0]),
}


@pytest.mark.parametrize("way", WAYS)
def test_blocks_may_pass_anything_and_by_keyword(way):
    found = es.signal_flow(Passed(*WAYS[way]), wave, inputs(3, WIDTH))
    assert [block.name for block in found.blocks] == ["blocks.0", "blocks.1", "blocks.2", "blocks.3", "out"]
    assert all(block.branch for block in found.blocks[:4])


def test_a_loss_that_calls_sub_modules_itself():
    found = es.signal_flow(
        Stack(), lambda m, x: wave(lambda x: m.out(m.blocks[1](m.blocks[0](x))), x), inputs(3, WIDTH)
    )
    assert [(block.name, block.reason) for block in found.blocks] == [
        ("blocks.0.up", None), ("blocks.1.up", None), ("out", None),
        ("blocks.2", "it does not run on this batch"), ("blocks.3", "it does not run on this batch"),
    ]  # fmt: skip


def test_a_loss_that_calls_no_module_is_told():
    found = es.signal_flow(nn.Linear(8, 2), lambda m, x: (x @ m.weight.T).sin().sum(), inputs(3, 8))
    assert (found.verdict, found.blocks) == ("unresolved", ())
    assert found.verdict_reason == "no module of the model runs when loss_fn is called"


def test_a_user_may_name_the_blocks():
    model = Stack()
    assert names(model, inputs(3, WIDTH), blocks=["blocks.1.*", "out"]) == ["blocks.1.up", "blocks.1.down", "out"]
    assert names(model, inputs(3, WIDTH), blocks=["Stack"]) == ["Stack"]


def test_an_unknown_name_is_told_with_the_near_ones():
    with pytest.raises(InputError, match=r"no module named 'block\.1' runs on this batch; there are blocks\.1"):
        es.signal_flow(Stack(), wave, inputs(3, WIDTH), blocks=["block.1"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"blocks": "out"}, r"blocks='out': a list of module names is needed, as \['out'\]"),
        ({"blocks": []}, "blocks is empty"),
        ({"tolerance": 0}, "tolerance=0: a relative error between 0 and 1 is needed"),
        ({"max_matvecs": 1}, "max_matvecs=1: at least 2 products are needed"),
        ({"tolerence": 0.1}, "there is no setting 'tolerence': did you mean 'tolerance'"),
    ],
)
def test_bad_settings_are_one_line(settings, words):
    with pytest.raises(InputError, match=words):
        es.signal_flow(Stack(), wave, inputs(3, WIDTH), **settings)


def test_a_module_of_one_batch_only_is_measured_there():
    class Sometimes(Stack):
        def forward(self, x):
            for block in self.blocks[: len(x)]:
                x = block(x)
            return self.out(x)

    found = es.signal_flow(Sometimes(), wave, [inputs(2, WIDTH), inputs(3, WIDTH)])
    assert {block.name: block.reason for block in found.blocks} == {
        "blocks.0": None, "blocks.1": None, "blocks.2": None, "out": None, "blocks.3": "it does not run on this batch",
    }  # fmt: skip

"""Fine-tuned models come back: base and adapter, loaded by the real PEFT, give the tuned model's outputs.

"Change" is the norm of what fine-tuning did to the logits; errors are relative to it, so that an adapter that does
nothing has error 1. fp32 arithmetic through a few layers leaves about 10⁻⁶ of it.
"""

import copy
import warnings

import pytest
import torch
from peft import LoraConfig
from torch import nn

from adapters.models import (
    FAMILIES,
    VOCABULARY,
    gpt2,
    loaded,
    logits,
    made,
    merged,
    nudged,
    qwen2,
    saved,
    t5,
    trained,
    updated,
)
from eigenscope.adapters.extracting import extract_lora
from eigenscope.adapters.merging import merge_lora
from eigenscope.checkpoints import open_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")  # of PEFT and transformers; what PEFT misses is looked at in `loaded`


def error(found: nn.Module, tuned: nn.Module, base: nn.Module, vocabulary: int = VOCABULARY) -> float:
    wanted = logits(tuned, vocabulary)
    change = float((wanted - logits(base, vocabulary)).norm())
    assert change > 0.01 * float(wanted.norm()), "the fine-tuning did something"
    return float((logits(found, vocabulary) - wanted).norm()) / change


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_adapter_is_found_again_with_its_rank(family, tmp_path):
    build, targets = FAMILIES[family]
    base = made(build)
    tuned = merged(trained(base, LoraConfig(r=4, lora_alpha=8, target_modules=targets)))
    adapter = extract_lora(saved(base, tmp_path / "base"), saved(tuned, tmp_path / "tuned"))
    adapter.save(tmp_path / "adapter")
    assert {(layer.rank, layer.rank_of_change, layer.chosen_by) for layer in adapter.report.layers} == {(4, 4, "exact")}
    assert adapter.report.whole == ()
    assert adapter.report.residual < 1e-6
    assert error(loaded(base, tmp_path / "adapter"), tuned, base) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_any_two_models_come_back_whole_where_everything_changed(family, tmp_path):
    """Embeddings, norms, biases and heads too; weight matrices are changed at full rank, and half of it is kept."""
    build, _ = FAMILIES[family]
    base = made(build)
    tuned = nudged(copy.deepcopy(base), "weight", "bias", size=0.01)
    adapter = extract_lora(base, tuned, rank=None, energy=0.5)
    adapter.save(tmp_path / "adapter")
    report = adapter.report
    matrices = [name for name, weight in base.named_parameters() if weight.ndim == 2]
    kept = {layer.name + ".weight" for layer in report.layers} | {row.name for row in report.whole}
    assert set(matrices) <= kept
    assert all(0.5 <= layer.energy < 0.75 for layer in report.layers if layer.rank > 4)
    adapted = loaded(base, tmp_path / "adapter")
    after = merged(adapted).state_dict()
    for name, value in tuned.state_dict().items():
        left = float((after[name].double() - value.double()).norm())
        stated = next((layer for layer in report.layers if f"{layer.name}.weight" == name), None)
        assert left <= 1e-6 * float(value.double().norm()) + (stated.residual * stated.norm if stated else 0.0), name
        assert stated is None or left == pytest.approx(stated.residual * stated.norm, rel=1e-4)
    assert error(adapted, tuned, base) < 1


def test_the_stated_spectral_residual_bounds_each_layer_s_output_error(tmp_path):
    base = nn.Sequential(nn.Linear(40, 60), nn.Linear(60, 30))
    tuned = nudged(copy.deepcopy(base), "weight")
    adapter = extract_lora(base, tuned, rank=5)
    adapter.save(tmp_path / "adapter")
    after = merged(loaded(base, tmp_path / "adapter")).state_dict()
    for layer in adapter.report.layers:
        left = after[f"{layer.name}.weight"].double() - tuned.state_dict()[f"{layer.name}.weight"].double()
        exact = float(torch.linalg.matrix_norm(left, 2))
        assert exact <= layer.residual_spectral * (1 + 1e-6)
        assert layer.residual_spectral == pytest.approx(exact, rel=1e-2)
        assert layer.rank == 5


@pytest.mark.parametrize("tied", [True, False])
def test_a_changed_embedding_changes_the_head_that_is_tied_to_it(tied, tmp_path):
    base = made(gpt2, tie_word_embeddings=tied)
    tuned = nudged(copy.deepcopy(base), "wte.weight")
    adapter = extract_lora(saved(base, tmp_path / "base"), saved(tuned, tmp_path / "tuned"))
    adapter.save(tmp_path / "adapter")
    expected = ["lm_head", "transformer.wte"] if tied else ["transformer.wte"]
    assert adapter.config["modules_to_save"] == expected
    assert "no weight matrix changed" in adapter.report.notes[0]
    assert error(loaded(base, tmp_path / "adapter"), tuned, base) < 1e-6


def test_the_four_tied_tables_of_t5_change_together(tmp_path):
    base = made(t5)
    tuned = nudged(copy.deepcopy(base), "shared.weight", size=0.5)
    adapter = extract_lora(saved(base, tmp_path / "base"), saved(tuned, tmp_path / "tuned"))
    adapter.save(tmp_path / "adapter")
    assert adapter.config["modules_to_save"] == ["decoder.embed_tokens", "encoder.embed_tokens", "lm_head", "shared"]
    assert error(loaded(base, tmp_path / "adapter"), tuned, base) < 1e-6


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_grown_vocabulary_comes_along(family, tmp_path):
    build, targets = FAMILIES[family]
    base = made(build)
    tuned = merged(trained(base, LoraConfig(r=4, target_modules=targets)))
    tuned.resize_token_embeddings(VOCABULARY + 5, mean_resizing=False)
    nudged(tuned, "wte.weight", "embed_tokens.weight", "lm_head.weight")
    adapter = extract_lora(saved(base, tmp_path / "base"), saved(tuned, tmp_path / "tuned"))
    adapter.save(tmp_path / "adapter")
    assert "base_model.resize_token_embeddings(65)" in adapter.report.notes[0]
    assert "resize_token_embeddings(65)" in (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8")
    grown = copy.deepcopy(base)
    grown.resize_token_embeddings(VOCABULARY + 5, mean_resizing=False)
    assert error(loaded(grown, tmp_path / "adapter"), tuned, grown, VOCABULARY + 5) < 1e-5
    merge = merge_lora(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    assert "vocab_size" in merge.notes[-1]
    again = type(base).from_pretrained(tmp_path / "merged").eval()
    assert error(again, tuned, grown, VOCABULARY + 5) < 1e-5


def test_biases_that_changed_are_switched_off_with_the_adapter(tmp_path):
    base = made(gpt2)
    tuned = updated(nudged(copy.deepcopy(base), "c_attn.bias", "mlp.c_fc.bias"), "c_attn.weight")
    adapter = extract_lora(base, tuned)
    adapter.save(tmp_path / "adapter")
    assert (adapter.config["lora_bias"], adapter.config["bias"]) == (True, "none")
    adapted = loaded(base, tmp_path / "adapter")
    after = merged(adapted).state_dict()
    for name in ("h.0.attn.c_attn.bias", "h.1.mlp.c_fc.bias"):
        assert torch.allclose(after[f"transformer.{name}"], tuned.state_dict()[f"transformer.{name}"], atol=1e-7)
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted), logits(base))


def test_where_some_layers_have_no_bias_the_changed_ones_go_into_the_base(tmp_path):
    base = made(qwen2)
    tuned = updated(nudged(copy.deepcopy(base), "q_proj.bias", "k_proj.bias"), "q_proj.weight", "o_proj.weight")
    adapter = extract_lora(base, tuned)
    adapter.save(tmp_path / "adapter")
    assert adapter.config["bias"] == "all"
    assert "lora_bias" not in adapter.config
    assert {row.name.rpartition(".")[2] for row in adapter.report.whole if row.how == "bias"} == {"bias"}
    adapted = loaded(base, tmp_path / "adapter")
    after = merged(adapted).state_dict()
    name = "model.layers.1.self_attn.k_proj.bias"
    assert torch.equal(after[name], tuned.state_dict()[name])
    assert error(adapted, tuned, base) < 1e-5


def test_what_no_layer_holds_is_loaded_into_the_base(tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.randn(1, 8))
            self.norm = nn.LayerNorm(8)
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            return self.layer(self.norm(x + self.token))

    base = Scaled()
    tuned = nudged(copy.deepcopy(base), "token", "norm.weight")
    adapter = extract_lora(base, tuned)
    adapter.save(tmp_path / "adapter")
    x = torch.randn(5, 8)
    assert torch.allclose(loaded(base, tmp_path / "adapter")(x), tuned(x), atol=1e-6)
    assert "loads it into the base itself" in " ".join(adapter.report.notes)


class Net(nn.Module):
    """Convolutions of one, two and grouped kinds, and batch norms with running statistics."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, padding=1)
        self.norm = nn.BatchNorm2d(24)
        self.point = nn.Conv2d(24, 32, 1)
        self.depth = nn.Conv2d(32, 32, 3, groups=32)
        self.line = nn.Conv1d(32, 24, 3)
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        x = self.depth(self.point(self.norm(self.first(x)).relu()))
        return self.head(self.line(x.flatten(2)).mean(2))


def test_convolutions_and_running_statistics_come_back(tmp_path):
    base = Net().eval()
    tuned = nudged(copy.deepcopy(base), "first.weight", "depth.weight", "norm.weight", "line.bias", "head.weight")
    tuned.train()(torch.randn(16, 3, 9, 9))  # moves the running statistics
    tuned.eval()
    adapter = extract_lora(base, tuned, rank=None, energy=0.999)
    adapter.save(tmp_path / "adapter")
    rows = {row.name: row.how for row in adapter.report.whole}
    assert rows["norm.running_mean"] == rows["depth.weight"] == "modules_to_save"
    assert rows["first.weight"] == "modules_to_save", "noise of full rank: factors would be larger"
    assert adapter.config["target_modules"] == ["line"], "by its bias alone, with factors that are 0"
    x = torch.randn(4, 3, 9, 9)
    assert torch.allclose(loaded(base, tmp_path / "adapter")(x), tuned(x), atol=1e-5)


@pytest.mark.parametrize("rank", [2, 3])
def test_a_convolution_s_low_rank_update_is_found(rank, tmp_path):
    base = Net().eval()
    tuned = merged(trained_net(base, rank))
    adapter = extract_lora(base, tuned)
    adapter.save(tmp_path / "adapter")
    assert {layer.name: layer.rank for layer in adapter.report.layers} == {"first": rank, "line": rank, "point": rank}
    x = torch.randn(4, 3, 9, 9)
    assert torch.allclose(loaded(base, tmp_path / "adapter")(x), tuned(x), atol=1e-5)


def trained_net(base, rank):
    from peft import get_peft_model

    config = LoraConfig(r=rank, target_modules=["first", "point", "line"], init_lora_weights=False)
    return get_peft_model(copy.deepcopy(base), config).eval()


def test_names_that_end_alike_are_told_apart(tmp_path):
    """In a Sequential the names are numbers: "1" ends "0.1", and PEFT compares the ends of names."""
    base = nn.Sequential(nn.Sequential(nn.Linear(20, 24), nn.Linear(24, 20)), nn.Linear(20, 20), nn.LayerNorm(20))
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        tuned[1].weight += torch.randn(20, 2) @ torch.randn(2, 20)
        tuned[0][0].weight += torch.randn(24, 1) @ torch.randn(1, 20)
        tuned[2].weight += 0.1
    adapter = extract_lora(base, tuned)
    adapter.save(tmp_path / "adapter")
    assert {layer.name: layer.rank for layer in adapter.report.layers} == {"0.0": 1, "1": 2}
    x = torch.randn(3, 20)
    assert torch.allclose(loaded(base, tmp_path / "adapter")(x), tuned(x), atol=1e-5)


def test_an_attention_that_reads_its_parts_weights_is_not_bypassed(tmp_path):
    """torch's MultiheadAttention never calls its output projection: factors beside it would do nothing, silently."""
    base = nn.ModuleDict({"attention": nn.MultiheadAttention(16, 2), "out": nn.Linear(16, 16)})
    tuned = nudged(copy.deepcopy(base), "out_proj.weight", "in_proj_weight")
    adapter = extract_lora(base, tuned)
    adapter.save(tmp_path / "adapter")
    adapted = loaded(base, tmp_path / "adapter").base_model.model
    x = torch.randn(3, 1, 16)
    assert torch.allclose(adapted["attention"](x, x, x)[0], tuned["attention"](x, x, x)[0], atol=1e-6)


def test_a_base_without_its_head_s_prefix_fits_the_model_with_it(tmp_path):
    """The first GPT-2 was published as a GPT2Model: "h.0…" where the fine-tuned one says "transformer.h.0…"."""
    base = made(gpt2)
    tuned = merged(trained(base, LoraConfig(r=2, target_modules=["c_attn"])))
    adapter = extract_lora(saved(base.transformer, tmp_path / "base"), saved(tuned, tmp_path / "tuned"))
    adapter.save(tmp_path / "adapter")
    assert error(loaded(base, tmp_path / "adapter"), tuned, base) < 1e-5
    assert len(adapter.report.layers) == 2


def test_names_and_shapes_do_where_there_is_no_configuration(tmp_path):
    base = made(gpt2)
    tuned = nudged(merged(trained(base, LoraConfig(r=2, target_modules=["c_attn", "mlp.c_proj"]))), "ln_1.weight")
    torch.save(base.state_dict(), tmp_path / "base.pt")
    torch.save(tuned.state_dict(), tmp_path / "tuned.pt")
    adapter = extract_lora(tmp_path / "base.pt", tmp_path / "tuned.pt")
    adapter.save(tmp_path / "adapter")
    assert adapter.report.architecture == "names and shapes"
    assert {layer.kind for layer in adapter.report.layers} == {"conv1d"}
    assert error(loaded(base, tmp_path / "adapter"), tuned, base) < 1e-5


def test_a_new_head_comes_along(tmp_path):
    import transformers

    config = made(FAMILIES["bert"][0]).config
    masked = made(FAMILIES["bert"][0])
    tuned = made(lambda: transformers.BertForSequenceClassification(config), seed=3)
    tuned.bert.load_state_dict(masked.bert.state_dict(), strict=False)
    nudged(tuned, "query.weight")
    adapter = extract_lora(saved(masked, tmp_path / "base"), saved(tuned, tmp_path / "tuned"), rank=60)
    adapter.save(tmp_path / "adapter")
    assert "classifier" in adapter.config["modules_to_save"]
    start = made(lambda: transformers.BertForSequenceClassification(config), seed=4)
    start.bert.load_state_dict(masked.bert.state_dict(), strict=False)
    ids = {"input_ids": torch.randint(3, VOCABULARY, (3, 9))}
    with torch.no_grad():
        assert torch.allclose(loaded(start, tmp_path / "adapter")(**ids).logits, tuned(**ids).logits, atol=1e-5)


def test_the_merge_of_an_extracted_adapter_is_the_tuned_model(tmp_path):
    base = made(FAMILIES["llama"][0])
    tuned = nudged(merged(trained(base, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))), "norm.weight")
    extract_lora(base, tuned).save(tmp_path / "adapter")
    merge_lora(saved(base, tmp_path / "base"), tmp_path / "adapter", tmp_path / "merged")
    with open_checkpoint(tmp_path / "merged") as found:
        for name, value in tuned.state_dict().items():
            assert torch.allclose(found.load(name), value, atol=2e-6), name


def test_half_precision_factors_state_their_own_rounding(tmp_path):
    base = made(FAMILIES["llama"][0])
    tuned = merged(trained(base, LoraConfig(r=4, target_modules=["q_proj"])))
    fine, coarse = (extract_lora(base, tuned, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert fine.report.residual < 1e-6 < 1e-3 < coarse.report.residual < 1e-2
    assert coarse.report.bytes * 2 == fine.report.bytes
    coarse.save(tmp_path / "adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert error(loaded(base, tmp_path / "adapter"), tuned, base) < 0.05

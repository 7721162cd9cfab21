"""Merging is PEFT's merging, bit for bit, in every precision, without PEFT."""

import copy

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import nn

from adapters.models import FAMILIES, loaded, made, merged, nudged, saved, trained, write_adapter
from eigenscope.adapters.extracting import extract_lora
from eigenscope.adapters.merging import merge_lora
from eigenscope.adapters.opened import open_adapter
from eigenscope.checkpoints import open_checkpoint
from eigenscope.errors import CheckpointError, InputError

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = {
    "plain": {},
    "rank-stabilized": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"{0}": 7}, "alpha_pattern": {r"\d+\..*{0}": 3}},
}


def config(kind: str, targets: list[str]) -> LoraConfig:
    options = {
        key: {name.replace("{0}", targets[0]): number for name, number in value.items()} if value is not True else True
        for key, value in KINDS[kind].items()
    }
    return LoraConfig(r=4, lora_alpha=8, target_modules=targets, **options)


def same(folder, model: nn.Module) -> None:
    """Every tensor of the folder is the model's, bit for bit; and none is missing but those that are tied."""
    state = model.state_dict()
    with open_checkpoint(folder) as found:
        names = {entry.name for entry in found.entries}
        tied = {id(p): n for n, p in model.named_parameters()}.values()
        assert set(tied) <= names
        for name in names:
            assert found.load(name).dtype == state[name].dtype
            assert torch.equal(found.load(name), state[name]), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("weights", "factors"),
    [("float32", "float32"), ("bfloat16", "float32"), ("float16", "float16"), ("bfloat16", "bfloat16")],
)
def test_a_merge_is_peft_s_bit_for_bit(family, kind, weights, factors, tmp_path):
    build, targets = FAMILIES[family]
    base = made(build)
    trained(base, config(kind, targets), steps=2).save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: value.to(getattr(torch, factors)) for name, value in load_file(path).items()}, path)
    base = base.to(getattr(torch, weights))
    report = merge_lora(saved(base, tmp_path / "base"), tmp_path / "adapter", tmp_path / "merged")
    wanted = merged(loaded(base, tmp_path / "adapter"))
    assert len(report.merged) == sum(name.endswith(".weight") for name in report.merged) > 5
    same(tmp_path / "merged", wanted)


def test_the_merged_folder_is_a_model_of_transformers(tmp_path):
    build, targets = FAMILIES["gpt2"]
    base = made(build)
    adapted = trained(base, LoraConfig(r=2, target_modules=targets))
    adapted.save_pretrained(tmp_path / "adapter")
    (saved(base, tmp_path / "base") / "tokenizer.json").write_text("{}")
    merge_lora(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    again = type(base).from_pretrained(tmp_path / "merged")
    for name, value in merged(adapted).state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert (tmp_path / "merged" / "tokenizer.json").read_text() == "{}"


def test_a_model_in_memory_is_a_base_too(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
            self.register_buffer("cache", torch.ones(3), persistent=False)

        def forward(self, x):
            return self.norm(self.conv(x))

    base = Net().eval()
    adapted = copy.deepcopy(base)
    from peft import get_peft_model

    adapted = get_peft_model(adapted, LoraConfig(r=2, target_modules=["conv"], init_lora_weights=False)).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    merge_lora(base, tmp_path / "adapter", tmp_path / "merged")
    found = load_file(tmp_path / "merged" / "model.safetensors")
    wanted = merged(adapted).state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_whole_modules_and_biases_of_an_adapter_take_their_places(tmp_path):
    base = made(FAMILIES["gpt2"][0])
    adapted = trained(
        base, LoraConfig(r=2, target_modules=["c_attn"], bias="all", modules_to_save=["ln_f"], fan_in_fan_out=True)
    )
    adapted.save_pretrained(tmp_path / "adapter")
    merge_lora(saved(base, tmp_path / "base"), tmp_path / "adapter", tmp_path / "merged")
    same(tmp_path / "merged", merged(adapted))
    with open_checkpoint(tmp_path / "merged") as found:
        assert not torch.equal(found.load("transformer.ln_f.weight"), base.state_dict()["transformer.ln_f.weight"])


def test_a_tied_embedding_that_an_adapter_brings_is_stored_once(tmp_path):
    base = made(FAMILIES["gpt2"][0])
    tuned = nudged(copy.deepcopy(base), "wte.weight")
    extract_lora(base, tuned).save(tmp_path / "adapter")
    report = merge_lora(saved(base, tmp_path / "base"), tmp_path / "adapter", tmp_path / "merged")
    assert report.added == ()
    assert "lm_head.weight" not in load_file(tmp_path / "merged" / "model.safetensors")


@pytest.fixture
def pair(tmp_path):
    """A base in a file, and an adapter of one of its two layers in a folder."""
    base = {"a.weight": torch.randn(6, 8), "b.weight": torch.randn(5, 6)}
    save_file(base, tmp_path / "base.safetensors")
    factors = {"lora_A": torch.randn(2, 8), "lora_B": torch.randn(6, 2)}
    write_adapter(tmp_path / "adapter", {f"base_model.model.a.{name}.weight": f for name, f in factors.items()})
    return tmp_path / "base.safetensors", tmp_path / "adapter", tmp_path / "out"


def test_what_can_not_be_merged_is_refused_in_one_line_and_leaves_nothing(pair):
    base, adapter, out = pair
    a, b = torch.randn(2, 8), torch.randn(6, 2)
    key = "base_model.model.{}.lora_{}.weight"
    cases = {
        "no c.weight, which adapter changes: is it its base": ({key.format("c", "A"): a, key.format("c", "B"): b}, {}),
        r"b.weight is \(5, 6\) in the base, and its update is \(6, 8\)": (
            {key.format("b", "A"): a, key.format("b", "B"): b},
            {},
        ),
        "uses QALoRA, which eigenscope does not know": (
            {key.format("a", "A"): a, key.format("a", "B"): b},
            {"use_qalora": True},
        ),
        "initialized by pissa_niter_4, which changes the base too": (
            {key.format("a", "A"): a, key.format("a", "B"): b},
            {"init_lora_weights": "pissa_niter_4"},
        ),
        "the pattern .* is too intricate": (
            {key.format("a", "A"): a, key.format("a", "B"): b},
            {"alpha_pattern": {"(a+)+": 3}},
        ),
        "holds several adapters": (
            {
                key.format("a", f"{side}.{name}"): value.clone()
                for side, value in (("A", a), ("B", b))
                for name in ("x", "y")
            },
            {},
        ),
    }
    for message, (tensors, options) in cases.items():
        write_adapter(adapter, tensors, **options)
        with pytest.raises(InputError, match=message) as refused:
            merge_lora(base, adapter, out)
        assert "\n" not in str(refused.value)
        assert not out.exists()
    write_adapter(
        adapter,
        {"base_model.model.a.lora_embedding_A": a, "base_model.model.a.lora_embedding_B": b},
        use_dora=True,
    )
    with pytest.raises(InputError, match=r"uses DoRA beside a.weight, no dense layer: merge it with PEFT"):
        merge_lora(base, adapter, out)


def test_nan_in_the_base_or_the_factors_is_named(pair):
    base, adapter, out = pair
    broken = load_file(base)
    broken["a.weight"][1, 1] = torch.nan
    save_file(broken, base)
    with pytest.raises(CheckpointError, match=r"a.weight with the adapter holds NaN or infinity: not written"):
        merge_lora(base, adapter, out)
    write_adapter(
        adapter,
        {
            "base_model.model.a.lora_A.weight": torch.full((2, 8), torch.nan),
            "base_model.model.a.lora_B.weight": torch.ones(6, 2),
        },
    )
    with pytest.raises(CheckpointError, match="the factors of a hold NaN or infinity"):
        merge_lora(base, adapter, out)
    assert not any(path.name.startswith((".out", "out")) for path in out.parent.iterdir())


def test_what_is_no_adapter_is_refused(pair, tmp_path):
    base, adapter, out = pair
    with pytest.raises(InputError, match="is no PEFT adapter"):
        merge_lora(base, base, out)
    with pytest.raises(InputError, match="is an adapter itself"):
        merge_lora(adapter, adapter, out)
    with pytest.raises(InputError, match="is no adapter: give its folder"):
        open_adapter({"a": 1})


def test_progress_counts_every_tensor(pair):
    base, adapter, out = pair
    told = []
    merge_lora(base, adapter, out, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]

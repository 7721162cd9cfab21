"""A LoRA adapter gives ΔW = scaling · B·A of each weight, as PEFT would add it."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from checkpoints.samples import LORA, adapter, lora_factors
from eigenscope.checkpoints import open_checkpoint
from eigenscope.errors import CheckpointError
from zoo import shared_data

FACTORS = lora_factors()
A, B = (factor.double() for factor in FACTORS.values())


def test_the_update_is_the_scaled_product_under_the_name_of_the_weight(tmp_path: Path):
    with open_checkpoint(adapter(tmp_path)) as checkpoint:
        (entry,) = checkpoint.entries
        assert (entry.name, entry.shape, entry.dtype) == ("layer.0.weight", (24, 16), "float32")
        assert torch.allclose(checkpoint.load(entry.name), 2 * B @ A, rtol=1e-14)
        assert checkpoint.format == "peft"


@pytest.mark.parametrize(
    ("extra", "scaling"),
    [
        ({"use_rslora": True}, 8 / math.sqrt(4)),
        ({"alpha_pattern": {"layer.0": 32}}, 32 / 4),
        ({"alpha_pattern": {"layer.00": 32}}, 8 / 4),
    ],
)
def test_the_scaling_is_peft_s(extra: dict[str, object], scaling: float, tmp_path: Path):
    checkpoint = open_checkpoint(adapter(tmp_path, LORA | extra))
    assert torch.allclose(checkpoint.load("layer.0.weight"), scaling * B @ A, rtol=1e-14)


def test_the_update_is_out_by_in_whatever_the_configuration_says_of_the_base(tmp_path: Path):
    checkpoint = open_checkpoint(adapter(tmp_path, LORA | {"fan_in_fan_out": True}))
    assert checkpoint.entries[0].shape == (24, 16)
    assert torch.allclose(checkpoint.load("layer.0.weight"), 2 * B @ A, rtol=1e-14)


def test_an_embedding_s_update_has_a_row_for_each_token(tmp_path: Path):
    a, b = torch.randn(4, 50), torch.randn(16, 4)
    factors = {"base_model.model.wte.lora_embedding_A": a, "base_model.model.wte.lora_embedding_B": b}
    checkpoint = open_checkpoint(adapter(tmp_path, factors=factors))
    assert checkpoint.entries[0].shape == (50, 16)
    assert torch.allclose(checkpoint.load("wte.weight"), 2 * (b @ a).T.double(), atol=1e-5)


def test_a_convolution_s_update_acts_as_its_two_steps_do(tmp_path: Path):
    a, b = torch.randn(4, 3, 3, 3), torch.randn(5, 4, 1, 1)
    factors = {"base_model.model.conv.lora_A.weight": a, "base_model.model.conv.lora_B.weight": b}
    update = open_checkpoint(adapter(tmp_path, factors=factors)).load("conv.weight").float()
    image = torch.randn(1, 3, 8, 8)
    assert torch.allclose(F.conv2d(image, update), 2 * F.conv2d(F.conv2d(image, a), b), atol=1e-4)


def test_several_adapters_keep_their_names(tmp_path: Path):
    one = lora_factors("base_model.model.layer")
    factors = {
        key.replace("weight", f"{name}.weight"): value.clone() for name in ("en", "ti") for key, value in one.items()
    }
    checkpoint = open_checkpoint(adapter(tmp_path, factors=factors))
    assert [entry.name for entry in checkpoint.entries] == ["layer.weight (en)", "layer.weight (ti)"]


def test_whole_weights_that_an_adapter_brings_are_listed_with_the_reason(tmp_path: Path):
    factors = FACTORS | {"base_model.model.classifier.weight": torch.ones(2, 16)}
    checkpoint = open_checkpoint(adapter(tmp_path, factors=factors))
    reasons = {entry.name: entry.aside for entry in checkpoint.entries}
    assert reasons == {
        "layer.0.weight": None,
        "base_model.model.classifier.weight": "a whole weight that the adapter brings, not a ΔW",
    }


def test_dora_s_share_that_is_missing_is_noted(tmp_path: Path):
    assert "DoRA also rescales" in open_checkpoint(adapter(tmp_path, LORA | {"use_dora": True})).notes[0]


def test_factors_that_do_not_fit_and_other_adapters_are_refused(tmp_path: Path):
    wrong = {**FACTORS, "base_model.model.layer.0.lora_B.weight": torch.ones(24, 3)}
    with pytest.raises(CheckpointError, match=r"factors of layer.0, \(4, 16\) and \(24, 3\), do not fit"):
        open_checkpoint(adapter(tmp_path, factors=wrong))
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(CheckpointError, match="is a PEFT adapter of type IA3: eigenscope reads those of type LORA"):
        open_checkpoint(tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"without weights: looked for adapter_model.safetensors and adapter_model"
    ):
        open_checkpoint(tmp_path / "adapter")


def test_the_tigrinya_adapter_has_rank_eight_to_the_last_digit():
    with open_checkpoint(shared_data("adapters/gpt2-tigrinya")) as checkpoint:
        assert len(checkpoint.entries) == 36
        update = checkpoint.load("transformer.h.0.attn.c_attn.weight")
    values = torch.linalg.svdvals(update)
    assert values[8] < 1e-14 * values[0] < values[7]
    with open_checkpoint(shared_data("weights/gpt2-small-block0.safetensors")) as base:
        weight = base.load("transformer.h.0.attn.c_attn.weight").double()
    assert update.shape == weight.shape[::-1]  # a Conv1D's weight is in × out
    assert float(update.norm() / weight.norm()) == pytest.approx(0.016, abs=0.0005)

"""What an adapter uses of its rank, against the dense SVD of ΔW; and resizing, against Eckart & Young."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from adapters.models import FAMILIES, loaded, logits, made, merged, saved, trained, write_adapter
from eigenscope.adapters.inspecting import inspect_lora
from eigenscope.adapters.resizing import resize_lora
from eigenscope.adapters.spectrum import factor_spectrum
from eigenscope.checkpoints import open_checkpoint
from eigenscope.errors import InputError
from eigenscope.scanning.compare import compare
from zoo import shared_data

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("scaling", [1.0, 4.0, -2.0])
@pytest.mark.parametrize("shape", [(40, 6, 30), (30, 6, 40), (5, 6, 40)])
def test_the_spectrum_of_the_factors_is_that_of_their_product(scaling, shape):
    rows, rank, columns = shape
    a, b = torch.randn(rank, columns).double(), torch.randn(rows, rank).double()
    found = factor_spectrum(a, b, scaling)
    dense = torch.linalg.svdvals(scaling * b @ a)[: min(rank, rows)]
    assert torch.allclose(found.singular_values[: len(dense)], dense, rtol=1e-13, atol=1e-13 * float(dense[0]))
    back = (found.u * found.singular_values) @ found.vt
    assert torch.allclose(back, scaling * b @ a, atol=1e-12)


def factors_of_spectrum(sigma, rows=30, columns=20):
    """B and A whose product, at scaling 2, has these singular values."""
    u, _ = torch.linalg.qr(torch.randn(rows, len(sigma)).double())
    v, _ = torch.linalg.qr(torch.randn(columns, len(sigma)).double())
    return (u * torch.tensor(sigma) / 2).float().contiguous(), v.T.float().contiguous()


def test_the_rank_that_an_adapter_uses_is_told_from_its_nominal_one(tmp_path):
    """σ = 8, 4, 2, 1 and four zeros: Σσ² = 85, of which 64, 80, 84, 85 are held by 1, 2, 3, 4 directions."""
    b, a = factors_of_spectrum([8.0, 4.0, 2.0, 1.0, 0, 0, 0, 0])
    names = ("base_model.model.a.lora_A.weight", "base_model.model.a.lora_B.weight")
    write_adapter(tmp_path / "adapter", dict(zip(names, (a, b), strict=True)), lora_alpha=16, r=8)
    found = inspect_lora(tmp_path / "adapter")
    (layer,) = found.layers
    assert layer.singular_values[:4] == pytest.approx((8, 4, 2, 1), rel=1e-6)
    assert (layer.rank, layer.rank_used, layer.rank_enough, layer.scaling) == (8, 4, 3, 2.0)
    assert layer.effective_rank == pytest.approx(15**2 / 85, rel=1e-6)
    assert layer.stable_rank == pytest.approx(85 / 64, rel=1e-6)
    assert (found.parameters, found.parameters_enough) == (8 * 50, 3 * 50)
    assert inspect_lora(tmp_path / "adapter", energy=0.94).layers[0].rank_enough == 2
    assert layer.intruders is None


def test_an_adapter_that_was_never_trained_adds_nothing(tmp_path):
    names = ("base_model.model.a.lora_A.weight", "base_model.model.a.lora_B.weight")
    write_adapter(tmp_path / "adapter", dict(zip(names, (torch.randn(2, 8), torch.zeros(6, 2)), strict=True)))
    found = inspect_lora(tmp_path / "adapter")
    assert found.layers[0].rank_used == 0
    assert "1 layer of 1 add nothing" in found.notes[0]


def test_intruders_are_those_that_compare_counts(tmp_path):
    build, targets = FAMILIES["llama"]
    base = made(build)
    trained(base, LoraConfig(r=4, target_modules=targets)).save_pretrained(tmp_path / "adapter")
    saved(base, tmp_path / "base")
    found = inspect_lora(tmp_path / "adapter", tmp_path / "base")
    changes = {change.name: change for change in compare(tmp_path / "base", tmp_path / "adapter").changes}
    for layer in found.layers:
        change = changes[f"{layer.name}.weight"]
        assert (layer.intruders, layer.relative_size) == (change.intruders, change.relative_size)
        sigma = np.array(layer.singular_values)
        assert sigma == pytest.approx(change.difference.singular_values[: len(sigma)], rel=1e-9)


def test_the_tigrinya_adapter_uses_its_rank_of_8():
    found = inspect_lora(shared_data("adapters/gpt2-tigrinya"), shared_data("weights/gpt2-small-block0.safetensors"))
    assert len(found.layers) == 36
    assert {(layer.rank, layer.rank_used, layer.scaling) for layer in found.layers} == {(8, 8, 4.0)}
    first = next(layer for layer in found.layers if layer.name == "transformer.h.0.attn.c_attn")
    assert first.relative_size == pytest.approx(0.016, abs=5e-4)
    assert first.intruders is not None
    assert first.rank_enough <= 8


@pytest.mark.parametrize("rank", [1, 3, "auto"])
def test_a_resized_adapter_is_the_best_of_its_rank(rank, tmp_path):
    build, targets = FAMILIES["gpt2"]
    base = made(build)
    adapted = trained(base, LoraConfig(r=4, lora_alpha=12, use_rslora=True, target_modules=targets))
    adapted.save_pretrained(tmp_path / "adapter")
    resized = resize_lora(tmp_path / "adapter", rank, energy=0.9)
    resized.save(tmp_path / "resized")
    again = merged(loaded(base, tmp_path / "resized")).state_dict()
    whole = merged(adapted).state_dict()
    for row in resized.report.layers:
        change = (whole[f"{row.name}.weight"] - base.state_dict()[f"{row.name}.weight"]).double()
        left = (whole[f"{row.name}.weight"] - again[f"{row.name}.weight"]).double()
        sigma = torch.linalg.svdvals(change)
        best = float(torch.linalg.vector_norm(sigma[row.rank :]) / torch.linalg.vector_norm(sigma))
        assert row.residual == pytest.approx(best, abs=1e-5)
        assert float(left.norm() / change.norm()) == pytest.approx(row.residual, abs=1e-5)
        if rank == "auto":
            assert row.residual**2 <= 0.1
            short = float(torch.linalg.vector_norm(sigma[row.rank - 1 :]) / torch.linalg.vector_norm(sigma))
            assert short**2 > 0.1, "one direction less would not do"
        else:
            assert row.rank == rank


def test_what_a_resize_keeps_is_the_same_model(tmp_path):
    """At its full rank nothing is lost: biases of B, whole modules and the scaling included."""
    base = made(FAMILIES["bert"][0])
    config = LoraConfig(
        r=3, lora_alpha=9, target_modules=["query"], lora_bias=True, modules_to_save=["pooler", "LayerNorm"]
    )
    adapted = trained(base, config)
    adapted.save_pretrained(tmp_path / "adapter")
    resize_lora(tmp_path / "adapter", 3).save(tmp_path / "resized")
    described = json.loads((tmp_path / "resized" / "adapter_config.json").read_text())
    assert (described["r"], described["lora_alpha"], described["lora_bias"]) == (3, 3, True)
    assert torch.allclose(logits(loaded(base, tmp_path / "resized")), logits(adapted), atol=1e-5)


def test_a_dora_adapter_keeps_its_magnitudes(tmp_path):
    base = made(FAMILIES["llama"][0])
    adapted = trained(base, LoraConfig(r=4, target_modules=["q_proj"], use_dora=True))
    adapted.save_pretrained(tmp_path / "adapter")
    resized = resize_lora(tmp_path / "adapter", 4)
    resized.save(tmp_path / "resized")
    assert "DoRA" in resized.report.notes[0]
    assert torch.allclose(logits(loaded(base, tmp_path / "resized")), logits(adapted), atol=1e-5)


def test_a_larger_rank_than_the_adapter_s_is_refused(tmp_path):
    names = ("base_model.model.a.lora_A.weight", "base_model.model.a.lora_B.weight")
    write_adapter(tmp_path / "adapter", dict(zip(names, (torch.randn(2, 8), torch.randn(6, 2)), strict=True)))
    with pytest.raises(InputError, match=r"rank=5 is not possible: adapter has rank 2; give at most that"):
        resize_lora(tmp_path / "adapter", 5)
    with pytest.raises(InputError, match=r"energy=0 is no share"):
        resize_lora(tmp_path / "adapter", energy=0)
    with pytest.raises(InputError, match=r"rank='all' is none: give a number, \"auto\""):
        resize_lora(tmp_path / "adapter", "all")


def test_half_precision_stays_half_precision(tmp_path):
    b, a = factors_of_spectrum([8.0, 4.0, 2.0])
    names = ("base_model.model.a.lora_A.weight", "base_model.model.a.lora_B.weight")
    tensors = {name: value.bfloat16() for name, value in zip(names, (a, b), strict=True)}
    write_adapter(tmp_path / "adapter", tensors, r=3, lora_alpha=6)
    resized = resize_lora(tmp_path / "adapter", 2)
    assert {value.dtype for value in resized.tensors.values()} == {torch.bfloat16}
    (row,) = resized.report.layers
    assert row.residual == pytest.approx(2 / 84**0.5, abs=5e-3)
    resized.save(tmp_path / "resized")
    save_file(load_file(tmp_path / "resized" / "adapter_model.safetensors"), tmp_path / "again.safetensors")
    with open_checkpoint(tmp_path / "resized") as found:
        assert found.load("a.weight").shape == (30, 20)

"""What fine-tuning did: ΔW's spectrum, its size, turned subspaces, intruders."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import eigenscope as es
from checkpoints import samples
from eigenscope.errors import InputError
from eigenscope.reports.strict_json import strict
from zoo import shared_data


def base(rows: int = 60, columns: int = 80) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(rows, rows, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(columns, rows, generator=generator, dtype=torch.float64))
    sigma = torch.logspace(0.5, -1, rows, dtype=torch.float64)
    return {"layers.0.weight": (left * sigma) @ right.T, "layers.0.bias": torch.zeros(rows)}


def tuned(first: dict[str, torch.Tensor], rank: int, size: float) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    rows, columns = first["layers.0.weight"].shape
    left, right = (torch.randn(shape, generator=generator).double() for shape in ((rows, rank), (rank, columns)))
    change = left @ right
    change = change * size * first["layers.0.weight"].norm() / change.norm()
    return {**first, "layers.0.weight": first["layers.0.weight"] + change}


def test_rank_and_size_of_the_change_are_what_was_put_in():
    first = base()
    (change,) = es.compare(first, tuned(first, 4, 0.02)).changes
    assert change.relative_size == pytest.approx(0.02)
    assert change.difference.rank == 4
    assert change.overlap > 0.9
    assert change.intruders == 0


def test_a_strong_foreign_direction_is_an_intruder():
    first = base()
    (change,) = es.compare(first, tuned(first, 1, 3.0)).changes
    assert change.intruders == 1


def test_what_did_not_change_is_listed():
    found = es.compare(base(), base())
    assert found.unchanged == ("layers.0.weight",)
    assert not found.changes


def test_other_shapes_and_missing_tensors_have_their_reason():
    first = {**base(), "head": torch.randn(5, 6), "only_here": torch.randn(4, 4)}
    second = {**tuned(base(), 2, 0.1), "head": torch.randn(5, 7), "only_there": torch.randn(3, 3)}
    reasons = {item.name: item.reason for item in es.compare(first, second).skipped}
    assert "another shape" in reasons["head"]
    assert reasons["only_here"] == "TUNED has no such tensor"
    assert reasons["only_there"] == "BASE has no such tensor"


def test_nothing_in_common_is_told():
    with pytest.raises(InputError, match="no matrix in common"):
        es.compare({"a": torch.randn(3, 3)}, {"b": torch.randn(3, 3)})


def test_gpt2_with_its_adapter_changes_by_rank_8():
    """../shared/data/README.md: rank exactly 8, and ‖ΔW‖/‖W‖ = 0.016 in block 0."""
    found = es.compare(shared_data("weights/gpt2-small-block0.safetensors"), shared_data("adapters/gpt2-tigrinya"))
    whole = {change.name: change for change in found.changes if not change.part}
    assert set(whole) == {"transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_proj.weight"}
    assert {change.difference.rank for change in whole.values()} == {8}
    assert whole["transformer.h.0.attn.c_attn.weight"].relative_size == pytest.approx(0.016, abs=1e-3)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (16, 16), (2, 40), (30, 50)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_relative_size_is_that_of_the_norms_however_small_the_matrix(shape, dtype):
    weight, change = normal(*shape).to(dtype), 0.01 * normal(*shape, seed=1).to(dtype)
    base, after = {"w": weight.clone()}, {"w": weight + change}
    (found,) = es.compare(base, after).changes
    moved = after["w"].double() - weight.double()
    assert found.relative_size == pytest.approx(float(moved.norm() / weight.double().norm()), rel=1e-9)
    assert found.difference.frobenius_norm == pytest.approx(float(moved.norm()), rel=1e-9)
    assert torch.equal(base["w"], weight)


def test_the_parts_of_a_small_fused_projection_have_their_own_relative_sizes():
    weight, change = normal(36, 12), 0.01 * normal(36, 12, seed=1)
    found = {c.part: c for c in es.compare({"in_proj_weight": weight}, {"in_proj_weight": weight + change}).changes}
    for part, rows in {"": slice(None), "query": slice(0, 12), "value": slice(24, 36)}.items():
        expected = float(change[rows].norm() / weight[rows].norm())
        assert found[part].relative_size == pytest.approx(expected, rel=1e-5)


def test_a_whole_weight_that_an_adapter_brings_is_no_update(tmp_path):
    """PEFT's `modules_to_save`: W_new stands in the file, so the change is W_new − W."""
    classifier = normal(8, 16)
    save_file({"layer.0.weight": normal(24, 16), "classifier.weight": classifier}, tmp_path / "base.safetensors")
    brought = {"base_model.model.classifier.modules_to_save.weight": classifier + 0.001 * normal(8, 16, seed=1)}
    folder = samples.adapter(tmp_path, factors=samples.lora_factors() | brought)
    found = {change.name: change for change in es.compare(tmp_path / "base.safetensors", folder).changes}
    assert found["classifier.weight"].relative_size == pytest.approx(0.001, rel=0.3)
    assert found["classifier.weight"].overlap > 0.99
    assert found["layer.0.weight"].difference.rank == 4
    with pytest.raises(es.InputError, match="adapter, is a PEFT adapter: name the model first, then its adapter"):
        es.compare(folder, tmp_path / "base.safetensors")


def test_what_is_no_weight_is_not_compared(tmp_path):
    for seed, name in enumerate(("a.pt", "b.pt")):
        model, state = {"w": normal(30, 30, seed=seed)}, {"state": {0: {"exp_avg": normal(30, 30, seed=seed)}}}
        torch.save({"state_dict": model, "optimizer": state}, tmp_path / name)
    found = es.compare(tmp_path / "a.pt", tmp_path / "b.pt")
    assert [change.name for change in found.changes] == ["w"]
    assert [(item.name, item.reason) for item in found.skipped] == [
        ("optimizer.state.0.exp_avg", "state of the optimizer")
    ]


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("shape", [(40, 60), (60, 40)])
def test_the_null_space_of_a_base_of_low_rank_is_no_direction(rank, shape):
    weight = normal(shape[0], rank) @ normal(rank, shape[1], seed=1)
    (change,) = es.compare({"w": weight}, {"w": weight + 0.001 * normal(*shape, seed=2)}).changes
    assert change.overlap > 0.999
    assert change.intruders == 0


def test_a_base_of_zeros_has_no_directions():
    (change,) = es.compare({"w": torch.zeros(40, 60)}, {"w": normal(40, 60)}).changes
    assert (change.overlap, change.intruders) == (None, None)
    text = json.dumps(strict(es.compare({"w": torch.zeros(4, 6)}, {"w": normal(4, 6)}).to_dict()), allow_nan=False)
    assert json.loads(text)["changes"][0]["overlap"] is None


@pytest.mark.parametrize("tall", [True, False])
def test_intruders_are_outputs_whatever_is_longer(tall):
    """TUNED answers the strongest input with another output: a new output, and no new input."""
    rows, columns = (60, 20) if tall else (20, 60)
    left, _ = torch.linalg.qr(normal(rows, 13).double())
    right, _ = torch.linalg.qr(normal(columns, 12, seed=1).double())
    sigma = torch.linspace(5, 1, 12).double()
    before = (left[:, :12] * sigma) @ right.T
    outputs = left[:, :12].clone()
    outputs[:, 0] = left[:, 12]
    (change,) = es.compare({"w": before}, {"w": (outputs * sigma) @ right.T}).changes
    assert change.intruders == 1
    (change,) = es.compare({"w": before.T.contiguous()}, {"w": ((outputs * sigma) @ right.T).T.contiguous()}).changes
    assert change.intruders == 0


@pytest.mark.parametrize(("first", "second"), [((8, 16, 3, 3), (16, 8, 3, 3)), ((20, 30), (30, 20))])
def test_other_shapes_of_the_same_entries_are_told_and_not_turned(first, second):
    found = es.compare({"w": normal(*first)}, {"w": normal(*second)})
    assert not found.changes
    assert [item.reason for item in found.skipped] == [f"of another shape in TUNED: {second}"]


def test_chgnet_and_its_fine_tune_are_compared_without_the_optimizer_s_state():
    """0.3.0 and its r2SCAN transfer learning, out of the package that brings them (its dependencies are not needed)."""
    found = importlib.util.find_spec("chgnet")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the checkpoints in the package: pip install --no-deps chgnet==0.4.2")
    folder = Path(next(iter(found.submodule_search_locations))) / "pretrained"
    base, after = (next((folder / name).glob("*.tar")) for name in ("0.3.0", "r2scan"))
    result = es.compare(base, after)
    assert len(result.changes) == 47
    assert not any("optimizer" in change.name for change in result.changes)
    assert sum(item.reason == "state of the optimizer" for item in result.skipped) > 90
    states = [torch.load(path, map_location="cpu", weights_only=False)["model"]["state_dict"] for path in (base, after)]
    for change in result.changes:
        before, now = (state[change.name].double() for state in states)
        if not change.part:
            assert change.relative_size == pytest.approx(float((now - before).norm() / before.norm()), rel=1e-6)
    largest = max(result.changes, key=lambda change: change.relative_size)
    assert (largest.name, round(largest.relative_size, 3)) == ("mlp.layers.0.weight", 0.309)

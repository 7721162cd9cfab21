"""What fine-tuning did: ΔW's spectrum, its size, turned subspaces, intruders."""

import pytest
import torch

import eigenscope as es
from eigenscope.errors import InputError
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
    change = torch.randn(rows, rank, generator=generator) @ torch.randn(rank, columns, generator=generator)
    change = change.double() * size * first["layers.0.weight"].norm() / change.norm()
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

"""`eigenscope compare`: two checkpoints, or a base and an adapter."""

import json
from pathlib import Path

import pytest
import torch

from reports.scans import matrix

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def pair(eigenscope):  # in its empty folder
    """A base and what a change of rank 2 made of one of its two matrices."""
    base = {"a.weight": matrix(12, 20), "b.weight": matrix(9, 9)}
    torch.save(base, "base.pt")
    torch.save(base | {"a.weight": base["a.weight"] + 0.1 * matrix(12, 2) @ matrix(2, 20, 1)}, "tuned.pt")
    return "base.pt", "tuned.pt"


def test_a_comparison_prints_its_table_and_its_summary(eigenscope, pair):
    ended = eigenscope("compare", *pair)
    assert (ended.status, ended.err) == (0, "")
    assert "1 matrix changed, 1 matrix is bit for bit the same. ΔW has rank exactly 2;" in ended.out


def test_json_to_standard_output_is_json_alone(eigenscope, pair):
    found = json.loads(eigenscope("compare", *pair, "--json", "-").out)
    (change,) = found["changes"]
    assert (change["name"], change["difference"]["rank"], found["unchanged"]) == ("a.weight", 2, ["b.weight"])


def test_the_report_is_written_beside_the_table(eigenscope, pair):
    assert "a.weight" in eigenscope("compare", *pair, "--sort", "relative_size", "--html", "a.html").out
    assert "ΔW has rank exactly 2" in Path("a.html").read_text(encoding="utf-8")


def test_what_can_not_be_compared_is_one_line(eigenscope, pair):
    torch.save({"other": matrix(4, 4)}, "other.pt")
    assert "have no matrix in common" in eigenscope("compare", "base.pt", "other.pt").complaint
    assert eigenscope("compare", "base.pt", "absent.pt").complaint
    assert "is a folder" in eigenscope("compare", *pair, "--html", ".").complaint


def test_an_adapter_of_gpt2_has_rank_8_and_changes_1_6_percent(eigenscope):
    base, adapter = DATA / "weights" / "gpt2-small-block0.safetensors", DATA / "adapters" / "gpt2-tigrinya"
    if not adapter.is_dir():
        pytest.skip("needs shared/data: the adapter gpt2-tigrinya")
    found = json.loads(eigenscope("compare", base, adapter, "--json", "-").out)
    whole = {change["name"]: change for change in found["changes"] if not change["part"]}
    assert {change["difference"]["rank"] for change in whole.values()} == {8}
    assert whole["transformer.h.0.attn.c_attn.weight"]["relative_size"] == pytest.approx(0.016, abs=5e-4)

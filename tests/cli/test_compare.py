"""`eigenscope compare`: two checkpoints, or a base and an adapter."""

import csv
import io
import json
import re
from pathlib import Path

import jsonschema
import pytest
import torch

from eigenscope.reports.strict_json import strict
from eigenscope.scanning.compare import compare
from eigenscope.weights.definitions import WEIGHT_DEFINITIONS
from reports.scans import matrix

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
SCHEMA = json.loads((ROOT / "docs" / "compare.schema.json").read_text(encoding="utf-8"))


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
    jsonschema.validate(found, SCHEMA)
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


def test_csv_has_a_row_for_every_tensor(eigenscope, pair):
    rows = list(csv.DictReader(io.StringIO(eigenscope("compare", *pair, "--csv", "-").out)))
    assert [row["name"] for row in rows] == ["a.weight", "b.weight"]
    assert (rows[0]["rank"], rows[1]["reason"]) == ("2", "bit for bit the same")


def test_match_leaves_the_others_out(eigenscope, pair):
    found = json.loads(eigenscope("compare", *pair, "--match", "b.*", "--json", "-").out)
    assert (found["changes"], found["unchanged"]) == ([], ["b.weight"])
    assert [(item["name"], item["reason"]) for item in found["skipped"]] == [
        ("a.weight", "left out: --match names others")
    ]
    assert "try '*weight*'" in eigenscope("compare", *pair, "--match", "weight").complaint


@pytest.mark.parametrize(("rule", "status"), [
    ("relative_size>0.01", 1), ("relative_size>100", 0), ("rank_at_99<=2", 1), ("rank>2", 0), ("intruders>=0", 1),
    ("overlap<=1", 1), ("spectrum_shape==rank_deficient", 1),
])  # fmt: skip
def test_a_rule_that_a_change_meets_ends_with_1_and_names_it(eigenscope, pair, rule, status):
    ended = eigenscope("compare", *pair, "--fail-on", rule, "--json", "-")
    assert ended.status == status
    if status:
        (line,) = ended.err.splitlines()
        assert line.startswith(f"a.weight: {re.split('[<>=]', rule)[0]} = ")
        assert line.endswith(f", meets {rule!r}")


def test_nothing_that_changed_meets_no_rule_and_nothing_that_was_compared_is_no_check(eigenscope, pair):
    assert eigenscope("compare", "base.pt", "base.pt", "--fail-on", "relative_size>0").status == 0
    torch.save({"a.weight": matrix(3, 3), "b.weight": matrix(3, 3)}, "other.pt")
    assert "nothing to check" in eigenscope("compare", "base.pt", "other.pt", "--fail-on", "rank>0").complaint


def test_a_bad_rule_is_told_before_the_work(eigenscope):
    assert "did you mean 'overlap'" in eigenscope("compare", "x.pt", "y.pt", "--fail-on", "overlp<1").complaint
    assert "there is no number" in eigenscope("compare", "x.pt", "y.pt", "--fail-on", "operator_norm>1").complaint


def test_the_schema_is_one_and_knows_every_property():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    base = {"w": matrix(12, 20), "zero": torch.zeros(4, 5), "v": torch.ones(3)}
    found = strict(compare(base, {"w": base["w"] + 0.1, "zero": torch.ones(4, 5), "v": torch.ones(3)}).to_dict())
    jsonschema.validate(found, SCHEMA)
    assert set(found) == set(SCHEMA["properties"])
    for change in found["changes"]:
        assert set(change) == set(SCHEMA["$defs"]["change"]["properties"])
        assert set(change["difference"]) == set(SCHEMA["$defs"]["difference"]["properties"])
    for part in ("change", "difference"):
        known = SCHEMA["$defs"][part]["properties"]
        for name in set(known) & set(WEIGHT_DEFINITIONS):
            said = WEIGHT_DEFINITIONS[name].definition.partition(";")[0]
            assert known[name]["description"].startswith(said), name
    del found["changes"][0]["relative_size"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, SCHEMA)


def test_an_adapter_of_gpt2_has_rank_8_and_changes_1_6_percent(eigenscope):
    base, adapter = DATA / "weights" / "gpt2-small-block0.safetensors", DATA / "adapters" / "gpt2-tigrinya"
    if not adapter.is_dir():
        pytest.skip("needs shared/data: the adapter gpt2-tigrinya")
    found = json.loads(eigenscope("compare", base, adapter, "--json", "-").out)
    whole = {change["name"]: change for change in found["changes"] if not change["part"]}
    assert {change["difference"]["rank"] for change in whole.values()} == {8}
    assert whole["transformer.h.0.attn.c_attn.weight"]["relative_size"] == pytest.approx(0.016, abs=5e-4)

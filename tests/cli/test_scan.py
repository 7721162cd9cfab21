"""`eigenscope scan`: what goes where, what fails a build, and JSON as its schema says."""

import csv
import io
import json
from pathlib import Path

import jsonschema
import pytest
import torch

from eigenscope.reports.strict_json import strict
from eigenscope.weights.definitions import WEIGHT_DEFINITIONS
from reports.scans import matrix, odd_scan

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "scan.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def checkpoint(eigenscope):  # in its empty folder
    """A file of two matrices, one of them singular, and a vector."""
    state = {"a.weight": matrix(8, 12), "b.weight": torch.diag(torch.tensor([2.0, 1.0, 0.0])), "a.bias": torch.ones(8)}
    torch.save(state, "model.pt")
    return "model.pt"


def test_a_scan_prints_its_table_and_its_summary(eigenscope, checkpoint):
    ended = eigenscope("scan", checkpoint)
    assert (ended.status, ended.err) == (0, "")
    assert "a.weight" in ended.out
    assert "2 matrices with 105 entries" in ended.out
    assert "1 not analysed  a vector: no matrix: a.bias" in ended.out


def test_json_to_standard_output_is_json_alone_and_valid(eigenscope, checkpoint):
    ended = eigenscope("scan", checkpoint, "--json", "-")
    found = json.loads(ended.out)
    jsonschema.validate(found, SCHEMA)
    assert ended.err == ""
    assert [row["name"] for row in found["matrices"]] == ["a.weight", "b.weight"]
    assert found["skipped"] == [{"name": "a.bias", "shape": [8], "dtype": "float32", "reason": "a vector: no matrix"}]


def test_csv_to_standard_output_is_csv_alone(eigenscope, checkpoint):
    rows = list(csv.DictReader(io.StringIO(eigenscope("scan", checkpoint, "--csv", "-").out)))
    assert [row["name"] for row in rows] == ["a.weight", "b.weight", "a.bias"]


def test_files_are_written_beside_the_table(eigenscope, checkpoint):
    ended = eigenscope("scan", checkpoint, "--json", "a.json", "--csv", "a.csv", "--html", "a.html")
    assert "a.weight" in ended.out
    assert json.loads(Path("a.json").read_text(encoding="utf-8"))["summary"]["matrices"] == 2
    assert Path("a.csv").read_text(encoding="utf-8").startswith("name,part")
    assert Path("a.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_rule_that_is_met_ends_with_1_and_names_the_rows(eigenscope, checkpoint):
    ended = eigenscope("scan", checkpoint, "--fail-on", "condition_number>1e6", "--json", "-")
    assert ended.status == 1
    assert json.loads(ended.out)
    (line,) = ended.err.splitlines()
    assert line.startswith("b.weight: condition_number = ")
    assert line.endswith(", meets 'condition_number>1e6'")


def test_a_rule_that_is_not_met_ends_with_0(eigenscope, checkpoint):
    assert eigenscope("scan", checkpoint, "--match", "a.*", "--fail-on", "condition_number>1e6").status == 0
    assert eigenscope("scan", checkpoint, "--fail-on", "spectrum_shape==low_rank").status == 0


def test_nan_fails_every_rule(eigenscope):
    torch.save({"w": torch.full((3, 3), float("nan")), "v": matrix(4, 4)}, "nan.pt")
    ended = eigenscope("scan", "nan.pt", "--fail-on", "alpha>8", "--fail-on", "rank<1")
    assert (ended.status, ended.err) == (1, "w: 9 NaN and 0 infinite entries of 9\n")


@pytest.mark.parametrize(("rule", "said"), [
    ("kappa>3", "there is no number 'kappa'"),
    ("alpha", "a number, a comparison and a limit are needed"),
    ("rank<many", "'many' is no number"),
    ("spectrum_shape>flat", "compare it by == or !="),
])  # fmt: skip
def test_a_bad_rule_is_told_before_the_work(eigenscope, rule, said):
    assert said in eigenscope("scan", "there-is-no-such-file.pt", "--fail-on", rule).complaint


@pytest.mark.parametrize(("path", "said"), [
    ("nowhere/a.html", "there is no folder 'nowhere'"), (".", "is a folder"), ("/proc/a.html", "can't be written"),
])  # fmt: skip
@pytest.mark.parametrize("option", ["--html", "--json", "--csv"])
def test_a_file_that_can_not_be_written_is_told_before_the_work(eigenscope, option, path, said):
    assert said in eigenscope("scan", "there-is-no-such-file.pt", option, path).complaint


def test_a_scan_that_fails_leaves_no_empty_file_behind(eigenscope):
    assert eigenscope("scan", "there-is-no-such-file.pt", "--html", "a.html").complaint
    assert not Path("a.html").exists()


def test_two_results_can_not_share_standard_output(eigenscope, checkpoint):
    complaint = eigenscope("scan", checkpoint, "--json", "-", "--csv", "-").complaint
    assert complaint == "eigenscope: --json and --csv can't share standard output: give all but one a file"


def test_top_lists_the_strongest_directions(eigenscope, checkpoint):
    ended = eigenscope("scan", checkpoint, "--top", "2", "b.weight")
    assert ended.out.startswith("b.weight\n")
    assert "#0 +1.00" in ended.out
    assert "together 100.0% of Σσ²" in ended.out


@pytest.mark.parametrize("arguments", [("--top", "many", "a.weight"), ("--top", "2", "c"), ("--input-size", "big")])
def test_bad_options_are_one_line(eigenscope, checkpoint, arguments):
    assert eigenscope("scan", checkpoint, *arguments).complaint


# -- the schema -------------------------------------------------------------------------------------------------------


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_odd_checkpoints_are_as_the_schema_says():
    jsonschema.validate(strict(odd_scan().to_dict()), SCHEMA)


def test_the_schema_knows_every_property_and_says_what_the_definitions_say():
    known = SCHEMA["$defs"]["matrix"]["properties"]
    matrices = strict(odd_scan().to_dict())["matrices"]
    assert {name for row in matrices if "problem" not in row for name in row} | {"operator_norm"} == set(known)
    for name in set(known) & set(WEIGHT_DEFINITIONS):
        said = WEIGHT_DEFINITIONS[name].definition.partition(";")[0]
        assert known[name]["description"].startswith(said), name


def test_the_schema_refuses_what_lacks_a_number():
    found = strict(odd_scan().to_dict())
    del found["matrices"][0]["effective_rank"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, SCHEMA)

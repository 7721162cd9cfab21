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
    ("spectrum_shape==noisy", "did you mean 'noise'?"),
    ("alpha>nan", "the limit must be finite"),
    ("condition_number>inf", "the limit must be finite"),
    ("alpha=3", "use =="),
    ("operator_norm>3", "without --input-size"),
])  # fmt: skip
def test_a_bad_rule_is_told_before_the_work(eigenscope, rule, said):
    assert said in eigenscope("scan", "there-is-no-such-file.pt", "--fail-on", rule).complaint


@pytest.mark.parametrize("options", [("--match", "*.bias"), ("--exclude", "*.weight")])
def test_a_check_of_nothing_is_no_success(eigenscope, checkpoint, options):
    said = eigenscope("scan", checkpoint, *options, "--fail-on", "rank<1").complaint
    assert "nothing to check 'rank<1' on: model.pt has no matrix that was analysed" in said


def test_a_rule_on_the_norm_of_convolutions_is_met_by_none_that_has_none(eigenscope):
    torch.save({"conv.weight": matrix(4, 18).view(4, 2, 3, 3), "b.weight": matrix(5, 5)}, "conv.pt")
    ended = eigenscope("scan", "conv.pt", "--input-size", "6x6", "--fail-on", "operator_norm>0")
    assert ended.status == 1
    assert [line.partition(":")[0] for line in ended.err.splitlines()] == ["conv.weight"]


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


def test_a_device_is_chosen_and_a_wrong_one_is_one_line(eigenscope, checkpoint):
    assert eigenscope("scan", checkpoint, "--device", "cpu").status == 0
    assert "is not cpu, cuda or cuda:N" in eigenscope("scan", checkpoint, "--device", "tpu").complaint


def test_heads_of_an_unknown_layout_are_noted(eigenscope, checkpoint):
    assert "no heads are told apart" in eigenscope("scan", checkpoint, "--heads").out


def test_a_rule_s_lines_hold_no_control_characters(eigenscope):
    torch.save({"a\x1b[2J\nb": matrix(4, 5)}, "evil.pt")
    assert eigenscope("scan", "evil.pt", "--fail-on", "rank>1").err == "a�[2J�b: rank = 4, meets 'rank>1'\n"


def test_top_lists_the_strongest_directions(eigenscope, checkpoint):
    ended = eigenscope("scan", checkpoint, "--top", "2", "b.weight")
    assert ended.out.startswith("b.weight\n")
    assert "#0 +1.00" in ended.out
    assert "together 100.0 % of Σσ²" in ended.out


def test_top_takes_a_short_name_and_shows_the_full_one(eigenscope, checkpoint):
    assert eigenscope("scan", checkpoint, "--top", "1", "b").out.startswith("b.weight\n")
    found = json.loads(eigenscope("scan", checkpoint, "--top", "2", "b", "--json", "-").out)
    assert (found["matrix"], len(found["directions"])) == ("b.weight", 2)
    assert found["directions"][0]["inputs"][0] == {"name": "#0", "weight": 1.0}


def test_top_offers_matrices_alone_and_says_which_fit(eigenscope, checkpoint):
    torch.save({"h.0.q.weight": matrix(4, 4), "h.1.q.weight": matrix(4, 4), "h.0.q.bias": torch.ones(4)}, "h.pt")
    said = eigenscope("scan", "h.pt", "--top", "1", "q").complaint
    assert said == "eigenscope: 'q' fits 2 matrices: h.0.q.weight, h.1.q.weight; say which"
    assert "did you mean 'h.0.q.weight'" in eigenscope("scan", "h.pt", "--top", "1", "h.0.q.biass").complaint
    for short in ("h.1", "1.q", "h.1.q", "…1.q"):
        assert eigenscope("scan", "h.pt", "--top", "1", short).out.startswith("h.1.q.weight\n")


@pytest.mark.parametrize("other", [
    ("--fail-on", "rank<1"), ("--html", "a.html"), ("--csv", "-"), ("--match", "b*"), ("--per-head",), ("--words",),
])  # fmt: skip
def test_top_goes_with_nothing_that_speaks_of_a_scan(eigenscope, checkpoint, other):
    complaint = eigenscope("scan", checkpoint, "--top", "2", "b.weight", *other).complaint
    assert complaint.endswith(f"it goes with --json alone, not with {other[0]}")
    assert not Path("a.html").exists()


def test_a_pattern_without_a_star_is_told_how_to_write_it(eigenscope, checkpoint):
    assert eigenscope("scan", checkpoint, "--match", "weight").complaint.endswith("'weight': try '*weight*'")
    many = {f"layer{i}.weight": matrix(2, 2) for i in range(40)}
    torch.save(many, "many.pt")
    assert eigenscope("scan", "many.pt", "--match", "zzz").complaint.endswith("layer10.weight and 37 more")


def test_the_heads_option_has_the_name_that_python_has(eigenscope, checkpoint):
    for option in ("--per-head", "--heads"):
        assert "no heads are told apart" in eigenscope("scan", checkpoint, option).out


def test_an_internal_error_is_one_line_with_a_status_of_its_own(eigenscope, checkpoint, monkeypatch):
    def broken(*_, **__):
        raise KeyError("lost")

    monkeypatch.setattr("eigenscope.cli.scan.scan", broken)
    ended = eigenscope("scan", checkpoint, "--fail-on", "rank<1")
    assert (ended.status, ended.out) == (70, "")
    assert ended.err == (
        "eigenscope: internal error (KeyError: 'lost'), please report it with what EIGENSCOPE_DEBUG=1 adds\n"
    )
    monkeypatch.setenv("EIGENSCOPE_DEBUG", "1")
    assert "Traceback" in eigenscope("scan", checkpoint).err


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

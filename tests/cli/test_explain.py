"""`eigenscope explain` as somebody types it."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from eigenscope.explain.examples import EXAMPLES


def test_a_matrix_is_explained_in_text(eigenscope):
    ended = eigenscope("explain", "[[3,2],[2,3]]")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("A 2 × 2 matrix by hand\n")
    assert "σ₁ = 5" in ended.out


def test_the_examples_are_listed_and_explained_by_name(eigenscope):
    ended = eigenscope("explain", "--examples")
    assert [line.split()[0] for line in ended.out.splitlines()] == list(EXAMPLES)
    for name in EXAMPLES:
        assert eigenscope("explain", name).out.startswith(f"{name}: a ")


def test_files_are_explained(eigenscope, tmp_path):
    np.save(tmp_path / "a.npy", np.array([[3.0, 2.0], [2.0, 3.0]]))
    (tmp_path / "a.csv").write_text("3,2\n2,3\n")
    for name in ("a.npy", "a.csv"):
        ended = eigenscope("explain", name)
        assert ended.out.startswith(f"{name}: a 2 × 2 matrix by hand")
        assert "σ₁ = 5" in ended.out


@pytest.mark.parametrize(("options", "start"), [
    (("-o", "out.html"), "<!doctype html>"),
    (("-o", "out.md"), "# symmetric"),
    (("-o", "out.txt"), "symmetric: a"),
    (("-o", "out.txt", "--format", "html"), "<!doctype html>"),
    (("--json", "-o", "out.json"), "{"),
])  # fmt: skip
def test_the_format_follows_the_ending_of_the_file_unless_it_is_said(eigenscope, tmp_path, options, start):
    ended = eigenscope("explain", "symmetric", *options)
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    (written,) = tmp_path.glob("out.*")
    assert written.read_text(encoding="utf-8").startswith(start)


def test_json_is_for_machines(eigenscope):
    found = json.loads(eigenscope("explain", "counting", "--json").out)
    assert found["singular_values"][0] == {"value": pytest.approx(25.4368356), "exact": "√(325 + √103705)"}
    assert (found["rank"], found["exact"], found["matrix"][0]) == (2, True, ["1", "2", "3", "4"])
    assert found["steps"][0]["title"] == "The matrix"


def test_standard_output_of_any_encoding_takes_it(eigenscope, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert eigenscope("explain", "symmetric").status == 0
    sys.stdout.flush()
    assert "σ₁ = 5" in raw.getvalue().decode("utf-8")


@pytest.mark.parametrize(("arguments", "why"), [
    ((), "give a matrix"),
    (("",), "is no matrix"),
    (("symetric",), "did you mean 'symmetric'?"),
    (("header.csv",), "begins with a header line: remove it"),
    (("words.csv",), "'a' in row 1, column 1 is not a number"),
    (("symmetric", "-o", "x.pdf"), "no format ends in .pdf; give .txt, .md or .html"),
    (("[[1, 2], [3]]",), "differ in length"),
    (("[[1, x]]",), "is not a number"),
    (("[[nan]]",), "finite"),
    (("[]",), "is empty"),
    (("nowhere.csv",), "there is no file"),
    (("symmetric", "-o", "."), "is a folder"),
    (("symmetric", "-o", "nowhere/out.html"), "there is no folder"),
    (("symmetric", "--format", "pdf"), "invalid choice"),
    (("symmetric", "--json", "--format", "html"), "not allowed with"),
])  # fmt: skip
def test_bad_input_is_one_line(eigenscope, tmp_path, arguments, why):
    (tmp_path / "header.csv").write_text("x,y\n1,2\n3,4\n")
    (tmp_path / "words.csv").write_text("a,b\n1,c\n")
    assert why in eigenscope("explain", *arguments).complaint


def test_nothing_that_is_typed_is_run(eigenscope, tmp_path):
    assert "is not a number" in eigenscope("explain", "[[open('made', 'w')]]").complaint
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_is_no_success():
    # A pipe whose reader is gone before anything is written: 128 + SIGPIPE, as shells report it.
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        command = [sys.executable, "-c", "import sys; from eigenscope.cli import main; sys.exit(main())"]
        ended = subprocess.run([*command, "explain", "symmetric"], stdout=gone, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (141, "")

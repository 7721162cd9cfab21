"""Scans and comparisons in the terminal and as CSV: lines that fit, names told apart, words that are true."""

import csv
import io
import math
import re

import pytest
import torch
from rich.console import Console

from eigenscope.errors import InputError
from eigenscope.reports.compare_html import write_comparison_html
from eigenscope.reports.compare_terminal import COMPARE_SORTS, print_comparison, sorted_changes
from eigenscope.reports.directions_terminal import print_directions
from eigenscope.reports.fitting import shortened
from eigenscope.reports.scan_csv import write_csv
from eigenscope.reports.scan_terminal import SORTS, kappa, print_scan, sorted_rows
from eigenscope.scanning.compare import compare
from eigenscope.scanning.directions import directions
from eigenscope.scanning.scan import scan
from reports.scans import EVIL, matrix, odd_scan


def printed(show, width, *arguments, **options):
    out = io.StringIO()
    show(Console(file=out, width=width, highlight=False), *arguments, **options)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.fixture(scope="module")
def odd():
    return odd_scan()


@pytest.fixture(scope="module")
def tuned():
    base = {f"h.{i}.attn.weight": matrix(30, 40, i) for i in range(4)} | {"head.weight": matrix(20, 20, 9)}
    change = {f"h.{i}.attn.weight": 0.01 * matrix(30, 8, i) @ matrix(8, 40, 5) for i in range(3)}
    return compare(base, {name: value + change.get(name, 0) for name, value in base.items()} | {"extra": matrix(3, 3)})


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("words", [False, True])
def test_no_line_is_longer_than_the_terminal(odd, width, words):
    lines = printed(print_scan, width, odd, words=words)
    assert max(map(len, lines)) <= width
    assert any("█" in line for line in lines) or width < 80


def test_a_wide_terminal_shows_more_columns_and_no_name_is_cut():
    found = scan({"model.layers.10.self_attn.q_proj.weight": matrix(40, 40), "b.weight": matrix(9, 9)})
    assert "99 %" not in printed(print_scan, 60, found)[0]
    wide = printed(print_scan, 140, found)
    assert "99 %" in wide[0]
    assert wide[1].startswith("model.layers.10.self_attn.q_proj.weight ")


def test_long_names_lose_what_stands_first_and_keep_the_layer_and_the_end():
    name = "model.language_model.layers.17.self_attn.q_proj.weight"
    assert shortened(name, 60) == name
    assert shortened(name, 50) == name.removesuffix(".weight")
    assert shortened(name, 28) == "…layers.17.self_attn.q_proj"
    assert shortened(name, 24) == "…17.self_attn.q_proj"
    assert shortened(name, 12) == "…17…q_proj"
    assert shortened("A" * 40, 12) == "AAA…AAAAAAAA"
    assert shortened("h.0.c_attn.weight [query]", 20) == "h.0.c_attn [query]"


BERT = {
    f"bert.encoder.layer.{layer}.{kind}.weight": matrix(24, 24, layer)
    for layer in range(12)
    for kind in ("attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense")
}


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_names_told_apart_in_every_width_and_kappa_whole(width):
    found = scan(BERT)
    table = printed(print_scan, width, found)[: len(BERT) + 1]
    assert max(map(len, table)) <= width
    names = [line.split()[0] for line in table[1:]]
    assert len(set(names)) == len(BERT)
    for line, row in zip(table[1:], found.matrices, strict=True):
        assert str(row.layer) in line.split()[0]
        assert kappa(row.reading) in line


def test_what_all_names_begin_with_stands_in_the_head_alone():
    lines = printed(print_scan, 80, scan(BERT))
    assert lines[0].startswith("in bert.encoder.layer.  ")
    assert printed(print_scan, 40, scan(BERT))[0].startswith("in …layer.  ")
    assert lines[1].startswith("0.attention.self.query  ")
    alone = {"h.weight": matrix(9, 9)}
    assert printed(print_scan, 80, scan(alone))[0].startswith("matrix  ")


def test_a_legend_explains_the_columns_that_are_there():
    legend = (
        "eff. rank: directions it spreads over, of all · κ: σ₁ over the smallest σ · 99 %: rank that holds 99 % of Σσ²"
    )
    text = "\n".join(printed(print_scan, 200, scan(BERT)))
    assert legend in text
    assert "conv. norm" not in text
    assert "99 %: rank" not in "\n".join(printed(print_scan, 40, scan(BERT)))


def test_the_norm_of_a_convolution_has_a_column_where_a_size_is_given():
    lines = printed(print_scan, 100, scan({"a.weight": matrix(4, 27).view(4, 3, 3, 3)}, input_size=(8, 8)))
    assert "conv. norm" in lines[0]
    norm = scan({"a.weight": matrix(4, 27).view(4, 3, 3, 3)}, input_size=(8, 8))["a.weight"].operator_norm
    assert f"{norm:.3g}" in lines[1]


def test_percentages_are_written_in_one_way(odd, tuned):
    for lines in (printed(print_scan, 200, odd), printed(print_comparison, 200, tuned)):
        assert not [line for line in lines if re.search(r"\d%", line)]


def test_parts_stand_under_their_tensor_and_keep_their_names_when_sorted():
    found = scan({"h.0.attn.in_proj_weight": matrix(72, 24)})
    assert any(line.startswith("  └ query") for line in printed(print_scan, 100, found))
    assert any("[query]" in line for line in printed(print_scan, 100, found, sort="condition_number"))


def test_brackets_in_a_name_are_no_markup(odd):
    assert any("[red]" in line for line in printed(print_scan, 400, odd))
    assert EVIL in "".join(printed(print_scan, 400, odd))


def test_the_summary_counts_in_proper_plurals_and_tells_what_is_broken(odd):
    lines = printed(print_scan, 200, odd)
    assert any(line.startswith("17 matrices with ") and "1 with NaN or infinity" in line for line in lines)
    assert any("broken.weight  20 NaN and 0 infinite entries of 20" in line for line in lines)
    single = printed(print_scan, 200, scan({"w": matrix(8, 9)}))
    assert any(line.startswith("1 matrix with 72 entries") for line in single)


def test_the_ledger_tells_reasons_and_names(odd):
    lines = printed(print_scan, 120, odd)
    assert "1 not analysed  a vector: no matrix: norm.bias" in lines
    assert any("integers" in line and "steps" in line for line in lines)


@pytest.mark.parametrize("sort", [sort for sort in SORTS if sort not in ("name", "alpha", "size", "condition_number")])
def test_rows_are_sorted_by_a_number_the_largest_first(odd, sort):
    rows = [row.reading for row in sorted_rows(odd.matrices, sort) if row.reading]
    values = [getattr(getattr(reading, sort), "value", getattr(reading, sort)) for reading in rows]
    assert values == sorted(values, reverse=True)


def test_a_singular_matrix_has_the_largest_condition_number(odd):
    rows = sorted_rows(odd.matrices, "condition_number")
    assert {row.name for row in rows[:2]} == {"zero.weight", "broken.weight"}


def test_an_unknown_order_names_those_there_are(odd):
    with pytest.raises(InputError, match="sort='beauty' is not one of name, effective_rank"):
        sorted_rows(odd.matrices, "beauty")


def test_csv_has_a_row_for_every_tensor(odd):
    out = io.StringIO()
    write_csv(out, odd)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [row["name"] for row in rows] == [item.name for item in (*odd.matrices, *odd.skipped)]
    first = odd.matrices[0].reading
    assert float(rows[0]["effective_rank"]) == pytest.approx(first.effective_rank)
    assert rows[-1]["reason"] == odd.skipped[-1].reason


FORMULAS = ["=HYPERLINK(0)", "+1", "-1", "@SUM(A1)"]


def test_no_name_is_a_formula_to_a_spreadsheet():
    state = {name: matrix(4, 5, index) for index, name in enumerate(FORMULAS)} | {"=bias": torch.ones(3)}
    out = io.StringIO()
    write_csv(out, scan(state))
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [row["name"] for row in rows] == [f"'{name}" for name in (*FORMULAS, "=bias")]
    assert not any(value.startswith("'") for row in rows for name, value in row.items() if name != "name")


CONTROL = {"a\x1b]0;taken\x07\x1b[31m": matrix(6, 7), "line\nbreak": matrix(5, 6), "bias\x1b[2J": torch.ones(3)}


def test_control_characters_of_names_reach_neither_terminal_nor_csv():
    found = scan(CONTROL)
    lines = printed(print_scan, 200, found)
    lines += printed(print_comparison, 200, compare(CONTROL, {name: 2 * value for name, value in CONTROL.items()}))
    assert all(line.isprintable() for line in lines)
    assert sum("a�]0;taken��[31m" in line for line in lines) > 2
    out = io.StringIO()
    write_csv(out, found)
    assert all(line.isprintable() for line in out.getvalue().splitlines())
    assert len(out.getvalue().splitlines()) == 1 + len(CONTROL)


# -- compare ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("sort", COMPARE_SORTS)
def test_a_comparison_fits_the_terminal(tuned, width, sort):
    lines = printed(print_comparison, width, tuned, sort=sort)
    assert max(map(len, lines)) <= width


def test_a_comparison_says_in_words_what_changed(tuned):
    text = " ".join(printed(print_comparison, 200, tuned))
    assert "3 matrices changed, 2 matrices are bit for bit the same. ΔW has rank exactly 8 in all 3;" in text
    largest = max(tuned.changes, key=lambda change: change.relative_size)
    assert f"the largest change is {100 * largest.relative_size:.2g} % of its matrix ({largest.name})" in text
    assert "BASE has no such tensor: extra" in text


def test_two_equal_checkpoints_say_so():
    base = {"w": matrix(4, 5)}
    assert "Nothing changed: 1 matrix is bit for bit the same." in printed(print_comparison, 100, compare(base, base))


def test_a_change_of_full_rank_and_its_intruders_are_told():
    base = {"w": matrix(40, 40, 1) @ torch.diag(torch.linspace(2, 0.1, 40))}
    far = {"w": base["w"] + 40 * torch.outer(matrix(40, 1, 7)[:, 0], matrix(40, 1, 8)[:, 0]) / 40 + matrix(40, 40, 3)}
    text = " ".join(printed(print_comparison, 200, compare(base, far)))
    assert "ΔW is of full rank" in text
    assert "ΔW has rank exactly" not in text


def test_a_base_of_zeros_has_a_dash_for_its_directions():
    found = compare({"w": torch.zeros(5, 6), "v": matrix(5, 6)}, {"w": matrix(5, 6), "v": matrix(5, 6, 1)})
    assert any(line.startswith("w ") and line.count("—") == 2 for line in printed(print_comparison, 120, found))
    for sort in COMPARE_SORTS:
        assert len(sorted_changes(found.changes, sort)) == 2
    alone = compare({"w": torch.zeros(5, 6)}, {"w": matrix(5, 6)})
    assert "There are no leading directions to compare" in " ".join(printed(print_comparison, 200, alone))
    page = io.StringIO()
    write_comparison_html(page, found)
    assert "—" in page.getvalue()


def test_changes_are_sorted_by_what_turned_furthest(tuned):
    overlaps = [change.overlap for change in sorted_changes(tuned.changes, "overlap")]
    assert overlaps == sorted(overlaps)
    with pytest.raises(InputError, match="sort='x' is not one of name, relative_size"):
        sorted_changes(tuned.changes, "x")


# -- directions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120])
def test_directions_show_weights_whole_in_lines_that_fit(width):
    state = {"w": torch.diag(torch.tensor([5.0, 3.0, 1.0, 0.5]))}
    lines = printed(print_directions, width, "w", directions(state, "w", 2))
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "#0 +1.00" in text
    share = (25 + 9) / (25 + 9 + 1 + 0.25)
    assert lines[-1] == f"together {100 * share:.1f} % of Σσ²"
    assert math.isclose(sum(direction.share for direction in directions(state, "w", 4)), 1.0)

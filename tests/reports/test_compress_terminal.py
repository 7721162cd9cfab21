"""A compression in the terminal: every compressed layer with its numbers, all else by its reason, the curve as text."""

import io
import re

import pytest
from rich.console import Console

from eigenscope.compression.report import Latency
from eigenscope.reports.compress_terminal import print_compression, print_trade_off
from eigenscope.reports.compress_words import break_even, budget_table, changes, share, short, signed, sized
from eigenscope.reports.fitting import shortened
from eigenscope.reports.plot_terminal import plotted
from reports.compressions import layer, report, trade_off, uncalibrated, uncalibrated_trade_off
from reports.scans import EVIL


def shown(printed, found, *arguments, width=120):
    out = Console(file=io.StringIO(), width=width, highlight=False)
    printed(out, found, "model", *arguments)
    return out.file.getvalue()


def row(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return line


def test_a_layer_stands_with_its_rank_and_its_errors():
    line = row(shown(print_compression, report()), "encoder.layer.0.mlp.up")
    # 6·(48 + 24) + 48 of 48·24 + 48 parameters are 480 of 1,200; the errors are those of the record
    told = " ".join(re.sub(r"[█▏▎▍▌▋▊▉·]+", "", line).split())
    assert told == "encoder.layer.0.mlp.up 48×24 6 24 40.0 % 10.0 % 5.0 % 4.5 %"


def test_what_was_left_is_named_with_its_reason_and_stands_in_no_row():
    text = shown(print_compression, report())
    assert not re.search(r"^encoder.layer.5.attention.query", text, re.MULTILINE)
    assert (
        "1 left as is  two thin layers would be no smaller at the rank it needs: encoder.layer.5.attention.query"
        in text
    )
    assert "1 skipped  grouped convolution: conv.depthwise" in text


def test_before_and_after_are_the_records_numbers():
    found = report()
    text = shown(print_compression, found, "accuracy")
    saved = 1 - found.parameters_after / found.parameters
    assert f"−{100 * saved:.1f} %" in row(text, "parameters")
    assert row(text, "FLOPs").split()[:6] == ["FLOPs", "2.56", "M", "→", "1.8", "M"]
    assert re.match(r"accuracy +0.912 +→ +0.905", row(text, "accuracy"))


def test_latency_that_got_worse_is_marked_and_noted():
    (worse,) = [change for change in changes(report()) if change.worse]
    assert (worse.label, worse.written) == ("latency", "+25.0 %")  # 1.2 → 1.5 ms
    assert "note  latency got worse" in shown(print_compression, report())
    better = report(latency_after=Latency(0.9, 0.8, 1.0, 20))
    assert not [change for change in changes(better) if change.worse]


def test_latency_whose_quartiles_overlap_is_no_change():
    unsure = report(latency_after=Latency(1.3, 1.2, 1.7, 20))  # before: 1.1 to 1.35
    (latency,) = [change for change in changes(unsure) if change.label == "latency"]
    assert (latency.written, latency.worse) == ("", False)
    assert latency.note.startswith("no difference that could be told")


def test_without_calibration_nothing_is_said_of_outputs():
    text = shown(print_compression, uncalibrated())
    for word in ("output error", "latency", "FLOPs", "calibration samples"):
        assert word not in text
    assert "plain truncated SVD" in " ".join(text.split())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_are_no_wider_than_the_terminal_and_names_are_no_markup(width):
    for text in (shown(print_compression, report(), width=width), shown(print_trade_off, trade_off(), width=width)):
        assert max(map(len, text.splitlines())) <= width
    assert EVIL.partition("[red]")[2] in shown(print_compression, report())


def test_a_dry_run_has_a_row_a_budget_and_a_curve_a_number():
    text = shown(print_trade_off, trade_off(), "accuracy")
    rows = [line.split() for line in text.splitlines() if re.match(r" *[\d.]+ %", line)]
    assert [float(cells[0]) for cells in rows[:8]] == [100, 90, 80, 70, 60, 50, 40, 35]  # --keep 0.3 reaches 35 %
    assert [line.partition("  over")[0] for line in text.splitlines() if "  over the share" in line] == [
        "output error", "accuracy"
    ]  # fmt: skip
    assert text.count("●") == 2 * 8  # seven budgets and the model as it is
    assert "nothing was written" in text


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("metric", ["accuracy", "perplexity_on_held_out_sentences_of_the_other_language"])
def test_no_number_and_no_heading_of_a_dry_run_is_cut(width, metric):
    """In fewer columns, fewer numbers: the error and the metric stay."""
    lines = shown(print_trade_off, trade_off(), metric, width=width).splitlines()
    table = lines[: next(place for place, line in enumerate(lines) if not line.strip())]
    assert all(len(line.rstrip()) <= width for line in table)
    assert "output error" in table[0]
    assert all("…" not in line for line in table[1:])
    assert "…" not in table[0].replace(shortened(metric, width // 3), "")
    titles, rows = budget_table(trade_off(), metric)
    for line, row in zip(table[1:], rows, strict=True):
        for title in ("kept", "output error", metric):
            assert row[titles.index(title)] in line


def test_a_dry_run_without_data_draws_the_weights_error():
    text = shown(print_trade_off, uncalibrated_trade_off())
    assert "weight error  over the share" in text
    assert "output error" not in text


def test_a_curve_that_falls_is_drawn_from_the_top_left_to_the_bottom_right():
    *lines, axis = [line.plain for line in plotted((0.0, 1.0), (3.0, 1.0), 40, 5, share, str)]
    assert lines[0].startswith("3.0 ┤●")
    assert lines[-1].startswith("1.0 ┤")
    assert lines[-1].endswith("●")
    assert {len(line) for line in lines} == {40}
    assert axis.split() == ["0", "%", "100", "%"]
    assert sum("⠀" < dot <= "⣿" for dot in "".join(lines)) > 30  # the line between them


def test_a_flat_curve_is_a_flat_line():
    lines = [line.plain for line in plotted((0.0, 0.5, 1.0), (2.0, 2.0, 2.0), 30, 5, share, str)]
    assert [line.count("●") for line in lines] == [0, 0, 3, 0, 0, 0]


@pytest.mark.parametrize(("rows", "columns", "rank"), [(24, 24, 12), (768, 2304, 576), (10, 100, 10), (25, 26, 13)])
def test_break_even_is_the_first_rank_that_saves_nothing(rows, columns, rank):
    assert break_even(layer("l", rows, columns, 1)) == rank
    assert rank * (rows + columns) >= rows * columns > (rank - 1) * (rows + columns)


@pytest.mark.parametrize(("said", "text"), [
    (share(0.0), "0 %"), (share(1.0), "100 %"), (share(0.8061), "80.6 %"), (share(0.00012), "0.012 %"),
    (share(float("inf")), "∞"), (signed(-0.194), "−19.4 %"), (signed(0.25), "+25.0 %"), (short(99_999), "99,999"),
    (short(22_713_216), "22.7 M"), (short(124_000), "124 k"), (short(1.2e9), "1.2 G"), (sized(90_852_864), "90.9 MB"),
    (sized(512), "512 B"),
])  # fmt: skip
def test_numbers_are_short(said, text):
    assert said == text

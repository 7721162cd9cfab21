"""A reading in the terminal: all of it, in lines that fit."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

import eigenscope as es
from eigenscope.diagnostics.definitions import DEFINITIONS
from eigenscope.operators.checks import SelfCheck
from eigenscope.reports.numbers import number
from eigenscope.reports.terminal import print_reading
from eigenscope.scenarios import scenario


def printed(reading, width: int) -> list[str]:
    out = io.StringIO()
    print_reading(Console(file=out, width=width, highlight=False), reading)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.fixture(scope="module", params=["saddle", "canyon", "edge"])
def reading(request):
    chosen = scenario(request.param)
    optimizer = None if request.param == "canyon" else chosen.optimizer
    return es.curvature(chosen.model, chosen.loss_fn, chosen.probe, optimizer=optimizer, **chosen.settings)


@pytest.mark.parametrize("width", [80, 140])
def test_each_number_stands_on_one_line_with_its_label(reading, width):
    lines = printed(reading, width)
    labels = {definition.label for definition in DEFINITIONS.values()}
    rows = [line for line in lines if any(line.startswith(f"{label}  ") for label in labels)]
    start, end = lines.index(rows[0]), lines.index(rows[-1])
    assert lines[start : end + 1] == rows, "a note wraps"
    assert len(rows) >= 10


@pytest.mark.parametrize("width", [80, 140])
def test_nothing_is_cut_off(reading, width):
    lines = printed(reading, width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    assert " ".join(" ".join(lines).split()).count(reading.verdict_reason) == 1


def test_the_extremes_come_with_their_errors(reading):
    text = "\n".join(printed(reading, 100))
    assert f"{reading.lambda_max.value:.4g}" in text
    assert "over the batches" in text


def test_without_an_optimizer_no_threshold_is_spoken_of(reading):
    text = "\n".join(printed(reading, 100))
    assert ("sharpness" in text) == (reading.optimizer != "none")


def test_a_number_that_can_not_be_given_says_why(reading):
    (line,) = [line for line in printed(reading, 80) if line.startswith("κ, condition number")]
    if reading.condition_number.value is None:
        assert line.split("—")[1].strip() == reading.condition_status


def test_a_self_check_that_decided_nothing_is_told(reading):
    doubtful = replace(reading, self_check=SelfCheck(1e-8, 0.9, 0.8, "inconclusive"))
    assert not any("self-check" in line for line in printed(reading, 100))
    assert any("the self-check is inconclusive" in line for line in printed(doubtful, 100))


def test_the_first_eigenvalues_stand_in_one_line_with_the_errors_that_count(reading):
    (line,) = [line for line in printed(reading, 140) if line.startswith("top eigenvalues")]
    values = line.removeprefix("top eigenvalues").split(",  ")
    assert len(values) == 5
    for text, item in zip(values, reading.top_eigenvalues, strict=False):
        assert text.strip().startswith(number(item.value)[:3])
        assert ("±" in text) == (item.error > 0.01 * abs(item.value))


def test_what_did_not_converge_is_named(reading):
    error = 0.3 * reading.lambda_max.value
    rough = replace(reading.lambda_min, error=error)
    tops = (*reading.top_eigenvalues[:2], replace(reading.top_eigenvalues[2], error=error))
    doubtful = replace(reading, converged=False, lambda_min=rough, top_eigenvalues=tops)
    (text,) = re.findall(r"known only roughly: (.*?); more products", " ".join(printed(doubtful, 400)))
    assert [part.split(" = ")[0] for part in text.split(", ")] == ["λmin", "λ3"]
    assert "known only roughly" not in " ".join(printed(replace(doubtful, converged=True), 400))


def test_the_bill_counts_products_and_one_of_a_thing_is_in_the_singular(reading):
    one = replace(reading, num_matvecs=1, num_parameters=1, probe_samples=1)
    text = "\n".join(printed(one, 140))
    assert "1 product of about 2 gradients each; in all " in text
    assert "1 probe sample, 1 parameter, " in text


def test_the_noise_floor_and_the_negative_share_are_told(reading):
    text = "\n".join(printed(reading, 100))
    assert "τ, noise floor  " in text
    assert "|λmin| / λmax  " in text

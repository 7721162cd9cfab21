"""The signal flow in the terminal: every number whole, in lines that fit."""

import io

import pytest
import torch
from rich.console import Console
from torch import nn

import eigenscope as es
from eigenscope.reports.flow import print_flow
from eigenscope.reports.numbers import number
from zoo import seeded

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))


def wave(model, batch):
    return (model(batch) + 0.3).sin().mean()


def chain(layers, sigma, activation=nn.Tanh):
    with seeded(0):
        parts = [(nn.Linear(8, 8), activation()) for _ in range(layers)]
        for layer, _ in parts:
            nn.init.orthogonal_(layer.weight, sigma)
    return nn.Sequential(*[part for pair in parts for part in pair])


def deeply_named():
    with seeded(0):
        model = nn.ModuleDict({"feature_extractor_backbone": nn.ModuleDict({"self_attention_encoder": chain(4, 1.0)})})
        model["classification_head"] = nn.Linear(8, 3)
    return model


CASES = {
    "three blocks": lambda: es.signal_flow(chain(3, 1.0), wave, X),
    "sixty blocks": lambda: es.signal_flow(chain(60, 1.4, nn.Identity), wave, X, tolerance=0.1),
    "tried": lambda: es.signal_flow(chain(20, 1.6, nn.Identity), wave, X, try_remedies=True, tolerance=0.1),
    "long names": lambda: es.signal_flow(
        deeply_named(),
        lambda m, x: wave(
            lambda x: m["classification_head"](m["feature_extractor_backbone"]["self_attention_encoder"](x)), x
        ),
        X,
        sigma_min=True,
    ),
    "dead": lambda: es.signal_flow(chain(3, 0.0), wave, X),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param, CASES[request.param]()


def printed(reading, width):
    out = io.StringIO()
    print_flow(Console(file=out, width=width, highlight=False), reading)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 140])
def test_every_line_fits_and_every_number_is_whole(case, width):
    name, reading = case
    lines = printed(reading, width)
    assert max(map(len, lines)) <= width
    for block in reading.blocks:
        figures = [number(float(f"{value:.3g}")) for value in (block.sigma_max.value, block.sigma_rms.value)]
        rows = [line for line in lines if f"{block.name[-9:]} " in line and all(f"{f} " in line for f in figures)]
        assert rows, block.name
    if name != "long names" or width > 80:
        assert not any("…" in line for line in lines)


def test_names_lose_their_start_and_not_their_number():
    lines = printed(CASES["long names"](), 80)
    for index in (0, 2, 4, 6):
        assert any(line.startswith("…") and f"encoder.{index} " in line for line in lines)


def test_the_layers_at_fault_are_marked():
    lines = printed(CASES["sixty blocks"](), 80)
    assert sum(line.startswith("▲") for line in lines) == 60
    assert lines[0].startswith("EXPLODING  over 60 blocks")
    assert not any(line.startswith("▲") for line in printed(CASES["three blocks"](), 80))


def test_a_trial_shows_before_and_after_side_by_side():
    reading = CASES["tried"]()
    text = "\n".join(printed(reading, 80))
    for remedy in reading.remedies:
        (row,) = [line for line in text.splitlines() if line.startswith(remedy.name) and "→" in line]
        assert remedy.tried.verdict in row
        assert row.count("→") == 3
        assert " ".join(remedy.why.split()) in " ".join(text.split())


def test_what_was_not_measured_is_told_once_for_all_of_its_kind():
    model = nn.ModuleDict({"first": nn.Linear(8, 8), "second": nn.Linear(8, 8), "third": nn.Linear(8, 8)})
    text = " ".join(" ".join(printed(es.signal_flow(model, lambda m, x: wave(m["first"], x), X), 80)).split())
    assert text.count("not measured") == 1
    assert "not measured second, third: it does not run on this batch" in text


def test_a_reading_without_blocks_is_printed_too():
    model = nn.Linear(8, 2)
    lines = printed(es.signal_flow(model, lambda m, x: (x @ m.weight.T).sin().sum(), X), 80)
    assert lines[0].startswith("UNRESOLVED  no module of the model runs")


def test_the_whole_distribution_shows_as_three_quantiles():
    """Of an orthogonal layer behind no activation all singular values are 1."""
    with seeded(0):
        model = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(2)])
        for layer in model:
            nn.init.orthogonal_(layer.weight)
    text = "\n".join(printed(es.signal_flow(model, wave, X, spectrum=True), 120))
    assert "10 · 50 · 90 %" in text
    assert text.count("1 · 1 · 1") == 2


def test_nothing_to_try_is_said():
    healthy = es.signal_flow(chain(3, 1.0, nn.Identity), wave, X, try_remedies=True)
    assert healthy.verdict == "healthy"
    assert "no remedy to try: the verdict is healthy" in healthy.notes

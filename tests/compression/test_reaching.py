"""What layers do to the output: how much, not at all, or not known."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import eigenscope as es
from compression.networks import mlp, stretched
from eigenscope.compression.whitening import relative
from zoo.case import seeded


class HalfFrozen(nn.Module):
    """Two layers whose gradient is cut off, and two that it reaches."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(32, 64), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x):
        with torch.no_grad():
            hidden = F.relu(self.b(F.relu(self.a(x))))
        return self.d(F.relu(self.c(hidden)))


def ranks(report):
    return {layer.name: layer.rank for layer in report.layers}


def test_where_gradients_reach_some_layers_only_ranks_depend_on_the_function_and_not_on_its_units():
    """The same function, with another unit between a layer that gradients reach and one that they don't."""
    with seeded(0):
        model = HalfFrozen()
    x, found = stretched(512, 32), []
    for scale in (1, 1024, 1 / 1024):
        scaled = copy.deepcopy(model)
        with torch.no_grad():
            scaled.b.weight.mul_(scale)
            scaled.b.bias.mul_(scale)
            scaled.c.weight.div_(scale)
        assert torch.allclose(scaled(x), model(x), atol=1e-5)
        report = es.compress(scaled, x, keep=0.5).report
        found.append(ranks(report))
        (note,) = (note for note in report.notes if note.startswith("no gradient comes back to a, b"))
        assert "2 layers of 4" in note
    assert found[0] == found[1] == found[2]


class Heads(nn.Module):
    """What `forward=` below returns depends on one head of two."""

    def __init__(self):
        super().__init__()
        self.body, self.used, self.other = nn.Linear(24, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x):
        x = torch.tanh(self.body(x))
        return self.used(x), self.other(x)


def test_a_layer_that_the_output_does_not_depend_on_stays_and_is_named():
    with seeded(0):
        model = Heads()
    made = es.compress(model, stretched(200, 24), keep=0.5, forward=lambda m, x: m(x)[0])
    assert type(made.model.other) is nn.Linear
    assert [(s.name, s.reason.partition(" on ")[0]) for s in made.report.skipped] == [("other", "without effect")]
    assert made.report.notes[0].startswith(
        "without effect on the output on the calibration data, and so left alone: other"
    )
    assert not any("no gradient" in note for note in made.report.notes)


def test_a_layer_behind_code_that_gradients_do_not_cross_is_told_from_one_without_effect():
    with seeded(0):
        model = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24))
    report = es.compress(model, stretched(200, 24), keep=0.5, forward=lambda m, x: m[2](m[:2](x).detach())).report
    assert list(ranks(report)) == ["0", "2"]
    assert report.notes[0].startswith("no gradient comes back to 0")


def test_a_layer_that_is_never_reached_is_noted():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(24, 24), nn.Linear(24, 24)

        def forward(self, x):
            return self.used(x)

    for report in (
        es.compress(Idle(), stretched(100, 24), rank=3).report,
        es.compression_curve(Idle(), stretched(100, 24), (0.5,)),
    ):
        assert report.notes[0] == ("never reached on the calibration data, and so left alone: idle (1 of 2 layers)")


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda m, x: (m(x) * 1e4).softmax(-1).sqrt(), "the gradients at layer '0' are not finite on calibration"),
        (lambda m, x: (m(x) * 0), "the gradients at 0, 2, 4 are 0 on all calibration batches"),
    ],
)  # fmt: skip
def test_gradients_that_say_nothing_are_refused_and_never_an_error_of_0(forward, message):
    for method in ("activation", "plain"):
        with pytest.raises(es.InputError, match=message) as caught:
            es.compress(mlp(), stretched(100, 24), keep=0.5, method=method, forward=forward)
        assert "what is kept close (forward= says it, else the model's output) must" in str(caught.value)


def test_a_relative_error_of_what_never_changes_is_none_and_not_0():
    assert relative(1.0, 0.0) is None
    assert relative(0.0, 0.0) == 0.0

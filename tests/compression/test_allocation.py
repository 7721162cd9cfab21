"""Ranks under a budget, against all ways to spend it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from eigenscope.compression.allocation import by_budget, by_energy, by_rank
from eigenscope.compression.candidates import find_layers
from eigenscope.compression.whitening import plain
from eigenscope.errors import InputError
from zoo.case import seeded


def decaying(rows: int, columns: int, decay: float) -> nn.Linear:
    """A layer with singular values from 1 to 10^-decay."""
    with seeded(rows + columns):
        layer, short = nn.Linear(columns, rows), min(rows, columns)
        left, right = (torch.linalg.qr(torch.randn(n, short))[0] for n in (rows, columns))
        layer.weight.data = left @ torch.diag(torch.logspace(0, -decay, short)) @ right.T
    return layer


def truncations():
    model = nn.Sequential(decaying(8, 6, 0.1), decaying(7, 9, 1.0), decaying(6, 6, 3.0))
    return [plain(candidate) for candidate in find_layers(model, None, None)[0]]


def bill(layers, ranks):
    chosen = [(layer, ranks[layer.candidate.name]) for layer in layers]
    parameters = sum(c.candidate.parameters if r is None else c.candidate.cost(r) for c, r in chosen)
    return parameters, sum(0.0 if r is None else float(c.effects[r]) for c, r in chosen)


@pytest.mark.parametrize("keep", [0.45, 0.6, 0.75, 0.9, 0.97])
def test_the_budget_is_kept_and_spent_nearly_as_well_as_possible(keep):
    layers = truncations()
    full = sum(layer.candidate.parameters for layer in layers)
    options = [[None, *range(1, layer.rank_useful + 1)] for layer in layers]
    best = float("inf")
    for ranks in itertools.product(*options):
        parameters, effect = bill(layers, {layer.candidate.name: r for layer, r in zip(layers, ranks, strict=True)})
        if parameters <= keep * full:
            best = min(best, effect)
    parameters, effect = bill(layers, by_budget(layers, keep))
    assert parameters <= keep * full
    assert effect <= best * 1.1 + 1e-6


def test_a_flat_layer_stays_and_a_steep_one_pays():
    ranks = by_budget(truncations(), 0.85)
    assert ranks["0"] is None
    assert ranks["2"] is not None


def test_a_budget_below_rank_one_everywhere_can_not_be_reached():
    with pytest.raises(InputError, match=r"keep=0.1 can't be reached: with rank 1 in every layer 0\.\d+ of the"):
        by_budget(truncations(), 0.1)
    with pytest.raises(InputError, match="with rank 3 in every layer"):
        by_budget(truncations(), 0.5, min_rank=3)


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_energy_gives_the_smallest_rank_that_has_it(energy):
    layers = truncations()
    for layer in layers:
        rank, squares = by_energy([layer], energy)[layer.candidate.name], torch.linalg.svdvals(
            layer.candidate.module.weight.double()
        ) ** 2  # fmt: skip
        shares = squares.cumsum(0) / squares.sum()
        enough = int((shares < energy).sum()) + 1
        assert rank == (enough if enough <= layer.rank_useful else None)


def test_one_rank_for_all_leaves_those_that_would_not_get_smaller():
    assert by_rank(truncations(), 3) == {"0": 3, "1": 3, "2": None}
    with pytest.raises(InputError, match="rank=8 is more than any of these layers can have: 7 at most"):
        by_rank(truncations(), 8)

"""Ranks for all layers under one budget: where a parameter changes the model's output the most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from eigenscope.compression.whitening import Truncation
from eigenscope.errors import InputError

Ranks = dict[str, int | None]  # None: the layer stays


def by_budget(layers: Sequence[Truncation], keep: float, min_rank: int = 1) -> Ranks:
    """The ranks with the least sum of effects, of layers whose parameters are at most `keep` of what they were.

    A layer that stays costs all of its parameters and has no effect, so a layer's options are not convex: a price per
    parameter (Everett 1963) is set by bisection, and what it leaves of the budget is spent where it does the most.
    """
    least = least_keep(layers, min_rank)
    if keep < least:
        raise unreachable(keep, least, min_rank)
    options = {layer.candidate.name: _Options(layer, min_rank) for layer in layers}
    budget = math.floor(keep * sum(layer.candidate.parameters for layer in layers) + 1e-9)
    chosen = _priced(options, budget)
    _spend(options, chosen, budget)
    return {name: options[name].rank(index) for name, index in chosen.items()}


def least_keep(layers: Sequence[Truncation], min_rank: int) -> float:
    """The share of the layers' parameters that is left with `min_rank` everywhere."""
    least = sum(int(_Options(layer, min_rank).costs[0]) for layer in layers)
    return least / sum(layer.candidate.parameters for layer in layers)


def unreachable(keep: float, least: float, min_rank: int) -> InputError:
    """The error for a budget below that."""
    more = ", or a smaller min_rank" if min_rank > 1 else ""
    return InputError(
        f"keep={keep:g} can't be reached: with rank {min_rank} in every layer {math.ceil(least * 1e4) / 1e4:g} of the "
        f"parameters are left; give more{more}"
    )


def by_energy(layers: Sequence[Truncation], energy: float, min_rank: int = 1) -> Ranks:
    """For each layer the smallest rank whose share of its spectrum is at least `energy`."""
    ranks: Ranks = {}
    for layer in layers:
        left = layer.effects.cpu().numpy()
        enough = int(np.argmax(left <= (1 - energy) * left[0] + 1e-15 * left[0])) if left[0] > 0 else 0
        rank = max(enough, min_rank, 1)
        ranks[layer.candidate.name] = rank if rank <= layer.rank_useful else None
    return ranks


def by_rank(layers: Sequence[Truncation], rank: int) -> Ranks:
    """The same rank for all layers that get smaller by it."""
    largest = max(layer.candidate.rank_full for layer in layers)
    if rank > largest:
        raise InputError(f"rank={rank} is more than any of these layers can have: {largest} at most")
    return {layer.candidate.name: rank if rank <= layer.rank_useful else None for layer in layers}


class _Options:
    """What a layer may become: parameters and effect, cheapest first; the last is the layer as it is."""

    def __init__(self, layer: Truncation, min_rank: int) -> None:
        candidate = layer.candidate
        self.first = max(min_rank, 1)
        ranks = np.arange(self.first, layer.rank_useful + 1)
        effects = layer.effects.cpu().numpy()
        each = candidate.rows + candidate.columns
        self.costs: NDArray[np.int64] = np.append(ranks * each + layer.cost(0), candidate.parameters)
        self.effects: NDArray[np.float64] = np.append(effects[ranks], 0.0)

    def rank(self, index: int) -> int | None:
        return None if index == len(self.costs) - 1 else self.first + index


def _priced(options: Mapping[str, _Options], budget: int) -> dict[str, int]:
    """The options that are the cheapest at the lowest price of a parameter at which they fit."""
    low, high = -700.0, 700.0  # logarithms of prices
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if _bill(options, _choice(options, middle)) <= budget else (middle, high)
    return _choice(options, high)


def _choice(options: Mapping[str, _Options], price: float) -> dict[str, int]:
    return {name: int(np.argmin(o.effects + math.exp(price) * o.costs)) for name, o in options.items()}


def _bill(options: Mapping[str, _Options], chosen: Mapping[str, int]) -> int:
    return sum(int(options[name].costs[index]) for name, index in chosen.items())


def _spend(options: Mapping[str, _Options], chosen: dict[str, int], budget: int) -> None:
    """Move single layers up while something is left, each time the one that gains the most."""
    while True:
        left = budget - _bill(options, chosen)
        best, gain, target = "", 0.0, 0
        for name, option in options.items():
            now = chosen[name]
            reach = int(np.searchsorted(option.costs, option.costs[now] + left, side="right")) - 1
            if reach > now and option.effects[now] - option.effects[reach] > gain:
                best, gain, target = name, float(option.effects[now] - option.effects[reach]), reach
        if not best:
            return
        chosen[best] = target

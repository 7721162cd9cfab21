"""The second factor of each layer fitted again, in closed form, to what the layer gave before anything was compressed.

Layers are taken in the order in which they run, so each sees inputs that the ones before it have already changed: the
fit makes up for part of their error (as in SVD-LLM, Wang et al. 2024, there by layers, here against the original
outputs). It is a ridge regression towards the factor at hand, so that few samples can't do harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from eigenscope.compression.layers import LowRank
from eigenscope.compression.moments import Moments
from eigenscope.compression.observing import Forward, run
from eigenscope.compression.statistics import Progress, Statistics, rows_of

_RIDGE = 0.3  # of the mean variance of what the second factor sees: held-out data liked it better than 0.03 or 0.001


class _EnoughError(BaseException):
    """Ends a forward pass as soon as the layers at hand have run; no `except Exception` of a model's catches it."""


def refit(
    original: nn.Module,
    compressed: nn.Module,
    statistics: Mapping[str, Statistics],
    batches: Sequence[Any],
    forward: Forward,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Fit all low-rank layers of `compressed`, in place; gives each one's relative output error after its fit.

    Both models are in evaluation mode. The error is against the original's outputs on the original's inputs.
    """
    stages = _stages(compressed, batches[0], forward)
    errors: dict[str, float] = {}
    for index, names in enumerate(stages):
        fits = {name: _Fit(statistics[name], _layer(compressed, name)) for name in names}
        for number, batch in enumerate(batches):
            _watch(original, fits, batch, number, forward, before=True)
            _watch(compressed, fits, batch, number, forward, before=False)
            for fit in fits.values():
                fit.settle()
        errors |= {name: fit.solve() for name, fit in fits.items() if not fit.parted}
        if progress:
            progress("refit", index + 1, len(stages))
    return errors


@dataclass
class _Fit:
    """One layer: joint moments of (inputs of the second factor, outputs of the original)."""

    statistics: Statistics
    layer: LowRank
    moments: Moments = field(init=False)
    wanted: list[Tensor] = field(default_factory=list)
    inner: list[Tensor] = field(default_factory=list)
    calls: int = 0
    parted: bool = False

    def __post_init__(self) -> None:
        weight = self.layer.second.get_parameter("weight")
        self.moments = Moments(weight.shape[0] + self.layer.rank, weight.device)

    def settle(self) -> None:
        """Take in a batch; where the two models went different ways (another expert for a token), no fit is made."""
        self.parted = self.parted or [len(rows) for rows in self.wanted] != [len(rows) for rows in self.inner]
        for wanted, inner in zip(self.wanted, self.inner, strict=False):
            weights = self.statistics.weights[self.calls]
            self.calls += 1
            if not self.parted:
                self.moments.add(torch.cat([inner.double(), wanted.double()], 1), weights)
        self.wanted.clear()
        self.inner.clear()

    def solve(self) -> float:
        """Set the second factor; the relative error of the layer's outputs."""
        rank, covariance, mean = self.layer.rank, self.moments.covariance, self.moments.mean
        inner, cross, outer = covariance[:rank, :rank], covariance[rank:, :rank], covariance[rank:, rank:]
        weight, bias = self.layer.second.get_parameter("weight"), self.layer.bias
        left = weight.detach().double().flatten(1)
        ridge = _RIDGE * inner.trace() / rank * torch.eye(rank, dtype=torch.float64, device=inner.device)
        if float(ridge[0, 0]) > 0:
            left = left + torch.linalg.solve(inner + ridge, (cross - left @ inner).T).T
        shift = mean[rank:] - left @ mean[:rank]
        with torch.no_grad():
            weight.copy_(left.reshape(weight.shape))
            if bias is not None:
                bias.copy_(shift)
        missed = shift.new_zeros(()) if bias is not None else shift @ shift
        lost = outer.trace() - 2 * (left * cross).sum() + ((left @ inner) * left).sum() + missed
        whole = float(outer.trace())
        return float(lost.clamp_min(0) / whole) ** 0.5 if whole > 0 else 0.0


def _layer(model: nn.Module, name: str) -> LowRank:
    layer = model.get_submodule(name)
    assert isinstance(layer, LowRank)
    return layer


def _watch(
    model: nn.Module, fits: Mapping[str, _Fit], batch: Any, number: int, forward: Forward, *, before: bool
) -> None:
    """Run a model until the layers have been called as often as in the statistics of this batch."""
    due = {name: fit.statistics.calls[number] for name, fit in fits.items()}

    def hook(name: str, fit: _Fit) -> Any:
        def seen(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            if before:
                fit.wanted.append(rows_of(module, output, False).clone())
            else:
                inner = fit.layer.first(inputs[0])
                fit.inner.append(rows_of(fit.layer.first, inner, False).clone())
            due[name] -= 1
            if not any(count > 0 for count in due.values()):
                raise _EnoughError

        return seen

    with ExitStack() as stack, torch.no_grad():
        for name, fit in fits.items():
            stack.callback(model.get_submodule(name).register_forward_hook(hook(name, fit)).remove)
        try:
            run(model, batch, number, forward)
        except _EnoughError:
            return


def _stages(model: nn.Module, batch: Any, forward: Forward) -> list[list[str]]:
    """The low-rank layers in the order in which they first run; those with the same input go together."""
    stages: list[list[str]] = []
    last: list[Tensor] = []  # holds on to the tensor, so that its identity stays its own
    reached: set[str] = set()

    def hook(name: str) -> Any:
        def seen(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            if name in reached:
                return
            reached.add(name)
            if last and inputs[0] is last[0]:
                stages[-1].append(name)
            else:
                stages.append([name])
            last[:] = [inputs[0]]

        return seen

    with ExitStack() as stack, torch.no_grad():
        for name, layer in model.named_modules():
            if isinstance(layer, LowRank):
                stack.callback(layer.register_forward_hook(hook(name)).remove)
        run(model, batch, 0, forward)
    return stages

"""The second factor of each layer fitted again, in closed form, to what the layer gave before anything was compressed.

Layers are taken in the order in which they run, so each sees inputs that the ones before it have already changed: the
fit makes up for part of their error (as in SVD-LLM, Wang et al. 2024, there by layers, here against the original
outputs). It is a ridge regression towards the factor at hand, so that few samples can't do harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from eigenscope.compression.layers import LowRank
from eigenscope.compression.moments import JointMoments
from eigenscope.compression.observing import Forward, run
from eigenscope.compression.statistics import Progress, Statistics, input_of, rows_of
from eigenscope.compression.whitening import relative

_RIDGE = 0.3  # of the mean variance of what the second factor sees: held-out data liked it better than 0.03 or 0.001
_HELD = 1 << 26  # outputs of the original that are held at a time: 256 MB in single precision


class _EnoughError(BaseException):
    """Ends a forward pass as soon as the layers at hand have run; no `except Exception` of a model's catches it."""


def refit(
    original: nn.Module,
    compressed: nn.Module,
    statistics: Mapping[str, Statistics],
    batches: Sequence[Any],
    forward: Forward,
    progress: Progress | None = None,
) -> dict[str, float | None]:
    """Fit all low-rank layers of `compressed`, in place; gives each one's relative output error after its fit.

    Both models are in evaluation mode. The error is against the original's outputs on the original's inputs.
    """
    stages = _stages(compressed, batches[0], forward)
    errors: dict[str, float | None] = {}
    done = 0
    for group in _groups(stages, statistics):
        names = [name for stage in group for name in stage]
        given = [_outputs(original, names, statistics, batch, number, forward) for number, batch in enumerate(batches)]
        for stage in group:
            fits = {name: _Fit(statistics[name], _layer(compressed, name)) for name in stage}
            for number, batch in enumerate(batches):
                inner = _inputs(compressed, fits, batch, number, forward)
                for name, fit in fits.items():
                    fit.add(inner[name], given[number][name])
            errors |= {name: fit.solve() for name, fit in fits.items() if fit.known}
            done += 1
            if progress:
                progress("refit", done, len(stages))
    return errors


def _groups(stages: Sequence[list[str]], statistics: Mapping[str, Statistics]) -> Iterator[list[list[str]]]:
    """Stages whose outputs of the original are held together: its passes are spared, of which each stage took one."""
    group: list[list[str]] = []
    held = 0
    for stage in stages:
        size = sum(statistics[name].rows * statistics[name].candidate.rows for name in stage)
        if group and held + size > _HELD:
            yield group
            group, held = [], 0
        group.append(stage)
        held += size
    yield group


@dataclass
class _Fit:
    """One layer, with joint moments of the inputs of its second factor and the outputs of the original."""

    statistics: Statistics
    layer: LowRank
    moments: JointMoments = field(init=False)
    calls: int = 0
    parted: bool = False

    def __post_init__(self) -> None:
        weight = self.layer.second.get_parameter("weight")
        self.moments = JointMoments(self.layer.rank, weight.shape[0], weight.device)

    @property
    def known(self) -> bool:
        """Whether there is something to fit to."""
        return not self.parted and self.moments.inner.weight > 0

    def add(self, inner: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
        """Take in a batch; where the two models went different ways (another expert for a token), no fit is made."""
        self.parted = self.parted or [len(rows) for rows in wanted] != [len(rows) for rows in inner]
        for before, after in zip(wanted, inner, strict=False):
            weights = self.statistics.weights[self.calls]
            self.calls += 1
            if not self.parted:
                self.moments.add(after, before, weights)

    def solve(self) -> float | None:
        """Set the second factor; the relative error of the layer's outputs."""
        rank, moments = self.layer.rank, self.moments
        inner, cross = moments.inner.covariance, moments.cross
        weight, bias = self.layer.second.get_parameter("weight"), self.layer.bias
        left = weight.detach().double().flatten(1)
        ridge = _RIDGE * inner.trace() / rank * torch.eye(rank, dtype=torch.float64, device=inner.device)
        if float(ridge[0, 0]) > 0:
            left = left + torch.linalg.solve(inner + ridge, (cross - left @ inner).T).T
        shift = moments.outer_mean - left @ moments.inner.mean
        with torch.no_grad():
            weight.copy_(left.reshape(weight.shape))
            if bias is not None:
                bias.copy_(shift)
        missed = 0.0 if bias is not None else float(shift @ shift)
        lost = moments.outer - 2 * float((left * cross).sum()) + float(((left @ inner) * left).sum()) + missed
        return relative(lost, moments.outer)


def _layer(model: nn.Module, name: str) -> LowRank:
    layer = model.get_submodule(name)
    assert isinstance(layer, LowRank)
    return layer


def _outputs(
    model: nn.Module,
    names: Sequence[str],
    statistics: Mapping[str, Statistics],
    batch: Any,
    number: int,
    forward: Forward,
) -> dict[str, list[Tensor]]:
    """The rows that layers of the original give, call by call."""
    seen: dict[str, list[Tensor]] = {name: [] for name in names}

    def take(name: str, module: nn.Module, given: Tensor, output: Tensor) -> None:
        seen[name].append(rows_of(module, output, False).clone())

    _watch(model, {name: statistics[name].calls[number] for name in names}, take, batch, number, forward)
    return seen


def _inputs(
    model: nn.Module, fits: Mapping[str, _Fit], batch: Any, number: int, forward: Forward
) -> dict[str, list[Tensor]]:
    """The rows that second factors get, call by call."""
    seen: dict[str, list[Tensor]] = {name: [] for name in fits}

    def take(name: str, module: nn.Module, given: Tensor, output: Tensor) -> None:
        first = fits[name].layer.first
        seen[name].append(rows_of(first, first(given), False).clone())

    _watch(model, {name: fit.statistics.calls[number] for name, fit in fits.items()}, take, batch, number, forward)
    return seen


def _watch(
    model: nn.Module,
    calls: Mapping[str, int],
    take: Callable[[str, nn.Module, Tensor, Tensor], None],
    batch: Any,
    number: int,
    forward: Forward,
) -> None:
    """Run a model until layers have been called as often as in the statistics of this batch, and `take` each call."""
    due = dict(calls)

    def hook(name: str) -> Any:
        def seen(module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Tensor) -> None:
            take(name, module, input_of(inputs, named), output)
            due[name] -= 1
            if not any(count > 0 for count in due.values()):
                raise _EnoughError

        return seen

    with ExitStack() as stack, torch.no_grad():
        for name in calls:
            stack.callback(model.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True).remove)
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
        def seen(module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Tensor) -> None:
            if name in reached:
                return
            reached.add(name)
            given = input_of(inputs, named)
            if last and given is last[0]:
                stages[-1].append(name)
            else:
                stages.append([name])
            last[:] = [given]

        return seen

    with ExitStack() as stack, torch.no_grad():
        for name, layer in model.named_modules():
            if isinstance(layer, LowRank):
                stack.callback(layer.register_forward_hook(hook(name), with_kwargs=True).remove)
        run(model, batch, 0, forward)
    return stages

"""What a zoo entry is made of, and the few helpers that every entry shares."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

Batch = Any
LossFn = Callable[[nn.Module, Batch], Tensor]
Triple = tuple[nn.Module, LossFn, list[Batch]]


@dataclass(frozen=True)
class SplitLoss:
    """A loss that also shows its halves: the Gauss-Newton matrix needs the outputs in between.

    ``criterion(outputs, batch)`` is the mean loss of the batch, a scalar.
    """

    outputs: Callable[[nn.Module, Batch], Tensor]
    criterion: Callable[[Tensor, Batch], Tensor]

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.criterion(self.outputs(model, batch), batch)


@dataclass(frozen=True)
class Case:
    """One entry: ``build()`` makes a fresh ``(model, loss_fn, batches)``: evaluation mode, fp32, CPU.

    ``num_parameters`` counts the trainable ones, tied ones once. ``batch_weight`` is None where the length
    of the batch's first tensor is the right weight. ``split`` is the same loss as ``loss_fn`` in two halves;
    it is None where ``loss_fn`` is itself a `SplitLoss`.
    """

    build: Callable[[], Triple]
    num_parameters: int
    traits: frozenset[str] = frozenset()
    batch_weight: Callable[[Batch], float] | None = None
    split: SplitLoss | None = None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers inside start from `seed`; the stream outside goes on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def settle(model: nn.Module, loss_fn: LossFn, batches: list[Batch], *, steps: int = 30) -> nn.Module:
    """Train a little in train mode, so that weights and running statistics have left their initial values."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(steps):
        optimizer.zero_grad()
        loss_fn(model, batches[step % len(batches)]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad()
    return model.eval()


def move(batches: list[Batch], to: torch.dtype | torch.device | str) -> list[Batch]:
    """The batches on another device, or with their floating tensors in another dtype; labels keep theirs."""

    def convert(leaf: object) -> object:
        if not isinstance(leaf, Tensor) or (isinstance(to, torch.dtype) and not leaf.is_floating_point()):
            return leaf
        return leaf.to(to)

    moved: list[Batch] = tree_map(convert, batches)
    return moved


def parameter_count(model: nn.Module) -> int:
    """Trainable parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _forward(model: nn.Module, batch: Batch) -> Tensor:
    outputs: Tensor = model(batch[0])
    return outputs


def _cross_entropy(outputs: Tensor, batch: Batch) -> Tensor:
    """Over the last axis; -100 marks what does not count."""
    return nn.functional.cross_entropy(outputs.flatten(0, -2), batch[1].flatten())


classification = SplitLoss(outputs=_forward, criterion=_cross_entropy)
"""Mean cross-entropy of ``model(batch[0])`` against the labels ``batch[1]``."""

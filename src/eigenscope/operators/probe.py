"""The probe set: the fixed data that the loss is looked at through."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from eigenscope.errors import InputError
from eigenscope.operators.graph import nodes_above
from eigenscope.operators.isolation import isolated, random_streams, underlying

LossFunction = Callable[[Any, Any], Tensor]
BatchWeight = Callable[[Any], float]


class Batches(list[Any]):
    """A list that is known to be a sequence of batches."""


def as_batches(batches: Any) -> Batches:
    """One batch or a fixed sequence of them, as a list.

    A tensor, a mapping, a tuple of tensors, or a list or tuple of unlike things (inputs and labels) is one batch;
    a list of alike things (tuples, mappings, tensors of one type and width, token tensors of any length), or a data
    loader, is a sequence.
    """
    if isinstance(batches, Batches):
        return batches
    if isinstance(batches, Tensor | Mapping):
        return Batches([batches])
    if not isinstance(batches, Iterable) or not isinstance(batches, Sized):
        raise InputError(
            f"the probe is a {type(batches).__name__}: pass one batch or a list of batches "
            "(of a data loader, a fixed few: [batch for batch, _ in zip(loader, range(8))])"
        )
    with random_streams():  # a loader that shuffles draws from them
        items = list(batches)
    if not items:
        raise InputError("the probe is empty: pass at least one batch")
    tuple_of_tensors = isinstance(batches, tuple) and all(isinstance(i, Tensor) for i in items)
    one_batch = tuple_of_tensors or (isinstance(batches, Sequence) and len({_kind(i) for i in items}) > 1)
    return Batches([batches] if one_batch else items)


def _kind(item: Any) -> object:
    if not isinstance(item, Tensor):
        return type(item)
    return item.dtype, item.shape[1:] if item.is_floating_point() else item.ndim


def batch_size(batch: Any) -> float:
    """The length of the first tensor found in a batch: its samples, in order of the batch's own fields."""
    for tensor in _tensors(batch):
        return float(tensor.shape[0]) if tensor.ndim else 1.0
    raise InputError(f"no tensor was found in a batch ({type(batch).__name__}): pass batch_weight=, the batch's weight")


def _tensors(batch: Any) -> Iterable[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        for value in batch:
            yield from _tensors(value)
    elif hasattr(batch, "__dict__"):  # a dataclass or a graph library's batch
        yield from _tensors(vars(batch))


def _usable(batch: Any) -> Any:
    """The batch, with a copy of each tensor that was made in inference mode: autograd can't save those."""

    def usable(leaf: Any) -> Any:
        return leaf.clone() if isinstance(leaf, Tensor) and leaf.is_inference() else leaf

    with torch.inference_mode(False):
        return tree_map(usable, batch)


@dataclass(frozen=True)
class Parameters:
    """The parameters that a Hessian is taken over: trainable, each once, in the model's order."""

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    device: torch.device

    @classmethod
    def of(cls, model: nn.Module) -> Parameters:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        if not named:
            raise InputError(f"{type(model).__name__} has no trainable parameter: none has requires_grad=True")
        devices = {p.device: name for name, p in named}
        if len(devices) > 1:
            places = ", ".join(f"{name!r} on {device}" for device, name in devices.items())
            raise InputError(f"the parameters lie on several devices ({places}): move the model to one")
        if named[0][1].is_meta:
            raise InputError(f"parameter {named[0][0]!r} is on the meta device and has no values: load the model first")
        for name, p in model.named_parameters():
            if isinstance(p, nn.parameter.UninitializedParameter):
                raise InputError(f"parameter {name!r} has no shape yet: run the model once on a batch first")
            if p.is_inference() and p.requires_grad:
                raise InputError(f"parameter {name!r} was made in inference mode: build the model outside of it")
            if p.is_complex():
                raise InputError(f"parameter {name!r} is complex: only real parameters are supported")
            if not bool(torch.isfinite(p.detach()).all()):
                raise InputError(f"parameter {name!r} holds NaN or infinity: the model has diverged or is corrupt")
        return cls(tuple(n for n, _ in named), tuple(p for _, p in named), named[0][1].device)

    @property
    def count(self) -> int:
        return sum(p.numel() for p in self.tensors)

    def split(self, vector: Tensor) -> list[Tensor]:
        """A flat vector as tensors of the parameters' shapes and types."""
        parts = torch.split(vector, [p.numel() for p in self.tensors])
        return [part.view(p.shape).to(p.dtype) for part, p in zip(parts, self.tensors, strict=True)]

    def join(self, tensors: Sequence[Tensor | None], dtype: torch.dtype) -> Tensor:
        """Tensors of the parameters' shapes as one flat vector; None is zero."""
        pairs = zip(tensors, self.tensors, strict=True)
        flat = [(torch.zeros_like(p) if t is None else t.detach().to_dense()).reshape(-1) for t, p in pairs]
        return torch.cat(flat).to(dtype)


class Probe:
    """A model, its loss and the batches that it is measured on, isolated from training.

    The loss over the probe is the mean of the batches' losses, each with its share of `batch_weight` (by default
    the number of samples: a mean over equal weights moved a Hessian by 20 to 42 % where the last batch was short).
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        batches: Any,
        *,
        batch_weight: BatchWeight | None = None,
        train_mode: bool = False,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"the model is a {type(model).__name__}: a torch.nn.Module is needed")
        if not callable(loss_fn):
            raise InputError(f"loss_fn is a {type(loss_fn).__name__}: a function loss_fn(model, batch) is needed")
        self.model = underlying(model)
        self.loss_fn = loss_fn
        found = as_batches(batches)
        sizes = [float(batch_weight(b) if batch_weight else batch_size(b)) for b in found]
        if not all(math.isfinite(s) and s >= 0 for s in sizes) or not sum(sizes) > 0:
            raise InputError(f"the batches' weights are {sizes}: they must be finite, not negative, and not all zero")
        # a batch without weight (all of its labels masked) has no mean loss
        self.batches = [_usable(batch) for batch, size in zip(found, sizes, strict=True) if size > 0]
        self.samples = int(sum(sizes))
        self.weights = [size / sum(sizes) for size in sizes if size > 0]
        self.train_mode = train_mode
        self.parameters = Parameters.of(self.model)
        self.leaves = [p.detach().requires_grad_() for p in self.parameters.tensors]
        self._aliases = dict(zip(self.parameters.tensors, self.leaves, strict=True))
        self.aliased = True

    def isolated(self, leaves: Sequence[Tensor] | None = None) -> AbstractContextManager[None]:
        """The context in which the model may be run, with `leaves` (default: the parameters' values) in its place."""
        aliases = self._aliases if leaves is None else dict(zip(self.parameters.tensors, leaves, strict=True))
        return isolated(self.model, aliases if self.aliased else {}, [self.parameters.device], self.train_mode)

    def loss(self, index: int) -> Tensor:
        """The mean loss of one batch, as a graph; to be called within `isolated()`."""
        loss = self.loss_fn(self.model, self.batches[index])
        if not isinstance(loss, Tensor):
            raise InputError(f"loss_fn returned a {type(loss).__name__}: it must return the mean loss as a tensor")
        if loss.numel() != 1:
            raise InputError(f"loss_fn returned shape {tuple(loss.shape)}: it must return a scalar (use .mean())")
        if not bool(torch.isfinite(loss)):
            raise InputError(f"the loss of probe batch {index} is {float(loss.detach())}: it must be finite")
        if not loss.requires_grad:
            raise InputError("the loss does not depend on any trainable parameter: is it computed under no_grad?")
        return loss.reshape(())

    def use_originals(self) -> None:
        """Differentiate with respect to the user's own parameters: the loss reaches them other than by the model."""
        self.leaves = list(self.parameters.tensors)
        self.aliased = False

    def reaches_originals(self, loss: Tensor) -> bool:
        """Whether the graph of `loss` ends in a parameter itself, not in its alias (kept in a list by the user)."""
        originals = {id(p) for p in self.parameters.tensors}
        if loss.grad_fn is None:  # the loss is a parameter
            return id(loss) in originals
        return any(id(getattr(node, "variable", None)) in originals for node in nodes_above(loss.grad_fn))

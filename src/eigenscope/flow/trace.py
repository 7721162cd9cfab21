"""Run a model once and write down every module call: what went in, what came out, and where it stands in the graph.

Places are edges of the autograd graph, not tensors, so that operations in place do no harm.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.hooks import RemovableHandle

from eigenscope.errors import InputError
from eigenscope.operators import Probe
from eigenscope.operators.jacobian import Place


@dataclass(frozen=True)
class Signal:
    """A floating tensor that passed, by its place; `norm` is its ‖·‖₂ at that moment."""

    place: Place
    norm: float


@dataclass
class Call:
    """One run of one module."""

    name: str
    module: nn.Module
    use: int  # 1 for the module's first run in this pass, 2 for its second, ...
    inputs: list[Signal] = field(default_factory=list)
    outputs: list[Signal] = field(default_factory=list)
    children: list[Call] = field(default_factory=list)
    integers: bool = False  # it was given indices, which have no gradient
    raw: bool = False  # it returned a tensor without a gradient

    @property
    def title(self) -> str:
        return self.name if self.use == 1 else f"{self.name} (use {self.use})"


@dataclass
class Trace:
    """A whole pass: the calls that nothing of the model called, in order, and the loss that came of it."""

    roots: list[Call]
    loss: Tensor
    seconds: float

    def calls(self) -> Iterator[Call]:
        """All calls, in the order in which they began."""
        todo = list(reversed(self.roots))
        while todo:
            call = todo.pop()
            yield call
            todo += reversed(call.children)


def trace(probe: Probe, index: int) -> Trace:
    """Run one batch, to be called within `probe.isolated()`. Raises `InputError` naming the layer that gives NaN."""
    recorder, start = _Recorder(probe.model), time.perf_counter()
    with recorder.listening():
        try:
            loss = probe.loss(index)
        except InputError as error:
            raise InputError(recorder.broken or str(error)) from None
    if recorder.broken:
        raise InputError(recorder.broken)
    return Trace(recorder.roots, loss, time.perf_counter() - start)


class _Recorder:
    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name or type(model).__name__ for name, module in model.named_modules()}
        self.roots: list[Call] = []
        self.broken: str | None = None
        self._open: list[Call] = []
        self._uses: dict[nn.Module, int] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        handles: list[RemovableHandle] = []
        try:
            for module in self.names:
                handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
                handles.append(module.register_forward_hook(self._leave, with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        self._uses[module] = self._uses.get(module, 0) + 1
        call = Call(self.names[module], module, self._uses[module])
        (self._open[-1].children if self._open else self.roots).append(call)
        self._open.append(call)
        tensors = list(tensors_in((args, kwargs)))
        changed = None
        if torch.is_grad_enabled() and not any(t.requires_grad for t in tensors):
            args, kwargs = changed = _differentiable((args, kwargs))
            tensors = list(tensors_in(changed))
        call.inputs = [_signal(t) for t in tensors if t.requires_grad]
        call.integers = bool(tensors) and not any(t.is_floating_point() for t in tensors)
        return changed

    def _leave(self, module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        while self._open and self._open[-1].module is not module:  # a call that an exception ended
            self._open.pop()
        call = self._open.pop()
        tensors = [t for t in tensors_in(output) if t.is_floating_point()]
        if self.broken is None and not all(bool(torch.isfinite(t).all()) for t in tensors):
            self.broken = f"layer {call.title!r} ({type(module).__name__}) gives NaN or infinity"
        call.outputs = [_signal(t) for t in tensors if t.requires_grad]
        call.raw = bool(tensors) and not call.outputs


def _signal(tensor: Tensor) -> Signal:
    return Signal(Place.of(tensor), float(torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64)))


def _differentiable(arguments: Any) -> Any:
    """The arguments with their first floating tensor made the start of a graph; a clone, so that it may be changed."""
    chosen = next((t for t in tensors_in(arguments) if t.is_floating_point() and t.ndim), None)

    def convert(leaf: Any) -> Any:
        return leaf.detach().requires_grad_().clone() if leaf is chosen else leaf

    return arguments if chosen is None else tree_map(convert, arguments)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in a model's arguments or outputs, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from tensors_in(item)

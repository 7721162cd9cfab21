"""Run a model once and write down every module call: what went in, what came out, and where it stands in the graph.

Places are edges of the autograd graph, not tensors, so that operations in place do no harm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.hooks import RemovableHandle

from eigenscope.errors import InputError
from eigenscope.flow.checkpoints import no_checkpoints
from eigenscope.operators import Probe
from eigenscope.operators.graph import edges_above
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
    with recorder.listening(), no_checkpoints():
        try:
            loss = probe.loss(index)
        except InputError as error:
            raise InputError(recorder.broken or str(error)) from None
    if recorder.broken and recorder.nan:  # infinity alone may be a mask
        raise InputError(recorder.broken)
    _used_first(recorder.roots, loss)
    return Trace(recorder.roots, loss, time.perf_counter() - start)


def _used_first(roots: Sequence[Call], loss: Tensor) -> None:
    """Of several outputs those first that the loss is computed from: of a recurrent layer perhaps its last state."""
    used = edges_above(loss)
    todo = list(roots)
    while todo:
        call = todo.pop()
        todo += call.children
        if len(call.outputs) > 1:
            edges = [signal.place.edge for signal in call.outputs]
            order = sorted(range(len(edges)), key=lambda i: (edges[i].node, edges[i].output_nr) not in used)
            call.outputs = [call.outputs[i] for i in order]


class _Recorder:
    def __init__(self, model: nn.Module) -> None:
        named = ((name, module) for name, module in model.named_modules() if not hasattr(module, "_orig_mod"))
        self.names = {module: name.replace("._orig_mod", "") or type(model).__name__ for name, module in named}
        self.roots: list[Call] = []
        self.broken: str | None = None  # which layer is the first to give NaN or infinity
        self.nan = False  # whether NaN was among it
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
        within = self._open[-1].title if self._open else None
        (self._open[-1].children if self._open else self.roots).append(call)
        self._open.append(call)
        tensors = list(tensors_in((args, kwargs)))
        changed = None
        if torch.is_grad_enabled() and not any(t.requires_grad for t in tensors):
            args, kwargs = changed = _differentiable((args, kwargs))
            tensors = list(tensors_in(changed))
        call.inputs = [_signal(t) for t in tensors if t.requires_grad]
        if any(math.isnan(signal.norm) for signal in call.inputs):
            self._broke(
                f"NaN reaches layer {call.title!r} from " + (f"the code of {within!r}" if within else "outside")
            )
            self.nan = True
        call.integers = bool(tensors) and not any(t.is_floating_point() for t in tensors)
        return changed

    def _leave(self, module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        while self._open and self._open[-1].module is not module:  # a call that an exception ended
            self._open.pop()
        call = self._open.pop()
        tensors = [t for t in tensors_in(output) if t.is_floating_point()]
        norms = [_norm(t) for t in tensors]
        if not all(map(math.isfinite, norms)):
            self._broke(f"layer {call.title!r} ({type(module).__name__}) gives NaN or infinity")
            self.nan |= any(map(math.isnan, norms))
        call.outputs = [Signal(Place.of(t), n) for t, n in zip(tensors, norms, strict=True) if t.requires_grad]
        call.raw = bool(tensors) and not call.outputs

    def _broke(self, words: str) -> None:
        self.broken = self.broken or words


def _signal(tensor: Tensor) -> Signal:
    return Signal(Place.of(tensor), _norm(tensor))


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64))


def _differentiable(arguments: Any) -> Any:
    """The arguments with their first floating tensor made the start of a graph; a clone, so that it may be changed."""
    chosen = next((t for t in tensors_in(arguments) if t.is_floating_point() and t.ndim), None)
    if chosen is None:
        return arguments
    start = chosen.detach().requires_grad_().clone()
    return tree_map(lambda leaf: start if leaf is chosen else leaf, arguments)


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
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in([getattr(value, each.name) for each in fields(value)])

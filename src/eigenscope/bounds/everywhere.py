"""The bound from above: of the model's graph, for every shape and side input that the probe has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from eigenscope.bounds.composition import LayerBound, Shared, Walk
from eigenscope.bounds.graph import Graph, Programs, export
from eigenscope.bounds.inputs import Samples, first_tensor
from eigenscope.bounds.leaves import leaf_norms
from eigenscope.bounds.memory import LipschitzMemory
from eigenscope.bounds.rules import walk
from eigenscope.bounds.value import Value, unknown
from eigenscope.errors import first_line
from eigenscope.words import counted, few

_SHAPES = 8  # different ones that a probe may have: each is a graph of its own
_AGREES = 1e-3  # relative, of the graph's answer with the model's; in half precision 0.05


@dataclass(frozen=True)
class Everywhere:
    """The layers, what is known of the output over all inputs, which inputs these are, and what is to be said."""

    layers: tuple[LayerBound, ...]
    value: Value
    ball: str
    notes: tuple[str, ...] = ()


def everywhere(
    model: nn.Module,
    samples: Sequence[Samples],
    memory: LipschitzMemory | None = None,
    deadline: float | None = None,
) -> Everywhere:
    """The largest of the bounds for the probe's samples; to be called where the model is isolated."""
    kinds = [one for part in samples for one in part.distinct()]
    shapes = list(dict.fromkeys(tuple(one.inputs.shape[1:]) for one in kinds))
    ball = _ball(shapes, side=any(one.rest for one in kinds))
    if len(shapes) > _SHAPES:
        return Everywhere((), unknown(f"the probe has {len(shapes)} input shapes: {_SHAPES} at most are bounded"), ball)
    programs = memory.programs(model) if memory else {}
    states: list[Walk] = []
    shared = Shared()
    for one in kinds:
        try:
            graph = _graph(model, one, programs)
        except Exception as error:
            reason = f"the model can't be exported as one graph ({first_line(error)})"
            note = "the layers' norms were found layer by layer"
            return Everywhere(tuple(leaf_norms(model, one)), unknown(reason), ball, (note,))
        states.append(walk(graph, shared, deadline))
        if _output(states[-1]).bound is None:  # one without a bound is enough
            return _reading(states[-1], _output(states[-1]), ball)
    worst = max(states, key=lambda state: _output(state).bound or 0.0)
    return _reading(worst, _largest([_output(state) for state in states]), ball)


def _output(state: Walk) -> Value:
    return state.values[state.graph.output]


def _reading(state: Walk, value: Value, ball: str) -> Everywhere:
    notes = [f"{counted(state.folded, 'batch norm')} folded into the layer before"] if state.folded else []
    if state.hurried:
        notes.append(f"the time was up: {counted(state.hurried, 'norm')} bounded by sums of magnitudes, which is loose")
    return Everywhere(tuple(state.layers), value, ball, tuple(notes))


def _largest(values: Sequence[Value]) -> Value:
    """What holds for all; the chain only where it is the same for all."""
    worst = max(values, key=lambda value: value.bound or 0.0)
    product = max(value.product or 0.0 for value in values)
    grams = [value.chain.gram * value.chain.base**2 if value.chain else None for value in values]
    first = grams[0]
    alike = first is not None and all(gram is not None and torch.equal(gram, first) for gram in grams)
    scales = {value.chain.scale for value in values if value.chain}
    return replace(worst, product=product, chain=worst.chain if alike and len(scales) == 1 else None)


def _graph(model: nn.Module, one: Samples, programs: Programs) -> Graph:
    """The graph that answers as the model does: one from memory that does not is made anew."""
    remembered = bool(programs)
    graph = export(model, one, programs)
    if _answers(graph, model, one):
        return graph
    if remembered:
        programs.clear()
        graph = export(model, one, programs)
        if _answers(graph, model, one):
            return graph
    programs.clear()
    raise ValueError("its graph gives other answers than the model")


def _answers(graph: Graph, model: nn.Module, one: Samples) -> bool:
    with torch.no_grad():
        wanted = first_tensor(one.call(model, one.inputs.clone()))
        found: Tensor = graph.answer()
    tolerance = _AGREES if torch.finfo(wanted.dtype).bits >= 32 else 0.05
    wanted, found = wanted.double(), found.double()
    return wanted.shape == found.shape and bool(
        (wanted - found).norm() <= tolerance * wanted.norm().clamp_min(torch.finfo(torch.float32).tiny)
    )


def _ball(shapes: Sequence[tuple[int, ...]], *, side: bool) -> str:
    names = ["×".join(str(n) for n in shape) or "one number" for shape in shapes]
    return f"everywhere, for inputs of {few(names)}" + (" with what goes with them in the probe" if side else "")

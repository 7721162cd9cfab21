"""The real computation of a model on one sample, as a list of operations with the names of their layers.

The model is exported to ATen for a batch of one (`torch.export`), in its functional form: in-place operations are
written out. What does not depend on the input (weights behind a parametrization, masks, positions) is computed here, so
that each operation has numbers for arguments, but for the tensors that do depend on it.

Integer inputs have no neighbourhood: there the computation starts at the output of the embedding that they index.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.utils._pytree import tree_leaves, tree_map

from eigenscope.bounds.inputs import Samples, first_tensor

Programs = dict[tuple[object, ...], ExportedProgram]  # by the shapes of what the model is given


@dataclass(frozen=True)
class Ref:
    """A tensor (or tuple of tensors) that depends on the input: the result of an earlier operation."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One operation whose result depends on the input."""

    name: str  # of the result
    op: str  # ATen's name, without overload
    layer: str  # the dotted name of the module that runs it
    target: Any  # the callable
    arguments: Mapping[str, Any]  # by ATen's names; tensors, numbers, or `Ref`
    shape: tuple[int, ...]  # of the result; empty for a tuple
    dtype: torch.dtype

    @property
    def references(self) -> dict[str, list[Ref]]:
        """What depends on the input, by the argument that holds it."""
        leaves = {name: tree_leaves(argument) for name, argument in self.arguments.items()}
        found = {name: [leaf for leaf in flat if isinstance(leaf, Ref)] for name, flat in leaves.items()}
        return {name: refs for name, refs in found.items() if refs}

    @property
    def where(self) -> str:
        """For a message."""
        return f"layer {self.layer!r}" if self.layer else "the model itself"

    def on_cpu(self, copies: dict[int, tuple[Tensor, Tensor]]) -> Operation:
        """With its constants where norms are computed; each is copied once, and held so that its id stays its own."""

        def moved(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor) or leaf.device.type == "cpu":
                return leaf
            if id(leaf) not in copies:
                copies[id(leaf)] = (leaf, leaf.cpu())
            return copies[id(leaf)][1]

        return replace(self, arguments=tree_map(moved, dict(self.arguments)))

    def run(self, substitute: Mapping[str, Any], **changed: Any) -> Any:
        """Run it with other tensors in place of its references."""
        arguments = tree_map(
            lambda leaf: substitute[leaf.name] if isinstance(leaf, Ref) else leaf,
            {**self.arguments, **changed},
            is_leaf=lambda leaf: isinstance(leaf, Ref),
        )
        if self.target is operator.getitem:
            return arguments["self"][arguments["index"]]
        schema = self.target._schema.arguments
        positional = [arguments[a.name] for a in schema if not a.kwarg_only]
        return self.target(*positional, **{a.name: arguments[a.name] for a in schema if a.kwarg_only})


@dataclass(frozen=True)
class Graph:
    """Operations in order; `input` and `output` name the first and the last tensor."""

    operations: tuple[Operation, ...]
    input: Ref
    output: str
    point: Tensor  # the input of the sample that it was made on

    @torch.no_grad()
    def answer(self) -> Tensor:
        """What it computes there: what the model answers, if it is the model's graph."""
        values: dict[str, Any] = {self.input.name: self.point}
        for operation in self.operations:
            values[operation.name] = operation.run(values)
        found: Tensor = values[self.output]
        return found


class _Wrapped(nn.Module):
    """The model as a function of tensors (its input, and what else it is given) that returns one tensor."""

    def __init__(self, model: nn.Module, samples: Samples) -> None:
        super().__init__()
        self.model, self.samples = model, samples

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return first_tensor(self.samples.with_tensors(others).call(self.model, x))


def export(model: nn.Module, samples: Samples, programs: Programs | None = None) -> Graph:
    """The graph of `model` on the first sample; to be called where the model is isolated. Raises what export raises.

    `programs`: exported before, and found again where the model is made the same way; its numbers are read anew.
    """
    one = samples.first()
    wrapped = _Wrapped(model, one)
    programs = {} if programs is None else programs
    given = (one.inputs, *one.tensors())
    key = (one.key, one.settings(), *((tuple(t.shape), t.dtype, t.device) for t in given))
    if key not in programs:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # export's own deprecations
            programs[key] = torch.export.export(wrapped, given, strict=False).run_decompositions({})
    return _Reader(programs[key], wrapped, given).graph()


class _Reader:
    """Goes through an exported program once: computes what is constant, notes down the rest."""

    def __init__(self, program: ExportedProgram, wrapped: nn.Module, given: tuple[Tensor, ...]) -> None:
        self.program, self.wrapped, self.given, self.inputs = program, wrapped, given, given[0]
        self.constants: dict[Node, Any] = {}
        self.references: dict[Node, Ref] = {}
        self.operations: list[Operation] = []
        self.start: Ref | None = None
        self.point = self.inputs

    @torch.no_grad()
    def graph(self) -> Graph:
        nodes = list(self.program.graph.nodes)
        self._placeholders([node for node in nodes if node.op == "placeholder"])
        indexes = set() if self.start else self._descendants(next(n for n in nodes if self._is_input(n)))
        for node in nodes:
            if node.op == "call_function":
                self._visit(node, indexes)
        output = self.program.graph_signature.user_outputs[0]
        known = {node.name: ref for node, ref in self.references.items()}
        if self.start is None or output not in known:
            raise ValueError("the output does not depend on the input")
        return Graph(tuple(self.operations), self.start, known[str(output)].name, self.point)

    def _is_input(self, node: Node) -> bool:
        return node.name == str(self.program.graph_signature.user_inputs[0])

    def _placeholders(self, nodes: list[Node]) -> None:
        own = (
            self.wrapped.named_parameters(remove_duplicate=False),
            self.wrapped.named_buffers(remove_duplicate=False),
        )
        values = {**self.program.state_dict, **self.program.constants, **dict(own[0]), **dict(own[1])}
        others = iter(self.given[1:])
        for node, spec in zip(nodes, self.program.graph_signature.input_specs, strict=True):
            if spec.kind is not InputKind.USER_INPUT:
                self.constants[node] = values[spec.target]
            elif not self._is_input(node):
                self.constants[node] = next(others)
            elif self.inputs.is_floating_point():
                self.start = self.references[node] = Ref(node.name, tuple(self.inputs.shape))
            else:
                self.constants[node] = self.inputs

    @staticmethod
    def _descendants(node: Node) -> set[Node]:
        found: set[Node] = set()
        todo = [node]
        while todo:
            new = set(todo.pop().users) - found
            found |= new
            todo += new
        return found

    def _visit(self, node: Node, indexes: set[Node]) -> None:
        if any(parent in self.references for parent in node.all_input_nodes):
            self._note(node)
            return
        args, kwargs = self._values(node.args), self._values(node.kwargs)
        self.constants[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        if self.start is None and _name(node) == "embedding" and node.args[1] in indexes | self.constants.keys():
            self._maybe_start(node, indexes)

    def _maybe_start(self, node: Node, indexes: set[Node]) -> None:
        indices = node.args[1]
        if isinstance(indices, Node) and (indices in indexes or self._is_input(indices)):
            self.point = value = self.constants.pop(node)
            self.start = self.references[node] = Ref(node.name, tuple(value.shape))

    def _note(self, node: Node) -> None:
        value = node.meta.get("val")
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        dtype = value.dtype if isinstance(value, Tensor) else torch.float32
        self.references[node] = Ref(node.name, shape)
        self.operations.append(
            Operation(node.name, _name(node), _layer(node), node.target, self._arguments(node), shape, dtype)
        )

    def _arguments(self, node: Node) -> dict[str, Any]:
        if node.target is operator.getitem:
            return {"self": self._values(node.args[0]), "index": node.args[1]}
        schema = node.target._schema.arguments  # type: ignore[union-attr]
        given = dict(zip([a.name for a in schema], self._values(node.args), strict=False)) | self._values(node.kwargs)
        return {a.name: given.get(a.name, a.default_value) for a in schema}

    def _values(self, arguments: Any) -> Any:
        """Nodes replaced by what they are: a constant's value, or a reference."""
        known: Any = lambda node: self.references.get(node) or self.constants[node]  # noqa: E731
        return torch.fx.node.map_arg(arguments, known)


def _name(node: Node) -> str:
    if node.target is operator.getitem:
        return "getitem"
    name = str(node.target).split(".")
    return name[1] if len(name) > 1 else name[0]


def _layer(node: Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    name = stack[-1][0] if stack else ""
    return name.removeprefix("model").removeprefix(".").replace("_orig_mod.", "").removesuffix("._orig_mod")

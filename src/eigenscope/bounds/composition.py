"""The bound of a whole network, from its graph: products along it, sums at residual connections, √Σ at concatenations.

Each operation has a rule (`bounds/rules.py`). One without a constant (a product of two tensors that both depend on the
input, dot-product attention: Kim, Papamakarios & Mnih 2021) or without a rule ends the bound; the norms of the layers
behind it are still computed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from torch import Tensor

from eigenscope.bounds.convolution import Convolution
from eigenscope.bounds.convolution_norm import convolution_norm
from eigenscope.bounds.graph import Graph, Operation, Ref
from eigenscope.bounds.norms import Norm, dense_norm
from eigenscope.bounds.quick import convolution_seconds, dense_seconds, quick_convolution, quick_dense
from eigenscope.bounds.value import Value


@dataclass(frozen=True)
class LayerBound:
    """The norm of one layer of the network, on the input size that it meets."""

    name: str
    kind: str
    norm: float | None  # None: no constant holds everywhere
    method: str
    exact: bool
    lower: float | None
    input_shape: tuple[int, ...]


@dataclass
class Shared:
    """What walks over several graphs of one model share: norms found, and constants brought to the CPU."""

    norms: dict[object, tuple[Tensor, Norm]] = field(default_factory=dict)
    copies: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


@dataclass
class Walk:
    """One pass over a graph: what is known of each tensor, the layers seen, and what ended the bound."""

    graph: Graph
    values: dict[str, Value] = field(default_factory=dict)
    layers: list[LayerBound] = field(default_factory=list)
    folded: int = 0  # batch norms that were folded into the layer before them
    deadline: float | None = None  # by `time.perf_counter`: layers that would end after it get a cheap bound
    hurried: int = 0  # layers that did
    shared: Shared = field(default_factory=Shared)

    def of(self, argument: object) -> Value:
        """What is known of an argument that depends on the input."""
        assert isinstance(argument, Ref)
        return self.values[argument.name]

    def layer(self, operation: Operation, kind: str, norm: Norm, shape: tuple[int, ...]) -> Norm:
        """List a layer."""
        norm_or_none = norm.value if math.isfinite(norm.value) else None
        self.layers.append(
            LayerBound(self._unique(operation), kind, norm_or_none, norm.method, norm.exact, norm.lower, shape)
        )
        return norm

    def _unique(self, operation: Operation) -> str:
        """The layer's name; its second use is name#2."""
        name = operation.layer or operation.op
        uses = sum(layer.name.partition("#")[0] == name for layer in self.layers)
        return f"{name}#{uses + 1}" if uses else name

    def dense(self, weight: Tensor) -> Norm:
        """The norm of a dense layer, computed once for a layer that is used twice."""
        seconds = dense_seconds(weight)
        return self._once(weight, (), seconds, lambda: dense_norm(weight.double()), lambda: quick_dense(weight))

    def convolution(self, conv: Convolution) -> Norm:
        """The norm of a convolution, computed once for each input size."""
        rest = (conv.size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.mode)
        seconds = convolution_seconds(conv)
        return self._once(conv.weight, rest, seconds, lambda: convolution_norm(conv), lambda: quick_convolution(conv))

    def late(self, seconds: float) -> bool:
        """Whether work of so many seconds would end after the deadline."""
        return self.deadline is not None and time.perf_counter() + seconds > self.deadline

    def _once(
        self, weight: Tensor, rest: Hashable, seconds: float, tight: Callable[[], Norm], quick: Callable[[], Norm]
    ) -> Norm:
        """By the weight's place in memory, which no other tensor can take while it is held here."""
        key = (weight.data_ptr(), weight.dtype, weight.shape, weight.stride(), rest)
        norms = self.shared.norms
        if key not in norms:
            late = self.late(seconds)
            self.hurried += late
            norms[key] = (weight, quick() if late else tight())
        return norms[key][1]

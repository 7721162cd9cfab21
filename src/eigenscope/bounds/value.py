"""What is known of a tensor inside a network: how much it can change when the input changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from eigenscope.bounds.convolution import Convolution
from eigenscope.bounds.eclipse import Chain
from eigenscope.bounds.norms import Norm

_CHAIN_WIDTH = 8192  # the widest layer of a chain: a few factorizations of its width


@dataclass(frozen=True)
class Padding:
    """Padding that a convolution may take over: (before, after) for each axis of an input of `size`."""

    size: tuple[int, ...]
    amounts: tuple[tuple[int, int], ...]
    mode: str


@dataclass(frozen=True)
class Value:
    """`bound`: a Lipschitz constant of the tensor as a function of the input, None where none is known (`reason`).

    `product` is the same from each layer's norm by itself, nothing folded. The rest is what a linear layer that was
    just passed leaves to be folded with the next.
    """

    bound: float | None
    product: float | None
    reason: str | None = None
    chain: Chain | None = None  # dense layers
    convolution: tuple[float, Convolution] | None = None  # the bound before it, and the layer
    padded: tuple[Value, Padding] | None = None  # what was padded, and how
    method: str = "composition"
    proven: bool = False  # that no constant exists, where none is known

    def through(self, norm: Norm | float) -> Value:
        """Behind a layer of this norm."""
        factor = norm.value if isinstance(norm, Norm) else norm
        bound, product = _times(self.bound, factor), _times(self.product, factor)
        return Value(bound, product, self.reason, method=self.method, proven=self.proven)

    def at_most(self, bound: float | None, method: str | None = None) -> Value:
        """With a second bound, from elsewhere."""
        if bound is None or self.bound is None or bound >= self.bound:
            return self
        return replace(self, bound=bound, method=method or self.method)


def unknown(reason: str, *, proven: bool = False) -> Value:
    """Nothing is known behind an operation without a constant, `proven` to have none or merely without a rule."""
    return Value(None, None, reason, proven=proven)


def ended(values: Sequence[Value]) -> Value | None:
    """The one that ends a bound: what is proven to have no constant before what merely has no rule."""
    without = [value for value in values if value.bound is None]
    return next((value for value in without if value.proven), without[0] if without else None)


def added(values: Sequence[Value]) -> Value:
    """A sum: the constants add up."""
    return _joined(values, sum)


def stacked(values: Sequence[Value]) -> Value:
    """Side by side: √(Σ L²)."""
    return _joined(values, lambda parts: math.sqrt(math.fsum(p**2 for p in parts)))


def dense(value: Value, weight: Tensor, norm: Norm) -> Value:
    """Behind a dense layer: by its norm, and by the chain that it belongs to."""
    after = value.through(norm)
    if value.bound is None or len(weight) > _CHAIN_WIDTH:
        return after
    chain = value.chain.then(weight) if value.chain else Chain.start(value.bound, weight)
    if value.chain:
        after = after.at_most(chain.constant, "eclipse_fast" if chain.activations else None)
    return replace(after, chain=chain)


def _joined(values: Sequence[Value], combine: Callable[[list[float]], float]) -> Value:
    end = ended(values)
    if end is not None:
        return unknown(end.reason or "", proven=end.proven)
    method = "eclipse_fast" if any(v.method == "eclipse_fast" for v in values) else "composition"
    bounds, products = zip(*((v.bound or 0.0, v.product or 0.0) for v in values), strict=True)
    return Value(combine(list(bounds)), combine(list(products)), method=method)


def _times(value: float | None, factor: float) -> float | None:
    if value is None or not math.isfinite(factor):
        return None
    return value * factor

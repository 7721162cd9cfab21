"""Low-rank layers: two standard ones in a row that stand where a dense or convolution layer stood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


_FREE = {  # what a product tells of itself without being formed
    *(getattr(Tensor, name).__get__ for name in ("dtype", "device", "shape", "ndim", "layout", "is_cuda")),
    Tensor.size, Tensor.dim, Tensor.numel, Tensor.is_floating_point,
}  # fmt: skip


class Product(Tensor):
    """A product that is formed as soon as something is computed with it; its type and shape cost nothing.

    A T5 reads the type of a weight at each call, and PyTorch's own encoder layer looks whether weights are plain
    tensors, to hand them to a fused kernel: the whole product would cost more than the layer that was replaced.
    """

    form: Callable[[], Tensor]

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _FREE:
            return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        args, kwargs = tree_map_only(Product, lambda product: product.form(), (args, dict(kwargs or {})))
        return func(*args, **kwargs)


class LowRank(nn.Module):
    """`second(first(input))`, of rank `rank`. `weight` is their product, for code that looks at a layer's weight."""

    first: nn.Module
    second: nn.Module

    def __init__(self, first: nn.Module, second: nn.Module, rank: int) -> None:
        super().__init__()
        self.first, self.second, self.rank = first, second, rank

    def forward(self, input: Tensor) -> Tensor:  # the name that the layer had for it
        """What the layer did, to its rank."""
        return cast(Tensor, self.second(self.first(input)))

    @property
    def weight(self) -> Tensor:
        """The product of the two weights, in the layout of the layer that was replaced; formed when it is used."""
        if torch.compiler.is_compiling():  # a product that nothing uses is no part of compiled code
            return self._product()
        left, right = self._factors()
        made = self._stored(left.new_empty(()).expand(left.shape[0], *right.shape[1:])).as_subclass(Product)
        made.form = self._product
        return made

    @property
    def bias(self) -> Tensor | None:
        """The second layer's."""
        return cast(Tensor | None, self.second.bias)

    def _factors(self) -> tuple[Tensor, Tensor]:
        return self.second.get_parameter("weight"), self.first.get_parameter("weight")

    def _product(self) -> Tensor:
        left, right = self._factors()
        return self._stored((left.flatten(1) @ right.flatten(1)).view(left.shape[0], *right.shape[1:]))

    def _stored(self, weight: Tensor) -> Tensor:
        """A weight with a row for each output, in the layer's own layout."""
        return weight


class LowRankLinear(LowRank):
    """In place of `nn.Linear`: the weight is (out, in)."""

    def __init__(self, in_features: int, out_features: int, rank: int, bias: bool) -> None:
        first = nn.Linear(in_features, rank, bias=False)
        super().__init__(first, nn.Linear(rank, out_features, bias=bias), rank)
        self.in_features, self.out_features = in_features, out_features


class LowRankConv1D(LowRankLinear):
    """In place of the Conv1D of GPT-2, a dense layer whose weight is (in, out)."""

    def __init__(self, in_features: int, out_features: int, rank: int, bias: bool) -> None:
        super().__init__(in_features, out_features, rank, bias)
        self.nx, self.nf = in_features, out_features

    def forward(self, x: Tensor) -> Tensor:
        """What the layer did, to its rank."""
        return super().forward(x)

    def _stored(self, weight: Tensor) -> Tensor:
        return weight.T


class LowRankConvolution(LowRank):
    """In place of a convolution of one to three dimensions: one to `rank` channels, then one of size 1."""

    def __init__(self, like: Convolution, rank: int, bias: bool) -> None:
        kind: Any = _CONVOLUTIONS[like.weight.ndim - 2]
        place = {name: getattr(like, name) for name in ("stride", "padding", "dilation", "padding_mode")}
        first = kind(like.in_channels, rank, like.kernel_size, bias=False, **place)
        super().__init__(first, kind(rank, like.out_channels, 1, bias=bias), rank)
        self.in_channels, self.out_channels = like.in_channels, like.out_channels
        self.kernel_size, self.stride, self.padding = like.kernel_size, like.stride, like.padding
        self.dilation, self.groups, self.padding_mode = like.dilation, like.groups, like.padding_mode


def empty_low_rank(layer: nn.Module, rank: int, *, bias: bool) -> LowRank:
    """The low-rank layer for `layer`, its values not set: for `set_factors`, or for values from a file."""
    weight = layer.get_parameter("weight")
    with torch.random.fork_rng([]), torch.device(weight.device):
        made: LowRank
        if isinstance(layer, nn.Linear):
            made = LowRankLinear(layer.in_features, layer.out_features, rank, bias)
        elif isinstance(layer, Convolution):
            made = LowRankConvolution(layer, rank, bias)
        else:
            made = LowRankConv1D(weight.shape[0], weight.shape[1], rank, bias)
    made = made.to(weight.dtype).requires_grad_(weight.requires_grad)
    if isinstance(made.bias, Tensor) and isinstance(layer.bias, Tensor):
        made.bias.requires_grad_(layer.bias.requires_grad)
    for module in made.modules():
        module.training = layer.training
    return made


def with_factors(
    layer: nn.Module, left: Float[Tensor, "m r"], right: Float[Tensor, "r n"], bias: Float[Tensor, " m"] | None
) -> LowRank:
    """`layer` replaced by the product of two factors; `n` runs over channels and kernel positions."""
    made = empty_low_rank(layer, left.shape[1], bias=bias is not None)
    with torch.no_grad():
        for module, values in ((made.first, right), (made.second, left)):
            weight = module.get_parameter("weight")
            weight.copy_(values.reshape(weight.shape))
        if bias is not None:
            made.second.get_parameter("bias").copy_(bias)
    return made


def matrix_of(layer: nn.Module) -> Float[Tensor, "m n"]:
    """The layer's weight in fp64, a row for each output; of a convolution, columns are channels and positions."""
    weight = layer.get_parameter("weight").detach().to(torch.float64)
    return weight.flatten(1) if isinstance(layer, nn.Linear | Convolution) else weight.T


def bias_of(layer: nn.Module) -> Float[Tensor, " m"] | None:
    """In fp64; None where there is none."""
    bias = layer.bias
    return bias.detach().to(torch.float64) if isinstance(bias, Tensor) else None


def turn_into(layer: nn.Module, made: LowRank) -> None:
    """Make `layer` itself the low-rank one: wherever it stands, be it in a plain list, and with the hooks on it."""
    hooks = {name: value for name, value in vars(layer).items() if "hook" in name}
    vars(layer).clear()
    vars(layer).update(vars(made) | hooks)
    layer.__class__ = type(made)


def factors_of(layer: LowRank) -> tuple[Float[Tensor, "m r"], Float[Tensor, "r n"]]:
    """The two stored weights as matrices, in fp64."""
    left, right = (weight.detach().to(torch.float64).flatten(1) for weight in layer._factors())
    return left, right

"""Low-rank layers: two standard ones in a row that stand where a dense or convolution layer stood."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class LowRank(nn.Module):
    """`second(first(x))`, of rank `rank`. `weight` is their product, for code that looks at a layer's weight."""

    first: nn.Module
    second: nn.Module

    def __init__(self, first: nn.Module, second: nn.Module, rank: int) -> None:
        super().__init__()
        self.first, self.second, self.rank = first, second, rank

    def forward(self, x: Tensor) -> Tensor:
        """What the layer did, to its rank."""
        return cast(Tensor, self.second(self.first(x)))

    @property
    def weight(self) -> Tensor:
        """The product of the two weights, in the layout of the layer that was replaced; computed at each access."""
        left, right = self.second.get_parameter("weight"), self.first.get_parameter("weight")
        return (left.flatten(1) @ right.flatten(1)).view(len(left), *right.shape[1:])

    @property
    def bias(self) -> Tensor | None:
        """The second layer's."""
        return cast(Tensor | None, self.second.bias)


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

    @property
    def weight(self) -> Tensor:
        """The product of the two weights: (in, out)."""
        return super().weight.T


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


def replace_layer(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """In every place of `model` where `old` stands."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                parent._modules[name] = new

"""`torch.compile` in the three places where users put it: around the model, around a part, in place.

Backend ``aot_eager`` traces and partitions as the default backend does, and has no double backward just as it
has none, but needs no C++ compiler.
"""

from typing import cast

import torch
from torch import Tensor, nn

from zoo.case import Triple, classification, seeded, settle
from zoo.data import digits_batches


class Body(nn.Module):
    """Plain, but not an `nn.Sequential`: Dynamo compiles a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 5), nn.Linear(5, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh())  # type: ignore[no-any-return]


def _settled() -> Triple:
    torch.compiler.reset()  # past 8 builds of one forward Dynamo would give up and run it uncompiled
    batches = digits_batches((16, 16))
    with seeded(12):
        return settle(Body(), classification, batches), classification, batches


def compiled_module() -> Triple:
    model, loss_fn, batches = _settled()
    return cast(nn.Module, torch.compile(model, backend="aot_eager")), loss_fn, batches


def compiled_part() -> Triple:
    model, loss_fn, batches = _settled()
    model.first = cast(nn.Module, torch.compile(model.first, backend="aot_eager"))  # type: ignore[arg-type]
    return model, loss_fn, batches


def compiled_in_place() -> Triple:
    model, loss_fn, batches = _settled()
    model.compile(backend="aot_eager")
    return model, loss_fn, batches

"""The networks that the tests of the signal flow share: small, seeded, each with one habit of real code."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from zoo import seeded

WIDTH = 8


def wave(model, batch):
    """A loss whose gradient is neither small nor along a special direction."""
    out = model(batch)
    return (torch.linspace(-1, 1, out.numel(), dtype=out.dtype) * out.flatten()).sum()


def inputs(*shape: int) -> Tensor:
    with seeded(1):
        return torch.randn(shape)


def chain(layers: int, sigma: float, *, width: int = WIDTH, bad: int | None = None, factor: float = 98.0):
    """Linear layers whose singular values are all `sigma`; those of layer `bad` are `factor`."""
    with seeded(0):
        parts = [nn.Linear(width, width, bias=False) for _ in range(layers)]
        for index, layer in enumerate(parts):
            nn.init.orthogonal_(layer.weight)
            layer.weight.data *= factor if index == bad else sigma
    return nn.Sequential(*parts)


def deep(layers: int, activation, gain: float, *, width: int = 64, norm=None):
    """A plain network with weights of variance gain²/width."""
    parts = []
    with seeded(0):
        for _ in range(layers):
            layer = nn.Linear(width, width)
            nn.init.normal_(layer.weight, std=gain / width**0.5)
            nn.init.zeros_(layer.bias)
            parts += [layer, *([norm(width)] if norm else []), activation()]
    return nn.Sequential(*parts)


class Residual(nn.Module):
    """x + scale · B(x)."""

    def __init__(self, width: int = WIDTH, scale: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        self.inner, self.scale = nn.Linear(width, width, bias=bias), scale

    def forward(self, x):
        return x + self.scale * self.inner(x)


class Mixer(nn.Module):
    """A block with two layers inside; how it takes and returns its tensor is the parents' choice."""

    def __init__(self, wrap=lambda h: h) -> None:
        super().__init__()
        self.up, self.down, self.wrap = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), wrap

    def forward(self, x, *, scale=1.0):
        return self.wrap(x + scale * self.down(self.up(x).tanh()))


@dataclass
class Output:
    """What some models return."""

    hidden: Tensor
    extra: int = 0


class Passed(nn.Module):
    """Blocks that hand each other tuples, mappings or dataclasses, by keyword."""

    def __init__(self, wrap, unwrap) -> None:
        super().__init__()
        self.blocks, self.out = nn.ModuleList([Mixer(wrap) for _ in range(4)]), nn.Linear(WIDTH, 3)
        self.unwrap = unwrap

    def forward(self, x):
        for block in self.blocks:
            x = self.unwrap(block(x=x, scale=0.5))
        return self.out(x)


class Stack(nn.Module):
    """Blocks and a head; `around` is put around each call of a block."""

    def __init__(self, around=lambda block, x: block(x)) -> None:
        super().__init__()
        with seeded(2):
            self.blocks, self.out = nn.ModuleList([Mixer() for _ in range(4)]), nn.Linear(WIDTH, 3)
        self.around = around

    def forward(self, x):
        for block in self.blocks:
            x = self.around(block, x)
        return self.out(x)


def reentrant(block, x):
    return checkpoint(block, x if x.requires_grad else x.requires_grad_(), use_reentrant=True)


def not_reentrant(block, x):
    return checkpoint(block, x, use_reentrant=False)


class Head(nn.Module):
    """One head of attention."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.key, self.query, self.value = (nn.Linear(width, size, bias=False) for _ in range(3))

    def forward(self, x):
        scores = self.query(x) @ self.key(x).mT * x.shape[-1] ** -0.5
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ self.value(x)


class Heads(nn.Module):
    """Attention as a list of heads."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.heads, self.proj = nn.ModuleList([Head(width, width // 2) for _ in range(2)]), nn.Linear(width, width)

    def forward(self, x):
        return self.proj(torch.cat([head(x) for head in self.heads], -1))


def mlp(width: int = WIDTH) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))


class Block(nn.Module):
    """A pre-norm transformer block of such heads."""

    def __init__(self) -> None:
        super().__init__()
        self.sa, self.ffwd, self.ln1, self.ln2 = Heads(), mlp(), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x):
        x = x + self.sa(self.ln1(x))
        return x + self.ffwd(self.ln2(x))


class Letters(nn.Module):
    """A small GPT of such blocks."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.tok, self.pos = nn.Embedding(20, WIDTH), nn.Embedding(6, WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(layers)])
        self.ln_f, self.lm_head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 20)

    def forward(self, ids):
        return self.lm_head(self.ln_f(self.blocks(self.tok(ids) + self.pos(torch.arange(ids.shape[1])))))


class InParent(nn.Module):
    """x = x + attn(norm(x)); x = x + mlp(norm(x)), written in the parent."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.attn, self.mlp = (nn.ModuleList([make() for _ in range(2)]) for make in (Heads, mlp))
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH) if norm else nn.Identity() for _ in range(4)])
        self.plain, self.out = not norm, nn.Linear(WIDTH, 3)

    def forward(self, x):
        for index in range(2):
            for part, norm in ((self.attn, self.norms[2 * index]), (self.mlp, self.norms[2 * index + 1])):
                x = x + part[index](x if self.plain else norm(x))
        return self.out(x)


class Parallel(nn.Module):
    """Two branches side by side, added or concatenated."""

    def __init__(self, join) -> None:
        super().__init__()
        self.stem, self.left, self.right = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.join, self.out = join, nn.LazyLinear(3)

    def forward(self, x):
        x = self.stem(x).tanh()
        return self.out(self.join(self.left(x), self.right(x)))


class DenseLayer(nn.Module):
    """Concatenates what it was given and what it makes of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(width), nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, x):
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class DenseNet(nn.Module):
    """Growing by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.layers, self.head = nn.ModuleList([DenseLayer(4 + 2 * i) for i in range(3)]), nn.Linear(10, 3)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class UNet(nn.Module):
    """Down, up, and a concatenation across."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.bottom = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.up, self.out = nn.Upsample(scale_factor=2), nn.Conv2d(6, 1, 1)

    def forward(self, x):
        across = F.relu(self.down(x))
        deep = self.bottom(F.max_pool2d(across, 2)).relu()
        return self.out(torch.cat([self.up(deep), across], 1))


class Cells(nn.Module):
    """A recurrent cell, unrolled by hand."""

    def __init__(self, kind) -> None:
        super().__init__()
        self.cell, self.head = kind(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x):
        state = None
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Cut(nn.Module):
    """Layers of which the second is cut off: under no_grad, or by a detach."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.layers, self.how = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(4)]), how

    def forward(self, x):
        for index, layer in enumerate(self.layers):
            if index == 1 and self.how == "no_grad":
                with torch.no_grad():
                    x = layer(x)
            else:
                x = layer(x)
                x = x.detach() if index == 1 else x
        return x


class Breaks(nn.Module):
    """Layers with a logarithm of negative numbers between: in a layer, or in the code between two."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(4)])
        self.log = nn.Module()
        self.log.forward = torch.log
        self.inside = inside

    def forward(self, x):
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index == 1:
                x = self.log(x) if self.inside else x.log()
        return x


class InPlaceResidual(nn.Module):
    """As in torchvision's ResNet: out += identity, then a ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        identity = x
        out = self.conv2(self.relu(self.norm(self.conv1(x))))
        out += identity
        return self.relu(out)

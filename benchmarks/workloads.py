"""Three networks trained on real data: what the curvature benchmark measures.

Training runs in fp64 on one thread and is rounded to fp32 at the end, so that every machine ends at
the same weights to far better than the reference spectra (:mod:`truth`) need.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
TEXT = Path(__file__).with_name("shakespeare.txt")


@dataclass(frozen=True)
class Workload:
    """A trained model in evaluation mode, and the fixed probe batch whose mean loss is looked at."""

    name: str
    about: str
    model: nn.Module
    batch: Batch
    draw: Callable[[torch.Generator], Batch]  # a minibatch of the training set

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def loss(self) -> Tensor:
        """The mean loss over the probe, a scalar."""
        return mean_loss(self.model, self.batch)

    def double(self) -> Workload:
        """The same workload in fp64, for the reference spectra."""
        inputs, targets = self.batch
        inputs = inputs.double() if inputs.is_floating_point() else inputs
        return replace(self, model=copy.deepcopy(self.model).double(), batch=(inputs, targets))

    def to(self, device: str) -> Workload:
        inputs, targets = self.batch
        model = copy.deepcopy(self.model).to(device)
        return replace(self, model=model, batch=(inputs.to(device), targets.to(device)))


def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross entropy, averaged over the batch (and over the tokens of a text)."""
    inputs, targets = batch
    return nn.functional.cross_entropy(model(inputs), targets)


def mlp() -> Workload:
    """2,778 parameters on digits: small enough for the exact dense Hessian."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 10))
    images, labels = _digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    draw = partial(_pick, images, labels, 64)
    _train(model, optimizer, draw, steps=300)
    return _finish("mlp", "MLP 64-32-16-10, tanh, digits", model, (images[:512], labels[:512]), draw)


def cnn() -> Workload:
    """About 150,000 parameters on digits, with batch norm."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *_convolution(1, 32), *_convolution(32, 64), nn.MaxPool2d(2), *_convolution(64, 128), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, 112), nn.ReLU(), nn.Linear(112, 10),
    )  # fmt: skip
    images, labels = _digits()
    images = images.reshape(-1, 1, 8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    draw = partial(_pick, images, labels, 64)
    _train(model, optimizer, draw, steps=100)
    return _finish("cnn", "CNN with batch norm, digits", model, (images[:256], labels[:256]), draw)


def gpt() -> Workload:
    """About 800,000 parameters on characters of Shakespeare, head tied to the embedding."""
    torch.manual_seed(0)
    tokens, vocabulary = characters()
    model = GPT(vocabulary, width=128, depth=4, heads=4, context=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.01)
    draw = partial(window, tokens, 8, 64)
    _train(model, optimizer, draw, steps=400)
    probe = draw(torch.Generator().manual_seed(1))
    return _finish("gpt", "GPT, 4 blocks of width 128, tied head, characters", model, probe, draw)


WORKLOADS: dict[str, Callable[[], Workload]] = {"mlp": mlp, "cnn": cnn, "gpt": gpt}


class GPT(nn.Module):
    """A GPT with attention written out (the fused kernels have no double backward) and a tied head."""

    def __init__(self, vocabulary: int, *, width: int, depth: int, heads: int, context: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.token.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of every position in one list: (batch · length) × vocabulary."""
        hidden = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(hidden)))
        return logits.flatten(0, 1)


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, each behind its LayerNorm, with residuals."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.out(self._attend(self.norm1(hidden)))
        fed: Tensor = self.feed(self.norm2(hidden))
        return hidden + fed

    def _attend(self, hidden: Tensor) -> Tensor:
        length = hidden.shape[1]
        query, key, value = self.qkv(hidden).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        future = torch.ones(length, length, dtype=torch.bool, device=hidden.device).triu(1)
        weights = scores.masked_fill(future, float("-inf")).softmax(-1)
        attended: Tensor = weights @ value
        return attended.transpose(1, 2).flatten(2)


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


def _train(
    model: nn.Module, optimizer: torch.optim.Optimizer, draw: Callable[[torch.Generator], Batch], steps: int
) -> None:
    """A short warm-up, then the step size falls linearly: without it rounding errors grow to 1 %."""
    model.double().train()
    rng = torch.Generator().manual_seed(0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (steps / 10), 1 - step / steps)
    )
    for _ in range(steps):
        optimizer.zero_grad()
        mean_loss(model, draw(rng)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()


def _finish(
    name: str, about: str, model: nn.Module, batch: Batch, draw: Callable[[torch.Generator], Batch]
) -> Workload:
    return Workload(name, about, model.float().eval(), _single(batch), lambda rng: _single(draw(rng)))


def _single(batch: Batch) -> Batch:
    inputs, targets = batch
    return (inputs.float() if inputs.is_floating_point() else inputs), targets


def _digits() -> Batch:
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    return torch.tensor(digits.data)[order] / 16, torch.tensor(digits.target)[order]


def _pick(inputs: Tensor, targets: Tensor, size: int, rng: torch.Generator) -> Batch:
    rows = torch.randint(len(inputs), (size,), generator=rng)
    return inputs[rows], targets[rows]


def characters() -> tuple[Tensor, int]:
    """The text as token numbers, and how many different ones there are."""
    text = TEXT.read_text(encoding="ascii")
    index = {character: i for i, character in enumerate(sorted(set(text)))}
    return torch.tensor([index[character] for character in text]), len(index)


def window(tokens: Tensor, size: int, length: int, rng: torch.Generator) -> Batch:
    """Random stretches of the text, size × length, and the characters that follow."""
    starts = torch.randint(len(tokens) - length, (size, 1), generator=rng)
    window = tokens[starts + torch.arange(length + 1)]
    return window[:, :-1], window[:, 1:].flatten()

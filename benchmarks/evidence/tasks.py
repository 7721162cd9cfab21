"""Three small real tasks, each trained in seconds: digits, CIFAR-10, Shakespeare's characters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eigenscope.scenarios import digits

Batch = tuple[Tensor, Tensor]
DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "datasets"  # beside the project, where it lies
PROBE, HELD_OUT = 256, 400
first_seed = 0  # what `actions.py --first-seed` adds to the seeds of all runs


def found(name: str, what: str) -> Path:
    """A data file, or one line that says what is missing; digits come with scikit-learn."""
    if not (DATA / name).exists():
        raise SystemExit(f"{name} ({what}) is not in {DATA}: put it there, or leave its item out")
    return DATA / name


@dataclass(frozen=True)
class Task:
    """Data and a network for it; `model(seed)` starts it anew, `batches` draws with replacement."""

    name: str
    train: Batch
    test: Batch
    build: Callable[[], nn.Module]
    batch_size: int = 64

    def model(self, seed: int) -> nn.Module:
        """The same start for the same seed."""
        torch.manual_seed(first_seed + seed)
        return self.build()

    def batches(self, steps: int, seed: int) -> Iterator[Batch]:
        """The minibatches of `steps` steps, the same for the same seed."""
        generator = torch.Generator().manual_seed(10_000 + first_seed + seed)
        inputs, labels = self.train
        for _ in range(steps):
            chosen = torch.randint(len(labels), (self.batch_size,), generator=generator)
            yield inputs[chosen], labels[chosen]

    def probe(self, size: int = PROBE) -> Batch:
        """Fixed samples of the training set to measure on."""
        return self.train[0][:size], self.train[1][:size]


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy over samples, or over all tokens of all samples."""
    return F.cross_entropy(model(batch[0]).flatten(0, -2), batch[1].flatten())


@torch.no_grad()
def loss_on(model: nn.Module, batch: Batch) -> float:
    """The loss in evaluation mode; infinite where it is no number."""
    mode = model.training
    value = float(loss_fn(model.eval(), batch))
    model.train(mode)
    return value if np.isfinite(value) else float("inf")


@torch.no_grad()
def accuracy(model: nn.Module, batch: Batch) -> float:
    """The share of right answers in evaluation mode."""
    mode = model.training
    right = float((model.eval()(batch[0]).argmax(-1) == batch[1]).float().mean())
    model.train(mode)
    return right


def digits_task() -> Task:
    """scikit-learn's digits, 1,397 to train and 400 held out; an MLP of 3,500 parameters."""
    inputs, labels = digits()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    inputs, labels = inputs[order], labels[order]

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))

    return Task("digits", *split(inputs, labels), build)


def cifar_task() -> Task:
    """2,000 images of CIFAR-10, 1,600 to train, at 16 × 16 pixels; a network of three convolutions."""
    file = np.load(found("cifar10-test-2000.npz", "2,000 images of CIFAR-10's test set, uint8, with their labels"))
    names = {name: file[name] for name in file.files}
    images = next(value for value in names.values() if value.ndim == 4)
    labels = torch.as_tensor(next(value for value in names.values() if value.ndim == 1)).long()
    pixels = torch.as_tensor(images).float() / 255
    pixels = pixels.permute(0, 3, 1, 2) if pixels.shape[-1] == 3 else pixels
    pixels = F.avg_pool2d((pixels - pixels.mean((0, 2, 3), keepdim=True)) / pixels.std((0, 2, 3), keepdim=True), 2)

    def build() -> nn.Module:
        widths = [(3, 16), (16, 32), (32, 32)]
        layers = [part for a, b in widths for part in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 4, 10))

    return Task("cifar", *split(pixels, labels), build)


def shakespeare_task(length: int = 32) -> Task:
    """The first 200,000 characters of Shakespeare's plays in windows; a transformer of one block, 18,000 parameters."""
    text = found("tinyshakespeare.txt", "Karpathy's tiny Shakespeare, 1.1 MB").read_text()[:200_000]
    letters = sorted(set(text))
    code = torch.tensor([letters.index(letter) for letter in text])
    windows = code[: (len(code) - 1) // length * length].view(-1, length)
    targets = code[1 : windows.numel() + 1].view(-1, length)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    return Task("shakespeare", *split(windows[order], targets[order]), lambda: Characters(len(letters), length), 32)


def split(inputs: Tensor, labels: Tensor) -> tuple[Batch, Batch]:
    """The last of them are held out."""
    return (inputs[:-HELD_OUT], labels[:-HELD_OUT]), (inputs[-HELD_OUT:], labels[-HELD_OUT:])


class Characters(nn.Module):
    """A decoder of one block with LayerNorm before each part."""

    def __init__(self, letters: int, length: int, width: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(letters, width), nn.Parameter(0.02 * torch.randn(length, width))
        self.block = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, letters)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, length) → (batch, length, letters)."""
        return self.head(self.norm(self.block(self.token(tokens) + self.place, self.mask, is_causal=True)))


TASKS = {"digits": digits_task, "cifar": cifar_task, "shakespeare": shakespeare_task}

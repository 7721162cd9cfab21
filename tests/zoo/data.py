"""Where the data comes from: scikit-learn's digits and diabetes, a sonnet, the files beside the project."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits  # type: ignore[import-untyped]
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]

LabelledBatch = tuple[Tensor, Tensor]

SONNET = (
    "shall i compare thee to a summers day thou art more lovely and more temperate "
    "rough winds do shake the darling buds of may and summers lease hath all too short a date"
)
ALPHABET = " abcdefghijklmnopqrstuvwxyz"


def shared_data(name: str) -> Path:
    """The file `name` of the data folder beside the repository; skips the test where there is none.

    The files have no licence to be committed, so a user's clone lacks them.
    """
    path = ROOT.parent / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"needs {name} in ../shared/data, beside the repository; a clone has none of it")
    return path


def digits_batches(sizes: tuple[int, ...] = (32, 32), *, sort: bool = False) -> list[LabelledBatch]:
    """Batches of scikit-learn's 8x8 digits, pixels in [0, 1], flattened to 64.

    `sort` orders them by label: each batch then sees other classes, and weighting batches wrongly shows.
    """
    images, labels = _tensors(load_digits(return_X_y=True))
    count = sum(sizes)
    images, labels = images[:count] / 16, labels[:count].long()
    if sort:
        order = torch.argsort(labels, stable=True)
        images, labels = images[order], labels[order]
    return _batched(images, labels, sizes)


def diabetes_batches(sizes: tuple[int, ...] = (40, 40)) -> list[LabelledBatch]:
    """Batches of scikit-learn's diabetes data: 10 features of unit variance, one standardized target."""
    features, target = _tensors(load_diabetes(return_X_y=True))
    count = sum(sizes)
    features = features[:count] / features.std(0)
    target = ((target - target.mean()) / target.std())[:count, None]
    return _batched(features, target, sizes)


def sonnet_batches(*, length: int, batch: int, count: int = 2) -> list[LabelledBatch]:
    """Windows of a sonnet as ``(tokens, next tokens)``, each ``(batch, length)``, 27 symbols."""
    tokens = torch.tensor([ALPHABET.index(letter) for letter in SONNET])
    windows = tokens[: batch * count * length + 1]
    inputs, targets = windows[:-1].view(-1, length), windows[1:].view(-1, length)
    return _batched(inputs, targets, [batch] * count)


def _batched(inputs: Tensor, targets: Tensor, sizes: Sequence[int]) -> list[LabelledBatch]:
    return list(zip(torch.split(inputs, list(sizes)), torch.split(targets, list(sizes)), strict=True))


def _tensors(arrays: tuple[object, object]) -> LabelledBatch:
    first, second = (torch.tensor(array, dtype=torch.float32) for array in arrays)
    return first, second

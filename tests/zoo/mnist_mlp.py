"""A trained 784-128-10 perceptron without biases on real MNIST digits.

The file doesn't say how its pixels were scaled, and without biases every scale gives the same answers. On
raw pixels, 0 to 255, the loss is 0.41; on [0, 1] it is 2.23, next to guessing: it was trained on raw ones.
"""

import gzip

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.case import Triple, classification, seeded
from zoo.data import LabelledBatch, shared_data


class MnistMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l1, self.l2 = nn.Linear(784, 128, bias=False), nn.Linear(128, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.l2(F.relu(self.l1(x)))  # type: ignore[no-any-return]


def _idx(name: str, header: int) -> Tensor:
    raw = bytearray(gzip.decompress(shared_data(f"datasets/mnist-test/{name}").read_bytes()))
    return torch.frombuffer(raw, dtype=torch.uint8, offset=header)


def digits() -> LabelledBatch:
    """The 10,000 test digits, pixels from 0 to 255, flattened."""
    pixels = _idx("t10k-images-idx3-ubyte.gz", header=16).view(-1, 784)
    return pixels.float(), _idx("t10k-labels-idx1-ubyte.gz", header=8).long()


def mnist_mlp() -> Triple:
    """Two batches of 128 digits."""
    with seeded(0):
        model = MnistMLP()
    model.load_state_dict(load_file(shared_data("weights/mnist-mlp.safetensors")))
    pixels, labels = digits()
    return model.eval(), classification, [(pixels[i : i + 128], labels[i : i + 128]) for i in (0, 128)]

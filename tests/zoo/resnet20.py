"""ResNet-20 for CIFAR-10 (He et al. 2016, shortcuts of option A), trained by Y. Idelbayev, on real images."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.case import Triple, classification, seeded
from zoo.data import LabelledBatch, shared_data

MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class Block(nn.Module):
    """Two convolutions; where the size halves, the shortcut drops every other pixel and pads with zeros."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.stride = width // width_in
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=self.stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            pad = x.shape[1] // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, pad, pad))
        return F.relu(hidden + x)


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16) for _ in range(3)))
        self.layer2 = nn.Sequential(Block(16, 32), Block(32, 32), Block(32, 32))
        self.layer3 = nn.Sequential(Block(32, 64), Block(64, 64), Block(64, 64))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))  # type: ignore[no-any-return]


def images() -> LabelledBatch:
    """All 2,000 test images, normalized, with their labels."""
    with np.load(shared_data("datasets/cifar10-test-2000.npz")) as archive:
        pixels = torch.from_numpy(archive["images"]).permute(0, 3, 1, 2).float() / 255
        labels = torch.from_numpy(archive["labels"])
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1), labels


def resnet20() -> Triple:
    """Two batches of 32 images."""
    weights = shared_data("weights/cifar-resnet20-12fca82f.th")
    state = torch.load(weights, weights_only=True, map_location="cpu")["state_dict"]
    state = {key.removeprefix("module."): value for key, value in state.items()}
    with seeded(0):
        model = ResNet20()
    fresh = model.state_dict()  # the file is older than batch norm's counter of batches (torch 0.4.1)
    model.load_state_dict(state | {key: fresh[key] for key in fresh if key.endswith("num_batches_tracked")})
    pixels, labels = images()
    batches = [(pixels[first : first + 32], labels[first : first + 32]) for first in (0, 32)]
    return model.eval(), classification, batches

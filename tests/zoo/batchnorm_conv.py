"""Convolutions with batch norm and dropout: train mode makes it random and changes its buffers."""

from torch import nn

from zoo.case import Triple, classification, seeded, settle
from zoo.data import digits_batches


def batchnorm_conv() -> Triple:
    batches = digits_batches()
    with seeded(2):
        model = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(24, 10),
        )
        return settle(model, classification, batches), classification, batches

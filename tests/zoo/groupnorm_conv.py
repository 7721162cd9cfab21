"""Convolutions with GroupNorm and Mish."""

from torch import nn

from zoo.case import Triple, classification, seeded, settle
from zoo.data import digits_batches


def groupnorm_conv() -> Triple:
    batches = digits_batches()
    with seeded(4):
        model = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.GroupNorm(2, 4),
            nn.Mish(),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.GroupNorm(3, 6),
            nn.Mish(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 10),
        )
        return settle(model, classification, batches), classification, batches

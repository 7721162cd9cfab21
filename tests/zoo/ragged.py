"""Batches of 32, 20 and 5 samples, sorted by class: averaging them without their sizes moves the Hessian."""

from torch import nn

from zoo.case import Triple, classification, seeded, settle
from zoo.data import digits_batches


def ragged() -> Triple:
    batches = digits_batches((32, 20, 5), sort=True)
    with seeded(10):
        model = nn.Sequential(nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10))
        return settle(model, classification, batches), classification, batches

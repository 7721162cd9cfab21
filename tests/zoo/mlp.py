"""A multilayer perceptron on the digits, smooth (tanh) and not (ReLU): the plainest classifier there is."""

from torch import nn

from zoo.case import Triple, classification, seeded, settle
from zoo.data import digits_batches


def _mlp(activation: type[nn.Module]) -> Triple:
    batches = digits_batches()
    with seeded(0):
        model = nn.Sequential(nn.Linear(64, 16), activation(), nn.Linear(16, 10))
        return settle(model, classification, batches), classification, batches


def mlp_tanh() -> Triple:
    return _mlp(nn.Tanh)


def mlp_relu() -> Triple:
    return _mlp(nn.ReLU)

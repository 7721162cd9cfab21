"""Small real networks on scikit-learn's digits."""

import pytest
import torch
from torch import nn

from eigenscope.actions import Situation
from eigenscope.scenarios import cross_entropy, digits, network


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def data():
    inputs, labels = digits()
    return inputs[:512], labels[:512]


@pytest.fixture
def model() -> nn.Module:
    return network(2)


@pytest.fixture
def small():
    """72 parameters in fp64, small enough for a dense Hessian, on 100 digits averaged to 2 × 2 pixels."""
    inputs, labels = digits()
    pooled = nn.functional.avg_pool2d(inputs[:100].view(-1, 1, 8, 8), 4).flatten(1).double()
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 10)).double()
    return model, (pooled, labels[:100])


@pytest.fixture
def situation(model, data):
    def make(optimizer=None, **more) -> Situation:
        optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return Situation(model, optimizer, cross_entropy, data, **more)

    return make

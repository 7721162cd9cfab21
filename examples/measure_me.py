"""A model to measure once: `eigenscope measure examples/measure_me.py:factory`.

The function is called without arguments and returns what `es.curvature` takes: the model, its loss, the data.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn


def loss_fn(model, batch):
    """The mean loss of one batch, a scalar tensor."""
    images, labels = batch
    return nn.functional.cross_entropy(model(images), labels)


def factory():
    """A small network after 200 steps of Adam on scikit-learn's digits, and 512 of them to look at it through."""
    images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
    images = (images / 16).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for chosen in torch.randint(len(labels), (200, 64)):
        loss = loss_fn(model, (images[chosen], labels[chosen]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batches = list(zip(images[:512].split(128), labels[:512].split(128), strict=True))
    return model, loss_fn, batches

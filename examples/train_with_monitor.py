"""A plain training loop with the monitor attached. Watch it with `eigenscope dashboard runs`.

python examples/train_with_monitor.py --steps 5000
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import eigenscope as es


def loss_fn(model, batch):
    """The mean loss of one batch, a scalar tensor."""
    images, labels = batch
    return nn.functional.cross_entropy(model(images), labels)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=5000)
    options.add_argument("--run", default="runs/digits")
    given = options.parse_args()

    images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
    images = (images / 16).float().view(-1, 1, 8, 8)
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten()),
        *(nn.Dropout(0.2), nn.Linear(512, 10)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, given.steps, eta_min=1e-3)

    # Fixed data to look at the loss through: here a part of the training set, in batches, for a sampling error.
    probe = list(zip(images[:512].split(128), labels[:512].split(128), strict=True))
    with es.Monitor(model, loss_fn, probe, optimizer=optimizer, run=given.run, budget=0.02) as monitor:
        for chosen in torch.randint(len(labels), (given.steps, 64)):
            loss = loss_fn(model, (images[chosen], labels[chosen]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            monitor.step(loss)  # measures when its budget allows; alerts go to the run and to Python's logging
        monitor.measure()  # once more at the end, due or not

    print(monitor.reading)
    print(f"{monitor.run_path}: measuring took {monitor.measuring_share:.1%} of the time")


if __name__ == "__main__":
    main()

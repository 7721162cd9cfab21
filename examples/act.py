"""Actions alone, without a monitor: a step size held under the edge of stability, and an action of one's own.

python examples/act.py --lr 10
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import eigenscope as es


@es.actions.register
class HalveTheStep(es.actions.Action):
    """Half the learning rate: an action in ten lines, which `es.Monitor(..., act="ask")` then knows by its name."""

    name, words = "halve_the_step", "HALVE THE STEP SIZE"
    rules = ("edge_of_stability", "adaptive_edge")
    criterion = "the stability ratio is under 1"

    def apply(self, now):
        for group in now.optimizer.param_groups:
            group["lr"] /= 2
        return {"lr": [group["lr"] for group in now.optimizer.param_groups]}

    def helped(self, before, after):
        ratio = after.number("stability_ratio")
        return None if ratio is None else ratio < 1


def loss_fn(model, batch):
    """The mean loss of one batch, a scalar tensor."""
    images, labels = batch
    return nn.functional.cross_entropy(model(images), labels)


def train(steps, lr, controlled):
    """The last loss over the probe."""
    images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
    images = (images / 16 - 0.3).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    probe = (images[:512], labels[:512])
    control = None
    if controlled:
        control = es.actions.ControlStep(target=0.9).bind(model, loss_fn, probe, optimizer)
    for chosen in torch.randint(len(labels), (steps, 64)):
        loss = loss_fn(model, (images[chosen], labels[chosen]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if control:
            control.step()
    if control:
        each = control.num_matvecs / control.num_measurements
        print(f"factor {control.factor:.2g}, {control.num_measurements} measurements of {each:.1f} products")
    with torch.no_grad():
        return float(loss_fn(model, probe))


def main():
    """Two runs from the same seed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--lr", type=float, default=10.0)
    given = options.parse_args()
    print(f"loss without control: {train(given.steps, given.lr, controlled=False):.3g}")
    print(f"loss with control: {train(given.steps, given.lr, controlled=True):.3g}")


if __name__ == "__main__":
    main()

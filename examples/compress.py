"""A network for digits in half its parameters, with its accuracy on held-out digits before and after.

python examples/compress.py --keep 0.5 --output small

or, from the weights that the script leaves behind:

eigenscope compress digits.safetensors --calibrate examples/compress.py:factory --keep 0.5 -o small --force
"""

import argparse

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

import eigenscope as es


def network():
    """Three dense layers, from 64 pixels to 10 digits."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 10))


def digits():
    """Pixels in [0, 1] and labels: 1,200 to train and calibrate with, 597 held out."""
    images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
    images = (images / 16).float()
    return (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


def loss_fn(model, batch):
    """The mean loss of one batch."""
    images, labels = batch
    return nn.functional.cross_entropy(model(images), labels)


def accuracy(model):
    """On the held-out digits."""
    _, (images, labels) = digits()
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


def factory():
    """What `--calibrate` takes: an untrained network to put the weights in, its loss, 256 training digits."""
    (images, labels), _ = digits()
    return network(), loss_fn, [(images[:128], labels[:128]), (images[128:256], labels[128:256])]


def trained():
    """300 steps of Adam."""
    model, (images, labels) = network(), digits()[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for chosen in torch.randint(len(labels), (300, 64)):
        loss = loss_fn(model, (images[chosen], labels[chosen]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--keep", type=float, default=0.5)
    options.add_argument("--output", default="small")
    given = options.parse_args()

    model = trained()
    save_file(model.state_dict(), "digits.safetensors")
    calibration = list(digits()[0][0][:256].split(128))  # images alone: nothing is trained

    small = es.compress(model, calibration, keep=given.keep, refit=True, evaluate=accuracy)
    report = small.report
    for layer in report.layers:
        print(f"{layer.name}: rank {layer.rank or 'full'} of {layer.rank_full}, output error {layer.output_error:.1%}")
    print(f"parameters {report.parameters:,} → {report.parameters_after:,}")
    print(f"accuracy {report.metric:.1%} → {report.metric_after:.1%}")

    small.save_pretrained(given.output, force=True)
    again = es.load_compressed(given.output, network())
    print(f"loaded again {accuracy(again):.1%}")


if __name__ == "__main__":
    main()

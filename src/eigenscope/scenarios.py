"""Six real training runs on scikit-learn's digits, each of which shows one condition of the loss or of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from eigenscope.errors import InputError

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Scenario:
    """A run ready to train: `data` is the training set, `batch_size` None means full-batch descent."""

    name: str
    shows: str
    model: nn.Module
    loss_fn: Callable[[Any, Batch], Tensor]
    optimizer: torch.optim.Optimizer
    data: Batch
    batch_size: int | None
    settings: dict[str, Any] = field(default_factory=dict)
    clip: float | None = None  # the largest norm of a gradient that is let through
    actions: tuple[str, ...] | None = None  # those that may answer its alerts; None: all

    @property
    def probe(self) -> list[Batch]:
        """The first 512 samples in four batches: fixed, and enough of them for a sampling error."""
        inputs, labels = (tensor[:512] for tensor in self.data)
        return list(zip(torch.split(inputs, 128), torch.split(labels, 128), strict=True))

    def batches(self, steps: int, seed: int) -> Iterator[Batch]:
        """The training batches of `steps` steps."""
        generator = torch.Generator().manual_seed(seed)
        inputs, labels = self.data
        for _ in range(steps):
            if self.batch_size is None:
                yield self.data
            else:
                chosen = torch.randint(len(labels), (self.batch_size,), generator=generator)
                yield inputs[chosen], labels[chosen]


def digits() -> Batch:
    """1,797 handwritten digits of 8 × 8 pixels, scaled to about −0.3 to 0.7."""
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError:
        raise InputError("the demo trains on scikit-learn's digits: pip install 'eigenscope[demo]'") from None
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16 - 0.3, dtype=torch.float32), torch.tensor(labels)


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """The mean negative log-likelihood of the labels."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def squared_error(model: nn.Module, batch: Batch) -> Tensor:
    """Brier's score: the squared distance to the one-hot label."""
    target = nn.functional.one_hot(batch[1], 10).to(torch.float32)
    loss: Tensor = (model(batch[0]) - target).square().sum(1).mean()
    return loss


def penalized(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy with an L2 penalty: with one layer strictly convex, so that κ is defined."""
    return cross_entropy(model, batch) + 4e-3 * sum((p.square().sum() for p in model.parameters()), torch.zeros(()))


def network(hidden: int) -> nn.Sequential:
    """64 → 32 → ... → 10 with tanh between."""
    widths = [64, *[32] * hidden]
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def healthy() -> Scenario:
    """Heavy ball on a tanh network, its step a few hundredths of what the curvature would allow."""
    model = network(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    shows = "a sound run: the step is well inside the stability edge, and the loss falls"
    return Scenario("healthy", shows, model, cross_entropy, optimizer, digits(), 64)


def canyon() -> Scenario:
    """Pixels scaled by factors from 0.25 to 63: the loss is stretched alike, and descent zig-zags."""
    inputs, labels = digits()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    scale = 4 * torch.logspace(-1.2, 1.2, 64)[order]
    model = nn.Sequential(nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0118)
    shows = "badly scaled inputs: κ is large, and descent zig-zags across the canyon"
    settings = {"max_matvecs": 160, "warm_matvecs": 90}  # λmin of a stretched spectrum takes more products
    return Scenario("canyon", shows, model, penalized, optimizer, (inputs * scale, labels), 64, settings)


def saddle() -> Scenario:
    """All weights 0, the last bias at the classes' frequencies: the gradient vanishes, and half the curvature is down.

    With both layers 0 neither gets a gradient, so descent stays; but moving them together lowers the loss.
    """
    model = network(1)
    data = digits()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        last = model[-1]
        assert isinstance(last, nn.Linear)
        last.bias.copy_((torch.bincount(data[1][:512], minlength=10) / 512).log())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    shows = "a start at a saddle: the gradient is zero, yet the loss could fall"
    # To start anew would help as well, and show nothing of saddles.
    return Scenario("saddle", shows, model, cross_entropy, optimizer, data, 64, actions=("escape_saddle",))


def edge() -> Scenario:
    """Full-batch descent with a step past 2/λmax: the loss jumps up and down while the curvature hovers at the edge."""
    model = network(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    shows = "a step size beyond the stability edge: the sharpest direction overshoots"
    return Scenario("edge", shows, model, squared_error, optimizer, digits(), None)


def exploding() -> Scenario:
    """Thirty tanh layers with weights three times too large: chaos, in which a gradient grows from layer to layer.

    Clipping keeps the run alive, as it would anyone's, and teaches it nothing.
    """
    model = deep(30, nn.Tanh, gain=3.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    shows = "a deep plain network with large weights: the gradient explodes on its way back, and nothing is learnt"
    return Scenario("exploding", shows, model, cross_entropy, optimizer, digits(), 64, clip=1.0)


def vanishing() -> Scenario:
    """Thirty sigmoid layers: each takes three quarters of the gradient or more, and the first get none."""
    model = deep(30, nn.Sigmoid, gain=1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    shows = "a deep plain network of sigmoids: the gradient vanishes on its way back, and the loss stands still"
    return Scenario("vanishing", shows, model, cross_entropy, optimizer, digits(), 64)


def deep(layers: int, activation: type[nn.Module], gain: float) -> nn.Sequential:
    """64 → 32 → ... → 10 without any shortcut, weights of variance gain²/inputs."""
    widths = [64, *[32] * layers]
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        layer = nn.Linear(before, after)
        nn.init.normal_(layer.weight, std=gain / before**0.5)
        nn.init.zeros_(layer.bias)
        parts += [layer, activation()]
    return nn.Sequential(*parts, nn.Linear(widths[-1], 10))


_MAKERS = (healthy, canyon, saddle, edge, exploding, vanishing)
SCENARIOS: dict[str, Callable[[], Scenario]] = {maker.__name__: maker for maker in _MAKERS}


def scenario(name: str, seed: int = 0) -> Scenario:
    """Build a scenario by name; the global random stream is left as it was."""
    if name not in SCENARIOS:
        raise InputError(f"there is no scenario {name!r}: there are {', '.join(SCENARIOS)}")
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return SCENARIOS[name]()

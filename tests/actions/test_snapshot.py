"""What is put back is what was there, to the bit."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from actions.training import flat, train
from eigenscope.actions import Snapshot
from eigenscope.scenarios import cross_entropy

MAKERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "heavy ball": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.01, amsgrad=True),
    "adamw, its rate a tensor": lambda ps: torch.optim.AdamW(ps, lr=torch.tensor(0.01)),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=0.01, momentum=0.5, centered=True),
    "lbfgs": lambda ps: torch.optim.LBFGS(ps, lr=0.1, max_iter=3),
    "adagrad": lambda ps: torch.optim.Adagrad(ps, lr=0.01),
}
SCHEDULERS = {
    "none": lambda optimizer: None,
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 50),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=50, cycle_momentum=False),
    "warm-up, then steps": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.LinearLR(optimizer), lr_scheduler.StepLR(optimizer, 3)], milestones=[4]
    ),
}


class Noisy(nn.Module):
    """Dropout and batch norm: its training depends on the random stream and on buffers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 10)
        )

    def forward(self, x):
        return self.layers(x)


def state(model, optimizer, scheduler):
    """Everything there is, as bytes that can be compared."""
    return copy.deepcopy((
        {k: v.numpy().tobytes() for k, v in model.state_dict().items()},
        [None if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()],
        [m.training for m in model.modules()],
        repr(optimizer.state_dict()),
        None if scheduler is None else repr({k: v for k, v in vars(scheduler).items() if k != "optimizer"}),
        torch.get_rng_state().numpy().tobytes(), random.getstate(), repr(np.random.get_state()),  # noqa: NPY002
    ))  # fmt: skip


def steps(model, optimizer, scheduler, data, number):
    for _ in range(number):

        def closure():
            optimizer.zero_grad()
            loss = cross_entropy(model, data)
            loss.backward()
            return loss

        optimizer.step(closure)
        if scheduler is not None:
            scheduler.step()
        random.random(), np.random.rand()  # noqa: NPY002


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimizer", MAKERS)
@pytest.mark.parametrize("before", [0, 3])
def test_restore_is_exact_and_training_goes_on_as_if_nothing_had_been(optimizer, scheduler, before, data):
    model = Noisy()
    optimizer = MAKERS[optimizer](model.parameters())
    scheduler = SCHEDULERS[scheduler](optimizer)
    torch.set_printoptions(precision=17)
    steps(model, optimizer, scheduler, data, before)
    snapshot, at = Snapshot.of(model, optimizer, scheduler), state(model, optimizer, scheduler)
    steps(model, optimizer, scheduler, data, 4)
    then = state(model, optimizer, scheduler)
    assert then != at
    model.eval()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    optimizer.param_groups[0]["lr"] = 7.0
    optimizer.param_groups[0]["extra"] = 1
    snapshot.restore()
    assert state(model, optimizer, scheduler) == at
    steps(model, optimizer, scheduler, data, 4)
    assert state(model, optimizer, scheduler) == then
    torch.set_printoptions(profile="default")


@pytest.mark.parametrize("kind", ["ScalableShampoo", "SOAP"])
def test_objects_in_an_optimizers_state_are_put_back_too(kind, model, data):
    """ScalableShampoo keeps its statistics in objects of its own."""
    library = pytest.importorskip("pytorch_optimizer")
    often = {"preconditioning_compute_steps": 1, "start_preconditioning_step": 2}
    often = often if kind == "ScalableShampoo" else {"precondition_frequency": 2}
    optimizer = getattr(library, kind)(model.parameters(), lr=1e-3, **often)
    train(model, optimizer, data, 5)
    snapshot = Snapshot.of(model, optimizer)
    train(model, optimizer, data, 6)
    then = flat(model)
    snapshot.restore()
    train(model, optimizer, data, 6)
    assert torch.equal(flat(model), then)


def test_what_a_scheduler_refers_to_is_left_alone(model):
    """It may be the whole program; its own counts are kept."""

    class Trainer:
        seen = 0

    optimizer, trainer = torch.optim.SGD(model.parameters(), lr=0.1), Trainer()
    scheduler = lr_scheduler.StepLR(optimizer, 2)
    scheduler.trainer = trainer
    snapshot = Snapshot.of(model, optimizer, scheduler)
    trainer.seen = 3
    optimizer.step()
    scheduler.step()
    snapshot.restore()
    assert (trainer.seen, scheduler.trainer, scheduler.last_epoch) == (3, trainer, 0)


class Cloned(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the numbers that are copied."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.clone.default:
            self.numbers += args[0].numel()
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("kind", "options", "times"), [
    ("SGD", {}, 2), ("SGD", {"momentum": 0.9}, 3), ("AdamW", {}, 4),
])  # fmt: skip
def test_each_tensor_is_copied_once(kind, options, times):
    model = nn.Linear(1000, 100, bias=False)
    optimizer = getattr(torch.optim, kind)(model.parameters(), **options)
    with Cloned() as cloned:
        Snapshot.of(model, optimizer)
    assert cloned.numbers == model.weight.numel(), "before the first step"
    model(torch.ones(1, 1000)).sum().backward()
    optimizer.step()
    with Cloned() as cloned:
        Snapshot.of(model, optimizer)
    assert cloned.numbers == pytest.approx(times * model.weight.numel(), abs=1), "a count of steps beside"


def test_what_refers_to_the_state_goes_on_referring_to_it(model, data):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    train(model, optimizer, data, 2)
    p = next(model.parameters())
    objects = (p, p.data_ptr(), p.grad, optimizer.param_groups, optimizer.param_groups[0], optimizer.state[p],
               optimizer.state[p]["exp_avg"])  # fmt: skip
    snapshot = Snapshot.of(model, optimizer)
    train(model, optimizer, data, 2)
    optimizer.param_groups = [dict(group) for group in optimizer.param_groups]
    snapshot.restore()
    now = (next(model.parameters()), p.data_ptr(), p.grad, optimizer.param_groups, optimizer.param_groups[0],
           optimizer.state[p], optimizer.state[p]["exp_avg"])  # fmt: skip
    assert all(a is b or a == b for a, b in zip(objects[:2], now[:2], strict=True))
    assert all(a is b for a, b in zip(objects[3:], now[3:], strict=True))
    assert objects[2] is now[2]


def test_a_parameter_that_was_swapped_is_put_back(model):
    weight = model[0].weight
    snapshot = Snapshot.of(model, None)
    model[0].weight = nn.Parameter(torch.zeros(3, 3))
    snapshot.restore()
    assert model[0].weight is weight


def test_settings_alone_go_back_without_the_training_since(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    snapshot = Snapshot.of(model, optimizer, scheduler)
    optimizer.param_groups[0].update(lr=0.01, momentum=0.5, added=3)
    snapshot.mark()
    train(model, optimizer, data, 2, scheduler=scheduler)
    weights = model[0].weight.clone()
    assert snapshot.restore_settings() == {"lr[0]": 0.025, "momentum[0]": 0.9, "added[0]": None}
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**2)
    assert "added" not in optimizer.param_groups[0]
    assert torch.equal(model[0].weight, weights)

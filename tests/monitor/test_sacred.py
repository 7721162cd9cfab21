"""Training with a monitor attached is training without one, to the bit; what fails in it never reaches the loop."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eigenscope as es
from zoo.data import digits_batches

Batch = tuple[Tensor, Tensor]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(),
        nn.Linear(144, 10),
    )  # fmt: skip


def transformer() -> nn.Module:
    """Eight rows of eight pixels as tokens, through fused attention with dropout."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    return nn.Sequential(nn.Unflatten(1, (8, 8)), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(64, 10))


UNREACHED: dict[str, dict[str, object]] = {
    **{name: {"warning": 1e300, "critical": 1e300} for name in ("edge_of_stability", "adaptive_edge")},
    **{name: {"warning": 1e300, "critical": 1e300} for name in ("ill_conditioned", "stretched")},
    **{name: {"warning": 1e300, "critical": 1e300} for name in ("signal_flow", "loss_rise")},
    "saddle": {"warning": 2, "critical": 2},
}


def train(build: Any, optimizer: Any, monitored: bool, run: Path | None = None, **options: Any) -> dict[str, Any]:
    """Thirty steps from one seed; everything that a monitor could disturb."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the stream that a user's augmentation draws from
    (inputs, labels) = digits_batches((512,))[0]
    model = build()
    descent = optimizer(model.parameters())
    monitor = None
    if monitored:
        probe = [(inputs[:64], labels[:64]), (inputs[64:100], labels[64:100])]
        monitor = es.Monitor(model, cross_entropy, probe, optimizer=descent, every=5, run=run, **options)
    losses = []
    for _ in range(30):
        chosen = torch.randint(512, (32,))
        loss = cross_entropy(model, (inputs[chosen], labels[chosen]))
        descent.zero_grad()
        loss.backward()
        descent.step()
        losses.append(loss.detach())
        if monitor is not None:
            monitor.step(loss)
    if monitor is not None:
        monitor.close()
        assert monitor.reading is not None
        assert monitor.reading.step == 30
    return {
        "state": model.state_dict(),
        "gradients": [p.grad for p in model.parameters()],
        "optimizer": descent.state_dict()["state"],
        "losses": losses,
        "modes": [module.training for module in model.modules()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("build", [convolutional, transformer])
@pytest.mark.parametrize(
    "optimizer",
    [lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), lambda p: torch.optim.AdamW(p, lr=1e-2)],
    ids=["heavy_ball", "adamw"],
)
def test_training_is_bit_identical(build: Any, optimizer: Any, tmp_path: Path) -> None:
    plain, watched = train(build, optimizer, False), train(build, optimizer, True, tmp_path / "run")
    for name in plain:
        assert same(plain[name], watched[name]), name


@pytest.mark.parametrize("build", [convolutional, transformer])
@pytest.mark.parametrize("act", ["ask", "auto"])
def test_a_policy_with_nothing_to_do_leaves_training_bit_identical(build: Any, act: str, tmp_path: Path) -> None:
    """All actions stand ready; none is triggered."""
    heavy_ball = lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)  # noqa: E731
    plain = train(build, heavy_ball, False)
    watched = train(build, heavy_ball, True, tmp_path / "run", act=act, rules=UNREACHED)
    for name in plain:
        assert same(plain[name], watched[name]), name
    assert es.load_run(tmp_path / "run").actions == []


@pytest.fixture
def loop() -> Any:
    """A small network, its optimizer and a step function."""
    torch.manual_seed(0)
    inputs, labels = digits_batches((128,))[0]
    model = nn.Sequential(nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> Tensor:
        loss = cross_entropy(model, (inputs, labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, (inputs, labels), step


def test_a_failing_check_becomes_an_alert_and_training_goes_on(loop: Any) -> None:
    model, optimizer, batch, step = loop
    broken = {"now": False}

    def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
        if broken["now"]:
            raise KeyError("the data moved")
        return cross_entropy(model, batch)

    monitor = es.Monitor(model, loss_fn, batch, optimizer=optimizer, every=1)
    assert monitor.step(step()) is not None
    broken["now"] = True
    assert monitor.step(step()) is None
    assert monitor.alerts.level("measurement_failed") == "warning"
    assert "the data moved" in monitor.history[-1].message
    broken["now"] = False
    assert monitor.step(step()) is not None
    assert monitor.alerts.level("measurement_failed") == "ok"


@pytest.mark.parametrize("place", ["folder", "under_a_file"])
def test_a_run_that_cannot_be_written_is_an_alert_and_a_count(loop: Any, tmp_path: Path, place: str) -> None:
    model, optimizer, batch, step = loop
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    path = {"folder": tmp_path / "folder", "under_a_file": tmp_path / "file" / "run"}[place]
    monitor = es.Monitor(model, cross_entropy, batch, optimizer=optimizer, every=1, run=path)
    reading = monitor.step(step())
    assert reading is not None
    assert reading.stability_ratio.value is not None
    assert monitor.run_path is None
    assert monitor.dropped > 0
    assert monitor.alerts.level("run_file") == "warning"


def test_a_loss_that_is_not_finite_is_a_critical_alert(loop: Any) -> None:
    model, _, batch, _ = loop
    monitor = es.Monitor(model, cross_entropy, batch, every=100)
    monitor.step(torch.tensor(float("nan")))
    assert monitor.alerts.level("diverged") == "critical"


def test_weights_that_become_nan_are_named_in_the_alert(loop: Any) -> None:
    model, _, batch, _ = loop
    monitor = es.Monitor(model, cross_entropy, batch, every=1)
    with torch.no_grad():
        model[2].weight[0, 0] = float("nan")
    monitor.step(1.0)
    assert "'2.weight' holds NaN" in monitor.history[-1].message


def test_the_monitor_is_a_context_and_closing_twice_does_nothing(loop: Any, tmp_path: Path) -> None:
    model, optimizer, batch, step = loop
    with es.Monitor(model, cross_entropy, batch, optimizer=optimizer, every=2, run=tmp_path / "run") as monitor:
        for _ in range(4):
            monitor.step(step())
    monitor.close()
    assert monitor.step(step()) is None
    run = es.load_run(monitor.run_path)
    assert run.status == "finished"
    assert run["loss"].steps.tolist() == [1, 2, 3, 4]
    assert run["lambda_max"].steps.tolist() == [2, 4]
    assert run["lambda_max"].errors[0] >= 0


def test_an_error_in_the_loop_marks_the_run_as_failed(loop: Any, tmp_path: Path) -> None:
    model, _, batch, _ = loop
    monitor = es.Monitor(model, cross_entropy, batch, every=2, run=tmp_path / "run")
    with pytest.raises(ZeroDivisionError), monitor:
        monitor.step(1 / 0)
    assert es.load_run(monitor.run_path).status == "failed"


def test_a_loop_that_is_interrupted_is_not_called_failed(loop: Any, tmp_path: Path) -> None:
    model, _, batch, _ = loop
    monitor = es.Monitor(model, cross_entropy, batch, every=2, run=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), monitor:
        raise KeyboardInterrupt
    assert es.load_run(monitor.run_path).status == "interrupted"


def test_measure_on_demand_needs_no_schedule(loop: Any) -> None:
    model, optimizer, batch, step = loop
    monitor = es.Monitor(model, cross_entropy, batch, optimizer=optimizer)
    reading = monitor.measure()
    assert reading is not None
    assert reading.kind == "cold"
    step()
    warm = monitor.measure(cold=False)
    assert warm is not None
    assert warm.kind == "warm"
    assert warm.spectrum_step == reading.step


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 0.0}, "budget=0.0: a share"),
        ({"budget": 2}, "budget=2: a share"),
        ({"budget": "2 %"}, "budget='2 %': a share"),
        ({"every": 0}, "every=0: a whole number of steps is needed, at least 1"),
        ({"every": 1.5}, "every=1.5: a whole number of steps"),
        ({"run": 3}, "run=3: a path is needed, such as 'runs/first'"),
        ({"optimzer": None}, "there is no setting 'optimzer': did you mean 'optimizer'"),
        ({"max_matvec": 9}, "there is no setting 'max_matvec': did you mean 'max_matvecs'"),
        ({"matrix": "fisher"}, "matrix='fisher' is not one of"),
        ({"colour": "red"}, "colour"),
        ({"rules": {"edge": {}}}, "there is no rule 'edge'"),
    ],
)
def test_bad_settings_are_told_before_training_starts(loop: Any, settings: dict[str, Any], message: str) -> None:
    model, _, batch, _ = loop
    with pytest.raises(es.InputError, match=message):
        es.Monitor(model, cross_entropy, batch, **settings)

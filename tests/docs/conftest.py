"""The pages for people, and a folder to try them in."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import eigenscope as es

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Path:
    """Two finished runs, `runs/first` and `runs/second`, as the pages speak of."""
    folder = tmp_path_factory.mktemp("recorded") / "runs"
    for name in ("first", "second"):
        torch.manual_seed(0)
        model = nn.Linear(6, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        data = [(torch.randn(32, 6), torch.randint(3, (32,))) for _ in range(2)]

        def loss_fn(model, batch):
            return nn.functional.cross_entropy(model(batch[0]), batch[1])

        with es.Monitor(model, loss_fn, data, optimizer=optimizer, run=folder / name, every=5) as monitor:
            for step in range(20):
                loss = loss_fn(model, data[step % 2])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.step(loss)
    return folder


@pytest.fixture
def workplace(recorded, tmp_path, monkeypatch) -> Path:
    """A working folder with `runs` and `examples` in it."""
    shutil.copytree(recorded, tmp_path / "runs")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path

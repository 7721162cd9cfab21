"""A measurement leaves no trace: the observer changes nothing, also when it fails."""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eigenscope as es
import zoo
from eigenscope.operators import HessianOperator, Probe
from eigenscope.operators.isolation import random_streams, underlying


def _state(model: nn.Module) -> dict[str, Any]:
    """Everything about a model and the process that a training run could notice."""
    return {
        "values": {k: v.tolist() for k, v in model.state_dict().items()},
        "identities": {k: id(v) for k, v in model.state_dict(keep_vars=True).items()},
        "versions": {k: v._version for k, v in model.state_dict(keep_vars=True).items()},
        "requires_grad": {k: p.requires_grad for k, p in model.named_parameters()},
        "grads": {k: None if p.grad is None else p.grad.tolist() for k, p in model.named_parameters()},
        "modes": {k: m.training for k, m in model.named_modules()},
        "hooks": {k: len(m._forward_hooks) + len(m._forward_pre_hooks) for k, m in model.named_modules()},
        "attributes": {k: sorted(vars(m)) for k, m in model.named_modules()},
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002 - the stream that users share
        "random": random.getstate(),
        "grad_mode": torch.is_grad_enabled(),
        "default_dtype": torch.get_default_dtype(),
        "mkldnn": torch.backends.mkldnn.enabled,
        "cudnn": torch.backends.cudnn.enabled,
        "flash": torch.backends.cuda.flash_sdp_enabled(),
    }


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    before = _state(model)
    yield
    for key, value in _state(model).items():
        assert value == before[key], key


def _mid_training(name: str) -> zoo.Triple:
    """As in the middle of a step: gradients there, modes set one by one, random streams somewhere."""
    model, loss_fn, batches = zoo.CASES[name].build()
    with zoo.seeded(1):
        loss_fn(model, batches[0]).backward()  # type: ignore[no-untyped-call]
    for index, module in enumerate(model.modules()):
        module.training = index % 2 == 0
    return model, loss_fn, batches


@pytest.mark.parametrize("train_mode", [False, True])
@pytest.mark.parametrize("name", zoo.SMALL)
def test_a_product_leaves_no_trace(name: str, train_mode: bool) -> None:
    model, loss_fn, batches = _mid_training(name)
    with _unchanged(model):
        operator = HessianOperator(Probe(model, loss_fn, batches, train_mode=train_mode))
        operator @ torch.ones(operator.shape[0])


@pytest.mark.parametrize("name", ["batchnorm_conv", "hf_gpt2", "lstm", "compiled_in_place"])
def test_a_whole_reading_leaves_no_trace(name: str) -> None:
    case = zoo.CASES[name]
    model, loss_fn, batches = _mid_training(name)
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    with _unchanged(model):
        es.curvature(model, loss_fn, batches, optimizer=optimizer, batch_weight=case.batch_weight)
    torch.testing.assert_close(optimizer.state_dict(), state, rtol=0, atol=0)


def test_a_loss_that_draws_writes_and_fails_leaves_no_trace() -> None:
    """It draws from three random streams, turns gradients and modes over, writes to a buffer, and then raises."""
    model, loss_fn, batches = _mid_training("batchnorm_conv")

    def vandal(net: nn.Module, batch: zoo.Batch) -> Tensor:
        loss_fn(net, batch)
        torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
        net.train()
        net[2].running_mean.add_(1)
        net[2].register_buffer("new", torch.zeros(1))
        raise ZeroDivisionError("in the loss")

    with _unchanged(model), pytest.raises(ZeroDivisionError, match="in the loss"):
        HessianOperator(Probe(model, vandal, batches))


def test_hooks_on_parameters_do_not_fire() -> None:
    """Neither a tensor's gradient hooks nor those that run after `.grad` is filled (fused optimizers hang there)."""
    model, loss_fn, batches = zoo.CASES["mlp_tanh"].build()
    fired: list[str] = []
    for name, parameter in model.named_parameters():
        parameter.register_hook(lambda _grad, name=name: fired.append(f"{name} gradient"))  # type: ignore[misc]
        parameter.register_post_accumulate_grad_hook(lambda _p, name=name: fired.append(f"{name} after"))  # type: ignore[misc]
    es.curvature(model, loss_fn, batches)
    assert fired == []


def test_frozen_parameters_stay_frozen_and_are_not_looked_at() -> None:
    model, loss_fn, batches = zoo.CASES["partial_parameters"].build()
    probe = Probe(model, loss_fn, batches)
    assert not any(name.startswith("frozen") for name in probe.parameters.names)
    with _unchanged(model):
        HessianOperator(probe)
    assert not model.frozen.weight.requires_grad


def test_a_tied_weight_stays_tied() -> None:
    model, loss_fn, batches = zoo.CASES["causal_transformer"].build()
    es.curvature(model, loss_fn, batches, max_matvecs=10)
    assert model.head.weight is model.embedding.weight


def test_a_train_method_of_the_user_s_own_is_not_called_to_restore_modes() -> None:
    """Many freeze batch norm by overriding `train`; restoring through it would not give back what was."""

    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> "Frozen":
            super().train(mode)
            self[0].eval()
            return self

    model = Frozen(nn.BatchNorm1d(3), nn.Linear(3, 2))
    model[0].training = True
    with _unchanged(model):
        HessianOperator(Probe(model, lambda m, b: m(b).pow(2).mean(), torch.eye(3)))


def test_a_shuffling_loader_as_the_probe_does_not_draw_from_the_run_s_stream() -> None:
    data = torch.utils.data.TensorDataset(torch.arange(12.0)[:, None], torch.arange(12.0))
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    model = nn.Linear(1, 1)
    with _unchanged(model):
        probe = Probe(model, lambda m, b: m(b[0]).pow(2).mean(), loader)
    assert len(probe.batches) == 3
    assert probe.samples == 12


def test_random_streams_go_on_as_if_nothing_had_been_drawn() -> None:
    def draws() -> tuple[float, float, float]:
        return float(torch.rand(1)), np.random.rand(), random.random()  # noqa: NPY002

    torch.manual_seed(1), np.random.seed(1), random.seed(1)  # noqa: NPY002
    expected = [draws(), draws()]
    torch.manual_seed(1), np.random.seed(1), random.seed(1)  # noqa: NPY002
    first = draws()
    with random_streams(), suppress(ValueError):
        draws()
        raise ValueError
    assert [first, draws()] == expected


def test_the_model_under_all_wrappers_is_found() -> None:
    inner = nn.Linear(2, 2)
    compiled = torch.compile(inner, backend="aot_eager")
    assert underlying(nn.DataParallel(compiled)) is inner
    assert underlying(inner) is inner


def test_what_a_forward_pass_sets_on_its_modules_is_put_back() -> None:
    """A counter, a cached activation, an attribute that was not there before."""

    class Remembering(nn.Linear):
        calls = 0
        last: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.last = super().forward(x)
            self.extra = self.last.mean()
            return self.last

    model = Remembering(3, 2)
    model(torch.ones(1, 3))
    last = model.last
    del model.extra
    with _unchanged(model):
        HessianOperator(Probe(model, lambda m, b: m(b).pow(2).mean(), torch.eye(3)))
    assert model.calls == 1
    assert model.last is last

"""The observer changes nothing: not a bit of the model, its gradients, its hooks, its modes, or any random stream."""

import random

import numpy as np
import pytest
import torch
from torch import nn

import eigenscope as es
from eigenscope.errors import InputError
from flow.networks import deep, inputs, wave
from zoo import CASES, SMALL, seeded


def state(model):
    """All that a measurement could change."""
    hooks = [
        (dict(m._forward_hooks), dict(m._forward_pre_hooks), dict(m._backward_hooks), m.training, set(vars(m)))
        for m in model.modules()
    ]
    tensors = {
        **{f"parameter {n}": p.detach().clone() for n, p in model.named_parameters()},
        **{f"gradient {n}": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None},
        **{f"buffer {n}": b.clone() for n, b in model.named_buffers()},
        "stream": torch.get_rng_state(),
    }
    identity = [id(t) for t in (*model.parameters(), *model.buffers())]
    return hooks, tensors, identity, random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


def assert_unchanged(before, after):
    (hooks, tensors, identity, python, numpy), (hooks2, tensors2, identity2, python2, numpy2) = before, after
    assert hooks == hooks2
    assert tensors.keys() == tensors2.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, tensors2[name]), name
    assert (identity, python, numpy) == (identity2, python2, numpy2)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_a_model_of_the_zoo_is_left_as_it_was(name, train):
    model, loss_fn, batches = CASES[name].build()
    model.train(train)
    loss_fn(model, batches[0]).backward()
    before = state(model)
    es.signal_flow(model, loss_fn, batches[:1], train_mode=train)
    assert_unchanged(before, state(model))


def badly_scaled(activation=nn.Tanh):
    with seeded(0):
        model = deep(12, activation, 1.0, width=8)
    model.insert(1, nn.BatchNorm1d(8))
    return model.train()


@pytest.mark.parametrize("train_mode", [False, True])
def test_trying_remedies_leaves_no_trace_either(train_mode):
    model = badly_scaled(nn.Sigmoid)
    wave(model, inputs(6, 8)).backward()
    before = state(model)
    found = es.signal_flow(model, wave, inputs(6, 8), try_remedies=True, train_mode=train_mode)
    assert [remedy.tried.reason for remedy in found.remedies].count(None) >= 2
    assert_unchanged(before, state(model))


@pytest.mark.parametrize("calls", [1, 3])
def test_an_exception_in_the_middle_leaves_no_trace(calls):
    model = badly_scaled()
    count = []

    class Bomb(nn.Module):
        def forward(self, x):
            count.append(1)
            if len(count) >= calls:
                raise RuntimeError("boom")
            return x

    model.append(Bomb())
    before = state(model)
    with pytest.raises((InputError, RuntimeError), match="boom"):
        es.signal_flow(model, wave, [inputs(6, 8)] * 3)
    assert_unchanged(before, state(model))


def test_a_training_step_with_a_measurement_in_it_is_the_same_step():
    def trained(measure):
        torch.manual_seed(0)
        model, x = badly_scaled(nn.Sigmoid), inputs(6, 8)
        model.insert(1, nn.Dropout(0.2))
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            loss = wave(model, x)
            if measure:
                assert es.signal_flow(model, wave, x, try_remedies=True).remedies
            loss.backward()
            if measure:
                es.signal_flow(model, wave, x)
            optimizer.step()
        return state(model)

    with torch.random.fork_rng([]):
        without, with_one = trained(False), trained(True)
    for name, tensor in without[1].items():
        assert torch.equal(tensor, with_one[1][name]), name

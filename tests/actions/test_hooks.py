"""Hooks never stop an optimizer's step, and work on gradients once they are there."""

import logging

import pytest
import torch

import eigenscope as es
from actions.training import WithEmbedding, closure_of, flat, tokens, train
from eigenscope.actions import Action, ClipGradients
from eigenscope.actions.hooks import Hooks
from eigenscope.scenarios import cross_entropy, network


@pytest.fixture
def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def fails(*_):
    raise RuntimeError("out of luck")


@pytest.mark.parametrize("when", ["before", "after", "gradient"])
@pytest.mark.parametrize("closure", [False, True])
def test_a_hook_that_raises_is_told_once_and_the_steps_go_on_as_plain_ones(
    when, closure, model, optimizer, data, caplog
):
    twin = network(2)
    twin.load_state_dict(model.state_dict())
    told, seen = [], []
    hooks = Hooks(told.append)
    hooks.add(optimizer, **{when: fails})
    optimizer.register_step_pre_hook(lambda *_: seen.append(1))
    with caplog.at_level(logging.WARNING, "eigenscope"):
        for _ in range(3):
            optimizer.step(closure_of(model, optimizer, data)) if closure else train(model, optimizer, data)
    train(twin, torch.optim.SGD(twin.parameters(), lr=0.1), data, 3)
    assert told == ["RuntimeError('out of luck')"]
    assert [r.getMessage() for r in caplog.records] == [f"a hook on the optimizer is switched off: {told[0]}"]
    assert len(seen) == 3
    assert not hooks.on
    assert torch.equal(flat(model), flat(twin))


def test_an_error_of_ours_is_told_in_its_own_words(model, optimizer, data):
    told = []

    def ours(*_):
        raise es.InputError("there is no way")

    Hooks(told.append).add(optimizer, before=ours)
    train(model, optimizer, data)
    assert told == ["there is no way"]


def test_one_that_raises_ends_the_others_and_none_stays_behind(model, optimizer, data):
    hooks, seen = Hooks(), []
    hooks.add(optimizer, before=fails, gradient=seen.append, after=lambda *_: seen.append(1))
    train(model, optimizer, data)
    assert not seen
    hooks.add(optimizer, gradient=seen.append)
    assert len(optimizer._optimizer_step_pre_hooks) == 1
    assert not optimizer._optimizer_step_post_hooks
    train(model, optimizer, data)
    assert seen == [optimizer]
    hooks.remove()
    assert not optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("keyword", [False, True])
def test_gradients_are_those_that_the_closure_computes(keyword, model, optimizer, data):
    hooks, seen = Hooks(), []
    hooks.add(optimizer, gradient=lambda o: seen.append(model[0].weight.grad.clone()))
    model[0].weight.grad = torch.full_like(model[0].weight, 7.0)  # stale
    closure = closure_of(model, optimizer, data)
    loss = optimizer.step(closure=closure) if keyword else optimizer.step(closure)
    assert torch.equal(seen[0], model[0].weight.grad)
    assert loss.requires_grad  # the closure's own


def test_an_optimizer_that_evaluates_its_closure_several_times_is_told(model, data):
    optimizer, told, seen = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4), [], []
    Hooks(told.append).add(optimizer, gradient=seen.append)
    twin = network(2)
    twin.load_state_dict(model.state_dict())
    other = torch.optim.LBFGS(twin.parameters(), lr=0.1, max_iter=4)
    for _ in range(2):
        optimizer.step(closure_of(model, optimizer, data))
        other.step(closure_of(twin, other, data))
    assert told == ["LBFGS evaluates its closure several times in one step"]
    assert len(seen) == 1
    assert torch.equal(flat(model), flat(twin))


def test_what_the_closure_raises_is_the_loops_own(optimizer):
    told = []
    Hooks(told.append).add(optimizer, gradient=lambda _: None)
    with pytest.raises(RuntimeError, match="out of luck"):
        optimizer.step(fails)
    assert not told


class Watching(Action):
    """An action of the user's own whose hook fails in the fifth step."""

    name, rules, words, criterion, checks = "watching", ("edge_of_stability",), "WATCH", "none", 5

    def apply(self, now):
        self.hooks, self.seen = Hooks(lambda problem: setattr(self, "problem", problem)), []
        self.hooks.add(now.optimizer, gradient=self.watch)
        return {}

    def undo(self, now):
        self.hooks.remove()

    def watch(self, _):
        self.seen.append(1)
        if len(self.seen) == 5:
            raise RuntimeError("out of luck")


class Clip(ClipGradients):
    rules = ("edge_of_stability",)


def monitored(model, batch, action, steps=12):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rules = {"edge_of_stability": {"warning": 1e-9, "critical": 1e9}}
    with es.Monitor(model, cross_entropy, [batch], optimizer=optimizer, every=2, rules=rules, flow=False,
                    lipschitz=False, act="auto", actions=[action]) as monitor:  # fmt: skip
        for _ in range(steps):
            monitor.step(train(model, optimizer, batch)[0])
    return monitor, optimizer


def test_in_a_monitored_run_a_hook_that_fails_is_on_record_and_training_goes_on(model, data):
    monitor, optimizer = monitored(model, data, Watching())
    record = monitor.actions[0]
    assert (record.state, monitor.step_count) == ("failed", 12)
    assert record.note.startswith("RuntimeError('out of luck')")
    assert not optimizer._optimizer_step_pre_hooks


def test_a_monitored_run_with_sparse_gradients_is_clipped_and_goes_on():
    action = Clip(max_norm=1.0)
    monitor, _ = monitored(WithEmbedding(sparse=True), tokens(), action)
    assert monitor.step_count == 12
    assert action.problem is None
    assert isinstance(monitor.actions[0].changed, dict)

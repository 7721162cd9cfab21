"""Another optimizer in mid-run: groups, decay and schedule carried over, and back."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import eigenscope as es
from actions.training import flat, train
from eigenscope.actions import Evidence, Situation, Snapshot, SwitchOptimizer
from eigenscope.scenarios import cross_entropy, network


def groups_of(model):
    return [
        {"params": [m.weight for m in model if isinstance(m, nn.Linear)], "lr": 0.4, "weight_decay": 0.01, "name": "w"},
        {"params": [m.bias for m in model if isinstance(m, nn.Linear)], "name": "b"},
    ]


@pytest.fixture
def sgd(model):
    return torch.optim.SGD(groups_of(model), lr=0.1, momentum=0.5)


SCHEDULERS = {
    "cosine": lambda o, scale: lr_scheduler.CosineAnnealingLR(o, 30, eta_min=0.01 * scale),
    "steps": lambda o, scale: lr_scheduler.StepLR(o, 4, 0.5),
    "lambda": lambda o, scale: lr_scheduler.LambdaLR(o, [lambda t: 1 / (1 + t), lambda t: 1.0]),
    "one cycle": lambda o, scale: lr_scheduler.OneCycleLR(o, [4 * scale, scale], total_steps=40, cycle_momentum=False),
    "cyclic": lambda o, scale: lr_scheduler.CyclicLR(o, 0.1 * scale, scale, step_size_up=7, cycle_momentum=False),
    "plateau": lambda o, scale: lr_scheduler.ReduceLROnPlateau(o, patience=1, min_lr=1e-3 * scale),
    "chained": lambda o, scale: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "sequence": lambda o, scale: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.CosineAnnealingLR(o, 20)], milestones=[5]
    ),
}


def step_of(scheduler):
    scheduler.step(1.0) if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else scheduler.step()


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("at", [0, 6])
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_the_schedule_goes_on_as_if_it_had_been_the_new_optimizers_all_along(kind, at, data):
    """The base rate becomes `lr`, every other rate in proportion, at any step of any schedule."""
    model = network(2)
    old = torch.optim.SGD(groups_of(model), lr=0.1)
    twin = torch.optim.SGD(groups_of(copy.deepcopy(model)), lr=0.1)
    scheduler, reference = SCHEDULERS[kind](old, 1.0), SCHEDULERS[kind](twin, 1.0)
    for _ in range(at):
        train(model, old, data)
        twin.step()
        step_of(scheduler)
        step_of(reference)
    first = old.param_groups[0].get("initial_lr", old.param_groups[0]["lr"])
    new = SwitchOptimizer("adamw", lr=0.02).switch(old, scheduler)
    for _ in range(12):
        assert [g["lr"] for g in new.param_groups] == pytest.approx([g["lr"] * 0.02 / first for g in twin.param_groups])
        train(model, new, data)
        twin.step()
        step_of(scheduler)
        step_of(reference)


def test_groups_stay_apart_with_their_names_and_the_weights_shrink_as_before(sgd, model):
    new = SwitchOptimizer("adamw", lr=1e-3).switch(sgd)
    assert isinstance(new, torch.optim.AdamW)
    assert [g["name"] for g in new.param_groups] == ["w", "b"]
    assert [g["lr"] for g in new.param_groups] == pytest.approx([1e-3, 2.5e-4])
    assert [id(p) for g in new.param_groups for p in g["params"]] == [
        id(p) for g in groups_of(model) for p in g["params"]
    ]
    # heavy ball with β = 0.5 shrinks by lr · decay / (1 − β) a step
    assert 1e-3 * new.param_groups[0]["weight_decay"] == pytest.approx(0.4 * 0.01 / 0.5)
    assert new.param_groups[1]["weight_decay"] == 0.0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_without_a_rate_the_steps_stay_as_long_as_they_were(momentum, data):
    model = network(2)
    old = torch.optim.SGD(model.parameters(), lr=0.2, momentum=momentum)
    scheduler = lr_scheduler.ExponentialLR(old, 0.5)
    train(model, old, data, 3, scheduler=scheduler)
    before = flat(model)
    train(model, old, data)
    length = float((flat(model) - before).square().mean().sqrt())
    new = SwitchOptimizer("adamw").switch(old, scheduler)
    assert new.param_groups[0]["lr"] == pytest.approx(length, rel=1e-3)
    assert new.param_groups[0]["initial_lr"] == pytest.approx(length * 8, rel=1e-3)


def test_without_a_rate_and_without_a_known_step_it_is_adamws_own(model):
    old = torch.optim.SGD(model.parameters(), lr=0.2)
    assert SwitchOptimizer("adamw").switch(old).param_groups[0]["lr"] == pytest.approx(1e-3)


PRECONDITIONED = ("Adam", "NAdam", "RAdam", "Adagrad", "RMSprop", "Adamax", "Adafactor", "Muon", "LBFGS")


@pytest.mark.parametrize("kind", PRECONDITIONED)
def test_from_any_other_method_it_switches_at_a_given_rate_only(kind, situation, model):
    weights = [m.weight for m in model if isinstance(m, nn.Linear)]
    old = getattr(torch.optim, kind)(weights, lr=1e-5)
    now = situation(old, replace_optimizer=lambda _: None)
    assert f"{kind} is a preconditioned method already" in SwitchOptimizer().can_apply(now)
    with pytest.raises(es.InputError, match="pass lr="):
        SwitchOptimizer().switch(old)
    assert SwitchOptimizer(lr=2e-3).can_apply(now) is None
    assert SwitchOptimizer(lr=2e-3).switch(old).param_groups[0]["lr"] == pytest.approx(2e-3)


def test_an_unknown_method_is_not_called_preconditioned(situation, model):
    now = situation(torch.optim.ASGD(model.parameters()), replace_optimizer=lambda _: None)
    assert "how long the steps of ASGD are is not known: pass lr=" in SwitchOptimizer().can_apply(now)


@pytest.mark.parametrize("lost", ["initial_lr", "wrapper"])
@pytest.mark.parametrize("kind", [k for k in SCHEDULERS if k != "plateau"])
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_a_scheduler_that_is_not_handed_over_is_asked_for(kind, lost, situation, sgd, data):
    scheduler = SCHEDULERS[kind](sgd, 1.0)
    if lost == "initial_lr":
        for group in sgd.param_groups:
            group.pop("initial_lr")
    else:
        del sgd.step
    now = situation(sgd, replace_optimizer=lambda _: None)
    assert SwitchOptimizer().can_apply(now) == "a scheduler drives this optimizer: pass scheduler="
    with pytest.raises(es.InputError, match="pass scheduler="):
        SwitchOptimizer(lr=0.01).switch(sgd)
    now.scheduler = scheduler
    assert SwitchOptimizer().can_apply(now) is None


def test_without_a_scheduler_the_new_groups_look_as_if_none_drove_them(sgd, situation):
    new = SwitchOptimizer("adamw", lr=0.01).switch(sgd)
    assert SwitchOptimizer(lr=0.01).can_apply(situation(new, replace_optimizer=lambda _: None)) is None


def test_the_loops_own_variable_takes_the_new_ones_steps(sgd, data):
    model = network(2)
    old = torch.optim.SGD(model.parameters(), lr=0.1)
    twin = copy.deepcopy(model)
    new = SwitchOptimizer("adamw", lr=0.01).switch(old)
    train(model, old, data, 5)  # the loop knows nothing
    train(twin, torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.0), data, 5)
    assert torch.equal(flat(model), flat(twin))
    assert old.state_dict()["state"].keys() == new.state_dict()["state"].keys()
    assert old.param_groups is new.param_groups


def test_a_scheduler_made_on_the_old_object_drives_the_new_ones_steps(model, data):
    old = torch.optim.SGD(model.parameters(), lr=0.1)
    new = SwitchOptimizer("adamw", lr=0.01).switch(old)
    scheduler = lr_scheduler.StepLR(old, 2, 0.5)
    train(model, old, data, 4, scheduler=scheduler)
    assert new.param_groups[0]["lr"] == 0.01 * 0.5**2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda old: pickle.loads(pickle.dumps(old))])
def test_a_copy_of_the_old_object_is_one_of_the_new(copied, model, data):
    old = torch.optim.SGD(model.parameters(), lr=0.1)
    new = SwitchOptimizer("adamw", lr=0.01).switch(old)
    train(model, old, data, 2)
    other = copied(old)
    assert type(other) is torch.optim.AdamW
    assert other.state_dict()["param_groups"] == new.state_dict()["param_groups"]
    assert other.param_groups is not new.param_groups


@pytest.mark.parametrize("to", ["adamw", "muon"])
def test_a_run_is_resumed_by_switching_first_and_loading_then(to, data):
    def begun():
        model = network(2)
        old = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return model, old, lr_scheduler.CosineAnnealingLR(old, 30)

    model, old, scheduler = begun()
    train(model, old, data, 3, scheduler=scheduler)
    SwitchOptimizer(to).switch(old, scheduler, model)
    train(model, old, data, 3, scheduler=scheduler)
    saved = copy.deepcopy((model.state_dict(), old.state_dict(), scheduler.state_dict()))
    train(model, old, data, 3, scheduler=scheduler)

    again, old, scheduler = begun()
    optimizer = SwitchOptimizer(to).switch(old, scheduler, again)
    for part, state in zip((again, optimizer, scheduler), saved, strict=True):
        part.load_state_dict(state)
    train(again, optimizer, data, 3, scheduler=scheduler)
    assert torch.equal(flat(again), flat(model))


def test_hooks_of_the_old_one_go_on(sgd, model, data):
    seen = []
    handle = sgd.register_step_post_hook(lambda *_: seen.append("after"))
    SwitchOptimizer().switch(sgd)
    train(model, sgd, data, 2)
    handle.remove()
    train(model, sgd, data, 1)
    assert seen == ["after"] * 2


@pytest.mark.parametrize("to", ["adamw", "muon"])
@pytest.mark.parametrize("kind", ["cosine", "one cycle", "sequence"])
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_undone_at_once_everything_is_as_it_was_to_the_bit(to, kind, data):
    def run(switched):
        torch.manual_seed(0)
        model = network(2)
        optimizer = torch.optim.SGD(groups_of(model), lr=0.1, momentum=0.9)
        scheduler = SCHEDULERS[kind](optimizer, 1.0)
        train(model, optimizer, data, 5, scheduler=scheduler)
        if switched:
            told = []
            now = Situation(model, optimizer, cross_entropy, data, scheduler=scheduler, replace_optimizer=told.append)
            snapshot, action = Snapshot.of(model, optimizer, scheduler), SwitchOptimizer(to)
            action.apply(now)
            train(model, optimizer, data, 2, scheduler=scheduler)
            action.undo(now)
            action.undo(now)
            snapshot.restore()
            assert [type(o).__name__ for o in told] == ["AdamW" if to == "adamw" else "MuonWithAdamW", "SGD"]
        train(model, optimizer, data, 5, scheduler=scheduler)
        return flat(model), [g["lr"] for g in optimizer.param_groups]

    plain, undone = run(False), run(True)
    assert torch.equal(plain[0], undone[0])
    assert plain[1] == undone[1]


@pytest.mark.parametrize("kind", ["cosine", "lambda", "chained"])
def test_undone_later_the_rates_are_those_of_the_schedule_now(kind, data):
    model = network(2)
    optimizer = torch.optim.SGD(groups_of(model), lr=0.1)
    twin = torch.optim.SGD(groups_of(copy.deepcopy(model)), lr=0.1)
    scheduler, reference = SCHEDULERS[kind](optimizer, 1.0), SCHEDULERS[kind](twin, 1.0)
    now = Situation(model, optimizer, cross_entropy, data, scheduler=scheduler)
    action, snapshot = SwitchOptimizer("muon"), Snapshot.of(model, optimizer, scheduler)
    action.apply(now)
    snapshot.mark()
    for step in range(12):
        if step == 6:
            action.undo(now)
            assert snapshot.restore_settings() == {}
        train(model, optimizer, data, scheduler=scheduler)
        twin.step()
        reference.step()
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([g["lr"] for g in twin.param_groups])
    assert scheduler.get_last_lr() == pytest.approx(reference.get_last_lr())


@pytest.mark.parametrize("to", ["soap", "shampoo"])
def test_a_library_may_bring_others(to, model, data):
    pytest.importorskip("pytorch_optimizer")
    old = torch.optim.SGD(model.parameters(), lr=0.1)
    new = SwitchOptimizer(to, lr=1e-2).switch(old)
    losses = train(model, old, data, 15)
    assert losses[-1] < losses[0]
    assert type(new).__module__.startswith("pytorch_optimizer")


def test_a_function_may_make_any_other(model, data):
    old = torch.optim.SGD(model.parameters(), lr=0.1)
    new = SwitchOptimizer(torch.optim.NAdam, lr=1e-2).switch(old)
    assert isinstance(new, torch.optim.NAdam)
    assert train(model, old, data, 10)[-1] < 2.3


def test_down_a_canyon_it_needs_a_fraction_of_the_steps(data):
    scale = torch.logspace(-1.0, 1.0, 64)
    stretched = (data[0] * scale, data[1])

    def steps(switched):
        torch.manual_seed(0)
        model = nn.Linear(64, 10)
        lam = es.sharpness(model, cross_entropy, stretched).lambda_max.value
        optimizer = torch.optim.SGD(model.parameters(), lr=1 / lam)
        if switched:
            SwitchOptimizer("adamw", lr=0.02).switch(optimizer)
        for step in range(800):
            if train(model, optimizer, stretched)[0] < 0.2:
                return step
        return 800

    assert 2 * steps(True) < steps(False)


def test_what_is_preconditioned_already_is_left(situation, model):
    assert "AdamW is a preconditioned method" in SwitchOptimizer().can_apply(
        situation(torch.optim.AdamW(model.parameters()))
    )
    assert "no optimizer" in SwitchOptimizer().can_apply(Situation(model, None, None, None))
    action = SwitchOptimizer()
    now = situation()
    assert "pass replace_optimizer=" in action.can_apply(now)
    now.replace_optimizer = lambda _: None
    assert action.can_apply(now) is None
    action.apply(now)
    assert "already" in action.can_apply(now)


@pytest.mark.parametrize(("given", "message"), [({"to": "adamv"}, "did you mean 'adamw'"), ({"lr": 0.0}, "lr=0")])
def test_bad_settings_are_told(given, message):
    with pytest.raises(es.InputError, match=message):
        SwitchOptimizer(**given)


def test_it_helped_if_the_loss_falls_faster():
    action = SwitchOptimizer()
    assert action.helped(Evidence(50, [1.0] * 50), Evidence(90, [0.5] * 40))
    assert not action.helped(Evidence(50, [1.0] * 50), Evidence(90, [1.5] * 40))
    assert action.helped(Evidence(0, [1.0]), Evidence(9)) is None

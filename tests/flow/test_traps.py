"""What real models do that breaks a naive measurement: each is measured like its plain twin, or told in one line."""

import copy
import functools

import pytest
import torch
from torch import nn

import eigenscope as es
from eigenscope.errors import InputError
from flow.networks import WIDTH, Breaks, Cut, Stack, inputs, not_reentrant, reentrant, wave
from zoo import seeded

X = inputs(3, WIDTH)


def numbers(found):
    return [
        (block.name, block.about, block.sigma_max.value, block.sigma_rms.value, block.growth, block.branch)
        for block in found.blocks
    ]


@functools.cache
def plain():
    return numbers(es.signal_flow(Stack(), wave, X))


@pytest.mark.parametrize("around", [reentrant, not_reentrant])
def test_checkpointed_blocks_are_measured_as_they_are_without(around):
    assert numbers(es.signal_flow(Stack(around), wave, X.clone())) == plain()


def test_checkpointing_works_again_afterwards():
    """Its function is put back: recomputing in the backward pass runs each block twice."""
    for around in (reentrant, not_reentrant):
        model, runs = Stack(around), []
        es.signal_flow(model, wave, X.clone())
        model.blocks[0].register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        wave(model, X.clone()).backward()
        assert len(runs) == 2


def test_checkpointing_works_again_after_a_failure():
    model = Stack(not_reentrant)
    with pytest.raises(InputError):
        es.signal_flow(model, lambda m, x: m(x) / 0, X)
    runs = []
    model.blocks[0].register_forward_pre_hook(lambda *_: runs.append(1))
    wave(model, X.clone()).backward()
    assert len(runs) == 2


@pytest.mark.parametrize("how", ["whole", "parts", "in place"])
def test_compiled_modules_are_measured_as_written(how):
    torch.compiler.reset()
    model = Stack()
    if how == "whole":
        model = torch.compile(model, backend="aot_eager")
    elif how == "parts":
        model.blocks = nn.ModuleList([torch.compile(block, backend="aot_eager") for block in model.blocks])
    else:
        for block in model.blocks:
            block.compile(backend="aot_eager")
    assert numbers(es.signal_flow(model, wave, X)) == plain()


def test_a_frozen_part_is_measured_like_any_other():
    model = Stack()
    model.blocks.requires_grad_(False)
    assert numbers(es.signal_flow(model, wave, X)) == plain()


def test_a_frozen_model_is_refused():
    with pytest.raises(InputError, match="Stack has no trainable parameter"):
        es.signal_flow(Stack().requires_grad_(False), wave, X)


@pytest.mark.parametrize(
    "context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_the_context_of_the_call_does_not_matter(context):
    model = Stack()
    with context():
        assert numbers(es.signal_flow(model, wave, X)) == plain()


def test_relu_in_place_is_measured_like_relu():
    def network(in_place):
        with seeded(0):
            return nn.Sequential(*[m for _ in range(4) for m in (nn.Linear(WIDTH, WIDTH), nn.ReLU(in_place))])

    first, second = (numbers(es.signal_flow(network(in_place), wave, X)) for in_place in (True, False))
    assert first == second


def test_a_batch_is_not_changed_by_a_model_that_changes_its_input():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            x += 1
            return self.layer(x)

    x = X.clone()
    assert es.signal_flow(InPlace(), wave, x).blocks[0].reason is None
    assert torch.equal(x, X)


def test_a_gradient_that_can_not_be_taken_is_one_line():
    class Overwrites(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            x = self.layer(x)
            x += x.exp().mul_(self.layer.weight.sum())
            y = x.exp()
            y += 1
            return y

    with pytest.raises(InputError, match="the loss can't be differentiated: one of the variables") as raised:
        es.signal_flow(Overwrites(), wave, X)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("how", ["no_grad", "detach"])
def test_a_flow_that_is_cut_says_where(how):
    found = es.signal_flow(Cut(how), wave, X)
    reasons = [block.reason for block in found.blocks]
    no_grad = "computed without gradients (no_grad or detach inside the model)"
    assert reasons == [None, no_grad if how == "no_grad" else None, None, None]
    reached = [block.growth is not None for block in found.blocks]
    assert reached == [False, False, True, True]
    cut = "layers.0" if how == "no_grad" else "layers.0, layers.1"
    assert found.notes == (f"no gradient of the loss reaches {cut}: detached, or not used",)


def test_dropout_is_off_and_in_train_mode_a_fixed_mask():
    with seeded(0):
        model = nn.Sequential(*[m for _ in range(4) for m in (nn.Linear(WIDTH, WIDTH), nn.Dropout(0.5))]).train()
    weights = [float(torch.linalg.svdvals(model[i].weight.detach())[0]) for i in (0, 2, 4, 6)]
    off = es.signal_flow(model, wave, X)
    assert [block.sigma_max.value for block in off.blocks] == pytest.approx(weights, rel=1e-2)
    on, again = (es.signal_flow(model, wave, X, train_mode=True) for _ in range(2))
    assert numbers(on) == numbers(again)
    assert [block.sigma_max.value for block in on.blocks] != pytest.approx(weights, rel=1e-2)


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        (True, r"layer 'log' \(Module\) gives NaN or infinity"),
        (False, r"NaN reaches layer 'layers\.2' from the code of 'Breaks'"),
    ],
)
def test_the_first_that_gives_nan_is_named(inside, words):
    with pytest.raises(InputError, match=words):
        es.signal_flow(Breaks(inside), wave, X)


def test_infinite_activations_name_the_layer():
    model = Stack()
    model.blocks[2].down.weight.data *= 1e38
    model.blocks[2].down.bias.data += 3e38
    with pytest.raises(InputError, match=r"layer 'blocks\.[23]\.?\w*' \(\w+\) gives NaN or infinity"):
        es.signal_flow(model, wave, X)


def test_infinity_that_stands_for_a_mask_is_no_fault():
    class Masks(nn.Module):
        def __init__(self):
            super().__init__()
            self.scores, self.mask, self.out = nn.Linear(WIDTH, WIDTH), nn.Module(), nn.Linear(WIDTH, 2)
            self.mask.forward = lambda x: x.masked_fill(torch.arange(WIDTH) > 3, float("-inf"))

        def forward(self, x):
            return self.out(self.mask(self.scores(x)).softmax(-1))

    found = es.signal_flow(Masks(), wave, X)
    assert [block.reason for block in found.blocks] == [None, None]


def test_nan_in_the_data_is_said_to_come_from_outside():
    x = X.clone()
    x[0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN reaches layer 'Stack' from outside"):
        es.signal_flow(Stack(), wave, x)


def test_attention_on_itself_is_differentiated_by_all_three_of_its_inputs():
    """The same tensor as query, key and value: one input, not three."""
    with seeded(0):
        attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True).double()
    x = inputs(2, 3, WIDTH).double()

    def loss(model, batch):
        return wave(lambda x: model(x, x, x)[0], batch)

    (block,) = es.signal_flow(attention, loss, x).blocks
    dense = torch.autograd.functional.jacobian(lambda x: attention(x, x, x, need_weights=False)[0], x)
    sigma = torch.linalg.svdvals(dense.reshape(48, 48))
    assert block.sigma_max.value == pytest.approx(float(sigma[0]), rel=1e-2)


def test_a_model_without_a_tensor_in_its_loss_is_told():
    with pytest.raises(InputError, match="loss_fn returned a float: it must return the mean loss as a tensor"):
        es.signal_flow(Stack(), lambda m, x: 0.5, X)


def test_a_block_that_can_not_be_measured_has_a_reason_and_the_others_numbers():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, x):
            return 2 * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(_ctx, gradient):
            return 2 * gradient

    class Custom(nn.Module):
        def forward(self, x):
            return Once.apply(x)

    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Sequential(Custom(), nn.Tanh()), nn.Linear(WIDTH, 2))
    found = es.signal_flow(model, wave, X, blocks=["0", "1.0", "2"])
    assert [block.reason is None for block in found.blocks] == [True, False, True]
    assert "its products can't be made: an operation in it can't be differentiated twice" in found.blocks[1].reason
    assert found.blocks[1].to_dict()["sigma_max"] == {"value": None, "reason": found.blocks[1].reason}


def test_a_product_that_did_not_settle_is_noted():
    with seeded(0):
        model = nn.Linear(200, 200)
    found = es.signal_flow(model, wave, inputs(1, 200), max_matvecs=3)
    assert found.notes == ("σ max is not settled after 3 products (max_matvecs) in Linear",)


def test_copies_of_a_model_give_the_same_numbers():
    model = Stack()
    assert numbers(es.signal_flow(copy.deepcopy(model), wave, X)) == plain()

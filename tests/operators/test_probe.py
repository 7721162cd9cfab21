"""What may be handed in: batches in the forms that people have them in, and one clear line for everything else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from eigenscope.errors import InputError
from eigenscope.operators import HessianOperator, Probe
from eigenscope.operators.probe import as_batches, batch_size

X, Y = torch.arange(12.0).view(4, 3), torch.tensor([0, 1, 0, 1])


def linear() -> nn.Module:
    with zoo.seeded(0):
        return nn.Linear(3, 2)


def squares(model: nn.Module, batch: Any) -> Tensor:
    return model(batch[0] if isinstance(batch, tuple | list) else batch).pow(2).mean()  # type: ignore[no-any-return]


# -- one batch or several --------------------------------------------------------------------------------------------


@dataclass
class Graphs:
    """A batch as graph libraries make them: tensors among the attributes."""

    name: str
    nodes: Tensor


LOADER = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=3)


@pytest.mark.parametrize(
    ("batches", "count"),
    [
        (X, 1),
        ((X, Y), 1),
        ([X, Y], 1),
        ({"x": X, "y": Y}, 1),
        ([(X, Y)], 1),
        ([X, X[:2]], 2),
        ([(X, Y), (X[:1], Y[:1])], 2),
        (((X, Y), (X, Y)), 2),
        ([[X, Y], [X, Y]], 2),
        ([{"x": X}, {"x": X}, {"x": X}], 3),
        ([Graphs("a", X)], 1),
        pytest.param(LOADER, 2, id="DataLoader"),
    ],
    ids=str,
)
def test_one_batch_and_a_sequence_of_batches_are_told_apart(batches: Any, count: int) -> None:
    assert len(as_batches(batches)) == count


@pytest.mark.parametrize(
    ("batch", "size"),
    [(X, 4), ((X, Y), 4), ({"y": Y[:2], "x": X}, 2), (["id", X], 4), (Graphs("a", X[:3]), 3), (torch.tensor(1.0), 1)],
    ids=str,
)
def test_a_batch_weighs_as_much_as_its_first_tensor_is_long(batch: Any, size: int) -> None:
    assert batch_size(batch) == size


def test_weights_are_shares_of_the_samples_or_of_what_the_user_counts() -> None:
    batches = [(X, Y), (X[:1], Y[:1])]
    assert Probe(linear(), squares, batches).weights == [0.8, 0.2]
    counted = Probe(linear(), squares, batches, batch_weight=lambda batch: float(batch[1].sum() + 1))
    assert counted.weights == [0.75, 0.25]
    assert counted.samples == 4


def test_a_batch_without_weight_is_left_out() -> None:
    """With every label masked its mean loss is 0/0."""
    labels = torch.tensor([[0, 1], [-100, -100]])
    batches = [(X[:2], row) for row in labels]

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    assert torch.isnan(loss_fn(linear(), batches[1]))
    probe = Probe(linear(), loss_fn, batches, batch_weight=lambda batch: float((batch[1] >= 0).sum()))
    assert probe.weights == [1.0]
    assert HessianOperator(probe).loss == pytest.approx(loss_fn(linear(), batches[0]).item())


# -- bad input ------------------------------------------------------------------------------------------------------


def _several_devices() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2, device="meta"))


def _with(value: float, *, frozen: bool = False) -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    with torch.no_grad():
        model[1].weight[1, 2] = value
    model[1].requires_grad_(not frozen)
    return model


def _of_inference() -> nn.Module:
    with torch.inference_mode():
        return nn.Linear(3, 2)


def _materialized_later() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), nn.LazyLinear(2))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: "resnet", r"^the model is a str: a torch\.nn\.Module is needed$"),
        (lambda: nn.ReLU(), r"^ReLU has no trainable parameter: none has requires_grad=True$"),
        (lambda: nn.Linear(3, 2).requires_grad_(False), "^Linear has no trainable parameter"),
        (lambda: _with(float("nan")), r"^parameter '1\.weight' holds NaN or infinity: the model has diverged"),
        (lambda: _with(-float("inf")), r"^parameter '1\.weight' holds NaN or infinity"),
        (lambda: _with(float("nan"), frozen=True), r"^parameter '1\.weight' holds NaN or infinity"),
        (_several_devices, r"^the parameters lie on several devices \('0\.bias' on cpu, '1\.bias' on meta\): move"),
        (lambda: nn.Linear(3, 2, device="meta"), "^parameter 'weight' is on the meta device and has no values"),
        (_of_inference, "^parameter 'weight' was made in inference mode: build the model outside of it$"),
        (lambda: nn.Linear(3, 2, dtype=torch.complex64), "^parameter 'weight' is complex: only real"),
        (_materialized_later, r"^parameter '1\.weight' has no shape yet: run the model once on a batch first$"),
    ],
)
def test_a_model_that_can_t_be_measured_is_told_in_one_line(model: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Probe(model(), squares, X)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "^the probe is empty: pass at least one batch$"),
        ((), "^the probe is empty"),
        (None, "^the probe is a NoneType: pass one batch or a list of batches"),
        (iter([X]), r"^the probe is a list_iterator: .* \(of a data loader, a fixed few:"),
        (3, "^the probe is a int: pass"),
        (["a", "b"], r"^no tensor was found in a batch \(str\): pass batch_weight="),
        ([{}], r"^no tensor was found in a batch \(dict\)"),
        (X[:0], r"^the batches' weights are \[0\.0\]: they must be finite, not negative, and not all zero$"),
    ],
)
def test_a_probe_that_can_t_be_used_is_told_in_one_line(batches: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Probe(linear(), squares, batches)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), 0.0])
def test_weights_that_are_none_are_refused(weight: float) -> None:
    with pytest.raises(InputError, match=f"the batches' weights are .{weight}.: they must be finite, not negative"):
        Probe(linear(), squares, X, batch_weight=lambda _: weight)


class Weird(nn.Module):
    """A loss of each kind that can't be used, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.0, 2.0]))


LOSSES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "float": (lambda w: 0.5, r"^loss_fn returned a float: it must return the mean loss as a tensor$"),
    "none": (lambda w: None, "^loss_fn returned a NoneType"),
    "tuple": (lambda w: (w.sum(), w), "^loss_fn returned a tuple"),
    "vector": (lambda w: w**2, r"^loss_fn returned shape \(2,\): it must return a scalar \(use \.mean\(\)\)$"),
    "nan": (lambda w: (w - 3).sqrt().sum(), "^the loss of probe batch 0 is nan: it must be finite$"),
    "infinite": (lambda w: (w.sum() * 100).exp(), "^the loss of probe batch 0 is inf: it must be finite$"),
    "no_gradient": (lambda w: w.detach().sum(), "^the loss does not depend on any trainable parameter: is it"),
    "of_something_else": (
        lambda w: torch.ones(1, requires_grad=True).sum(),
        "^the loss does not depend on any trainable parameter of the model$",
    ),
    "gradient_infinite": (
        lambda w: w.sqrt().sum(),
        "^the gradient of parameter 'w' is not finite, though the loss is$",
    ),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_that_can_t_be_used_is_told_in_one_line(kind: str) -> None:
    value, message = LOSSES[kind]
    with pytest.raises(InputError, match=message) as error:
        HessianOperator(Probe(Weird(), lambda model, _: value(model.w), X))
    assert "\n" not in str(error.value)


def test_a_loss_that_is_no_function_is_told() -> None:
    with pytest.raises(InputError, match=r"loss_fn is a float: a function loss_fn\(model, batch\) is needed"):
        Probe(linear(), 0.5, X)  # type: ignore[arg-type]


def test_a_loss_under_no_grad_of_its_own_is_told() -> None:
    with pytest.raises(InputError, match="is it computed under no_grad"):
        HessianOperator(Probe(linear(), torch.no_grad()(squares), X))


def test_an_error_within_the_loss_is_the_user_s_and_goes_through() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        HessianOperator(Probe(linear(), squares, X.T))


def test_a_loss_of_shape_1_is_a_scalar() -> None:
    assert HessianOperator(Probe(linear(), lambda m, b: squares(m, b)[None], X)).loss > 0

"""Products with a Jacobian, against the dense one of `torch.autograd.functional.jacobian`."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from comparer import assert_operator_is, relative
from eigenscope.errors import InputError
from eigenscope.operators.jacobian import GramOperator, Jacobian, Place
from zoo import seeded

FUNCTIONS = {
    "linear": (lambda: nn.Linear(5, 7), (3, 5)),
    "tanh": (lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4)), (3, 5)),
    "relu in place": (lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)), (3, 5)),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm(6), nn.SiLU(), nn.Linear(6, 6)), (2, 6)),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Mish()), (2, 2, 4, 4)),
    "strided": (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 2, 5, 5)),
    "max pool": (lambda: nn.MaxPool2d(2), (2, 1, 4, 4)),
    "batch statistics": (lambda: nn.BatchNorm1d(4).train(), (5, 4)),
    "attention": (lambda: nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), (2, 3, 4)),
    "softmax": (lambda: nn.Softmax(-1), (2, 4)),
    "step": (lambda: nn.Threshold(0.1, 0.0), (2, 4)),
}


@pytest.fixture(params=FUNCTIONS)
def case(request):
    """A function, a point, and the dense Jacobian there."""
    make, shape = FUNCTIONS[request.param]
    with seeded(3), sdpa_kernel(SDPBackend.MATH):
        f, x = make().double(), torch.randn(shape, dtype=torch.float64)
        dense = torch.autograd.functional.jacobian(f, x)
        yield f, x, dense.reshape(f(x).numel(), x.numel())


def jacobian(f, x):
    start = x.clone().requires_grad_()
    return Jacobian(Place.of(f(start.clone())), Place.of(start))


def test_products_are_those_of_the_dense_matrix(case):
    f, x, dense = case
    known = jacobian(f, x)
    assert known.shape == tuple(dense.shape)
    pushed = torch.stack([known.push(v) for v in torch.eye(x.numel(), dtype=torch.float64)], 1)
    pulled = torch.stack([known.pull(u) for u in torch.eye(len(dense), dtype=torch.float64)])
    assert relative(pushed - dense, dense) < 1e-12
    assert relative(pulled - dense, dense) < 1e-12
    assert known.num_matvecs == sum(dense.shape)
    assert not pushed.requires_grad
    assert not pulled.requires_grad


def test_the_gram_operator_is_the_dense_one(case):
    f, x, dense = case
    assert_operator_is(GramOperator(jacobian(f, x)), dense.T @ dense, rtol=1e-12)


def test_without_its_identity(case):
    f, x, dense = case
    if dense.shape[0] != dense.shape[1]:
        with pytest.raises(InputError, match=f"identity can't be taken from a Jacobian of {dense.shape[0]} × "):
            GramOperator(jacobian(f, x), minus_identity=True)
        return
    branch = dense - torch.eye(len(dense), dtype=torch.float64)
    assert_operator_is(GramOperator(jacobian(f, x), minus_identity=True), branch.T @ branch, rtol=1e-12)


def test_vectors_of_double_precision_pass_through_a_single_precision_graph():
    layer = nn.Linear(4, 3)
    known = jacobian(layer, torch.randn(2, 4))
    v = torch.randn(8, dtype=torch.float64)
    assert known.push(v).dtype is torch.float64
    torch.testing.assert_close(known.push(v).view(2, 3), v.view(2, 4) @ layer.weight.double().T, rtol=1e-6, atol=1e-6)


def test_a_function_of_two_inputs_is_differentiated_by_one():
    x, y = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    known = Jacobian(Place.of(x * y), Place.of(x))
    torch.testing.assert_close(known.push(torch.ones(3, dtype=torch.float64)), y.detach())


def test_a_tensor_changed_in_place_keeps_the_place_that_it_had():
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    hidden = 2 * x
    place = Place.of(hidden)
    hidden += 1 * x
    known = Jacobian(place, Place.of(x))
    torch.testing.assert_close(known.pull(torch.ones(4, dtype=torch.float64)), torch.full((4,), 2.0).double())


def test_an_output_that_does_not_depend_on_the_input_is_refused():
    x, y = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    with pytest.raises(InputError, match="the output does not depend on the input"):
        Jacobian(Place.of(F.relu(y)), Place.of(x))


def test_a_product_does_not_search_the_network_before_it():
    """Of a chain of 400 layers only the last is asked for: autograd stops at the age of what it looks for. From a leaf
    it would visit each node before, at every product (seen in the profile: 27 % of a 50-block GPT's products)."""
    start = torch.ones(2, requires_grad=True)
    hidden = start
    for _ in range(400):
        hidden = hidden.tanh()
    known = Jacobian(Place.of(hidden.tanh()), Place.of(hidden))
    known.push(torch.ones(2, dtype=torch.float64))
    assert known._dual is not None
    node, depth = known._dual.grad_fn, 0
    while node is not None and node.next_functions:
        node, depth = node.next_functions[0][0], depth + 1
    assert depth > 400

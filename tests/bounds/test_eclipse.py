"""ECLipsE-Fast against exact Lipschitz constants: closed forms, and enumeration of every activation pattern."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import zoo
from eigenscope.bounds.eclipse import eclipse_fast


def _weights(*widths: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(widths[1:], widths[:-1], strict=True)
    return [torch.randn(n, m, dtype=torch.float64, generator=generator) / math.sqrt(m) for n, m in pairs]


def _product(weights: Sequence[Tensor]) -> float:
    return math.prod(float(torch.linalg.matrix_norm(w, 2)) for w in weights)


def _patterns(width: int) -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=width)), dtype=torch.float64)


def _largest_over_patterns(first: Tensor, second: Tensor) -> float:
    """max ‖W₂·D·W₁‖ over all 0-1 diagonals D: the exact constant of W₂·relu(W₁x + b) if every pattern occurs.

    It does where W₁ has full row rank: W₁x + b then takes every value.
    """
    assert torch.linalg.matrix_rank(first) == len(first)
    products = second @ (_patterns(len(first))[:, :, None] * first)
    return float(torch.linalg.matrix_norm(products, 2).max())


@pytest.mark.parametrize("seed", range(12))
def test_one_hidden_layer_lies_between_the_exact_constant_and_the_product(seed: int) -> None:
    first, second = _weights(10, 8, 4, seed=seed)
    bound = eclipse_fast([first, second]).constant
    assert _largest_over_patterns(first, second) <= bound <= _product([first, second]) * (1 + 1e-7)


@pytest.mark.parametrize("seed", range(6))
def test_two_hidden_layers_are_above_every_region_found(seed: int) -> None:
    """Jacobians at 20,000 points: each that of a linear region that is there."""
    weights = _weights(3, 6, 6, 2, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(20_000, 3, dtype=torch.float64, generator=generator)
    jacobian = torch.eye(3, dtype=torch.float64).expand(len(x), -1, -1)
    for weight in weights[:-1]:
        bias = torch.randn(len(weight), dtype=torch.float64, generator=generator)
        z = x @ weight.T + bias
        jacobian, x = (z > 0).double()[:, :, None] * (weight @ jacobian), z.relu()
    true = float(torch.linalg.matrix_norm(weights[-1] @ jacobian, 2).max())
    assert true <= eclipse_fast(weights).constant <= _product(weights) * (1 + 1e-7)


def test_one_layer_is_exact() -> None:
    (weight,) = _weights(5, 7)
    assert eclipse_fast([weight]).constant == pytest.approx(_product([weight]), rel=1e-7)


def test_scaled_orthogonal_layers_are_exact() -> None:
    """‖A‖ = c² at every layer, so M = I/c² throughout: the product, which x on the positive side reaches."""
    orthogonal = torch.linalg.qr(_weights(6, 6)[0]).Q
    assert eclipse_fast([1.5 * orthogonal] * 4).constant == pytest.approx(1.5**4, rel=1e-7)


def test_a_difference_of_two_neurons_by_hand() -> None:
    """relu(x + b₁) − relu(x + b₂): λ = 1, M = I − ¼·11ᵀ, and (1, −1) is an eigenvector of it with value 1: √2.

    The product says 2; the truth is 1.
    """
    first, second = torch.ones(2, 1), torch.tensor([[1.0, -1.0]])
    assert eclipse_fast([first, second]).constant == pytest.approx(math.sqrt(2), rel=1e-7)


def test_a_zero_layer_lets_nothing_pass() -> None:
    assert eclipse_fast([torch.zeros(4, 3), torch.ones(2, 4)]).constant == 0.0


def test_the_gram_matrix_bounds_each_direction_of_the_output() -> None:
    first, second = _weights(10, 8, 4)
    gram = eclipse_fast([first, second]).gram
    for i, j in itertools.combinations(range(4), 2):
        row = (second[i] - second[j])[None]
        exact = _largest_over_patterns(first, row)
        by_gram = math.sqrt(gram[i, i] + gram[j, j] - 2 * gram[i, j])
        assert exact <= by_gram
        assert by_gram == pytest.approx(eclipse_fast([first, row]).constant, rel=1e-7)


def test_a_trained_network_is_bounded_better_than_by_its_product() -> None:
    model, _, _ = zoo.CASES["mnist_mlp"].build()
    weights = [model.l1.weight.detach(), model.l2.weight.detach()]  # type: ignore[union-attr]
    bound = eclipse_fast(weights).constant
    assert bound < 0.85 * _product([w.double() for w in weights])

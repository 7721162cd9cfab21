"""Constants of normalization layers against their Jacobians."""

import math

import pytest
import torch
from torch import Tensor, nn

import zoo
from eigenscope.bounds.normalization import batch_norm, normalization


def _jacobian_norm(layer: nn.Module, x: Tensor) -> float:
    jacobian = torch.autograd.functional.jacobian(layer, x).view(x.numel(), x.numel())
    return float(torch.linalg.matrix_norm(jacobian, 2))


def _shaken(layer: nn.Module) -> nn.Module:
    with zoo.seeded(0), torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return layer.double()


LAYERS = {
    "layer": lambda: nn.LayerNorm(6, eps=1e-3),
    "group": lambda: nn.GroupNorm(2, 6, eps=1e-3),
    "rms": lambda: nn.RMSNorm(6, eps=1e-3),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_constant_is_never_below_the_jacobian_and_nearly_reached(name: str) -> None:
    """Where all entries are equal (zero, for RMS norm) the statistics are smallest."""
    layer = _shaken(LAYERS[name]())
    bound = normalization(layer.weight, 1e-3, torch.float64).value  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(20, 1, 6, dtype=torch.float64, generator=generator)
    slopes = [_jacobian_norm(layer, scale * x) for x in directions for scale in (1e-6, 1e-2, 1.0, 10.0)]
    assert max(slopes) <= bound
    assert max(slopes) > 0.6 * bound  # P takes out the mean: max |γ| itself need not be reached


def test_rms_norm_without_epsilon_takes_that_of_the_type() -> None:
    assert normalization(None, None, torch.float32).value == pytest.approx(2**11.5, rel=1e-6)


def test_no_epsilon_no_constant() -> None:
    assert math.isinf(normalization(None, 0.0, torch.float32).value)


def test_batch_norm_is_diagonal() -> None:
    layer = nn.BatchNorm1d(3).eval()
    layer.weight.data = torch.tensor([1.0, -4.0, 0.5])
    layer.running_var = torch.tensor([1.0, 4.0, 0.01])
    norm = batch_norm(layer.weight, layer.running_var, layer.eps)
    x = torch.zeros(1, 3)
    assert norm.exact
    assert norm.value == pytest.approx(_jacobian_norm(layer, x), rel=1e-6)
    assert norm.value == pytest.approx(0.5 / math.sqrt(0.01 + 1e-5), rel=1e-6)

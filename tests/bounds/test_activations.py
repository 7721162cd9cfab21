"""The slopes of activations, found again by automatic differentiation on a dense grid."""

from typing import Any

import pytest
import torch
from torch import Tensor

from eigenscope.bounds.activations import ACTIVATIONS, slopes

FAR = torch.tensor([-1e6, -100, 100, 1e6], dtype=torch.float64)
GRID = torch.cat([torch.linspace(-12, 12, 1_200_001, dtype=torch.float64), FAR])
ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "leaky_relu": [{"negative_slope": 0.1}, {"negative_slope": -0.2}, {"negative_slope": 1.5}],
    "elu": [{"alpha": 1.0, "scale": 1.0, "input_scale": 1.0}, {"alpha": 2.0, "scale": 1.5, "input_scale": 0.7}],
    "gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
    "prelu": [{"weight": torch.tensor([0.25], dtype=torch.float64)}],
    "rrelu": [{"lower": 0.1, "upper": 0.3}],
    "hardtanh": [{"min_val": -1.0, "max_val": 1.0}],
    "clamp": [{"min": -0.5, "max": 2.0}],
    "clamp_min": [{"min": 0.0}],
    "clamp_max": [{"max": 1.0}],
    "softplus": [{"beta": 1.0, "threshold": 20.0}],
    "softshrink": [{"lambd": 0.5}],
    "celu": [{"alpha": 2.0}],
}
CASES = [
    (name, arguments) for name in sorted(ACTIVATIONS - {"_prelu_kernel"}) for arguments in ARGUMENTS.get(name, [{}])
]


def _run(name: str, x: Tensor, arguments: dict[str, Any]) -> Tensor:
    """ATen's own operation."""
    operation = getattr(torch.ops.aten, name)
    if name == "prelu":
        return operation(x, arguments["weight"])  # type: ignore[no-any-return]
    if name == "rrelu":
        return operation(x, arguments["lower"], arguments["upper"], False)  # type: ignore[no-any-return]
    if name == "gelu":
        return operation(x, approximate=arguments["approximate"])  # type: ignore[no-any-return]
    return operation(x, *arguments.values())  # type: ignore[no-any-return]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_slopes_are_the_extremes_of_the_derivative(name: str, arguments: dict[str, Any]) -> None:
    x = GRID.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(_run(name, x, arguments).sum(), x)
    found = slopes(name, arguments)
    low, high = float(derivative.min()), float(derivative.max())
    assert found.low <= low + 1e-12
    assert high <= found.high + 1e-12
    assert found.high == pytest.approx(high, abs=1e-4)  # reached, or nearly where it is a limit
    assert found.low == pytest.approx(low, abs=1e-4)


def test_known_digits() -> None:
    """GELU: Φ(√2) + √2·φ(√2). SiLU, Mish: the extremes as SciPy's bounded minimizer finds them."""
    assert slopes("gelu", {"approximate": "none"}).constant == pytest.approx(1.12890414518515, abs=1e-12)
    assert slopes("silu", {}).constant == pytest.approx(1.09983932012887, abs=1e-9)
    assert slopes("mish", {}).constant == pytest.approx(1.08849816125173, abs=1e-9)
    assert slopes("selu", {}).constant == pytest.approx(1.7580993408473766, abs=1e-12)

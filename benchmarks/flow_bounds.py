"""The Lipschitz parts of flow.py: norms of convolutions, and bounds of whole networks."""

from __future__ import annotations

from pathlib import Path

import torch
from meter import seconds
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from workloads import WORKLOADS

from eigenscope.bounds.certify import lipschitz
from eigenscope.bounds.convolution import Convolution
from eigenscope.bounds.convolution_norm import convolution_norm

SIZE = 6  # of the image on which an operator is still written out as a matrix
USUAL = 15  # power iterations that spectral_norm makes when it is put on; then one a training step


def convolutions(data: Path | None) -> list[dict[str, object]]:
    """Each layer's norm three ways, on a small image; the certified one on the real size too."""
    rows = []
    for name, weight, size in _kernels(data):
        small = _convolution(weight, SIZE)
        ours: list[float] = []
        spent = seconds(lambda small=small, ours=ours: ours.append(convolution_norm(small, unroll=False).value))
        exact: list[float] = []
        dense = seconds(lambda small=small, exact=exact: exact.append(_dense_norm(small)))
        reshaped = _spectral_norm(weight)
        rows.append(
            {
                "layer": name,
                "shape": list(weight.shape),
                "dense_svd": exact[0],
                "dense_seconds": dense,
                "eigenscope": ours[0],
                "eigenscope_seconds": spent,
                "excess": ours[0] / exact[0] - 1,
                "spectral_norm": reshaped,
                "spectral_norm_error": reshaped / exact[0] - 1,
                "real_size": size,
                "eigenscope_at_real_size": convolution_norm(_convolution(weight, size)).value,
            }
        )
    return rows


def _kernels(data: Path | None) -> list[tuple[str, Tensor, int]]:
    if data is None:
        model = WORKLOADS["cnn"]().model
        layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        return [
            (f"digits conv {i}", layer.weight.detach(), size)
            for i, (layer, size) in enumerate(zip(layers, (8, 8, 4), strict=True))
        ]
    found = []
    for file in ("realsn-simplecnn-noise5", "simplecnn-noise5"):
        state = torch.load(data / "weights" / f"{file}.pth", weights_only=True, map_location="cpu")
        kernels = {name: w for name, w in state.items() if w.ndim == 4 and w.shape[-1] <= 7}  # not a buffer
        found += [(f"{file} {name}", w.float(), 40) for name, w in kernels.items()]
    return found


def _convolution(weight: Tensor, size: int) -> Convolution:
    reach = weight.shape[-1] // 2
    return Convolution(weight, (size, size), (1, 1), ((reach, reach),) * 2, (1, 1))


def _dense_norm(conv: Convolution) -> float:
    """The largest singular value of the operator, written out column by column."""
    count = conv.input_numel
    basis = torch.eye(count, dtype=torch.float64).view(count, -1, *conv.size)
    weight = conv.weight.double()
    columns = F.conv2d(basis, weight, padding=[before for before, _ in conv.padding]).flatten(1)
    return float(torch.linalg.matrix_norm(columns, 2))


def _spectral_norm(weight: Tensor) -> float:
    """What PyTorch's spectral norm divides by: the largest singular value of the kernel reshaped to a matrix."""
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], bias=False)
    layer.weight.data = weight.clone()
    torch.manual_seed(0)
    normed = spectral_norm(layer)
    with torch.no_grad():
        return float(weight.norm() / normed.weight.norm())


def bounds(data: Path | None) -> list[dict[str, object]]:
    """Certified bound, naive product and lower bound of whole networks."""
    rows = []
    for name, model, inputs in _networks(data):
        found = {}
        spent = seconds(lambda model=model, inputs=inputs, found=found: found.update(r=lipschitz(model, [inputs])))
        reading = found["r"]
        lower, upper = reading.lipschitz_lower.value, reading.lipschitz_upper.value
        product = reading.lipschitz_product.value
        rows.append(
            {
                "network": name,
                "lower": lower,
                "upper": upper,
                "product": product,
                "method": reading.method,
                "upper_over_product": upper / product,
                "upper_over_lower": upper / lower,
                "seconds": spent,
            }
        )
    return rows


def _networks(data: Path | None) -> list[tuple[str, nn.Module, tuple[Tensor, Tensor]]]:
    found = []
    for name in ("mlp", "cnn"):
        work = WORKLOADS[name]()
        found.append((f"digits {name}", work.model, tuple(part[:16] for part in work.batch)))
    if data is not None:
        found += _trained(data)
    return found


def _trained(data: Path) -> list[tuple[str, nn.Module, tuple[Tensor, Tensor]]]:
    """The MNIST MLP and the CIFAR-10 ResNet-20, as the tests build them."""
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from zoo.mnist_mlp import mnist_mlp
    from zoo.resnet20 import resnet20

    found = []
    for name, make in (("MNIST MLP", mnist_mlp), ("ResNet-20", resnet20)):
        model, _loss, batches = make()
        found.append((name, model, tuple(part[:8] for part in batches[0])))
    return found


def show(found: dict[str, object]) -> None:
    """A line a layer, a line a network."""
    for row in found.get("convolutions", []):
        print(
            f"  {row['layer']:44} dense {row['dense_svd']:8.4f} ({row['dense_seconds']:.2f} s)  certified "
            f"{row['eigenscope']:8.4f} (+{row['excess']:.2%}, {row['eigenscope_seconds']:.3f} s)  spectral_norm "
            f"{row['spectral_norm']:8.4f} ({row['spectral_norm_error']:+.0%})  at {row['real_size']}² "
            f"{row['eigenscope_at_real_size']:.4f}"
        )
    for row in found.get("bounds", []):
        print(
            f"  {row['network']:14} {row['lower']:.3g} proven … {row['upper']:.4g} certified ({row['method']}); "
            f"product {row['product']:.3g}, {row['product'] / row['upper']:.3g}× looser; {row['seconds']:.1f} s"
        )

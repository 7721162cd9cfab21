"""Norms of convolutions against their dense twins: the operator applied to every unit vector, and an SVD."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import zoo
from eigenscope.bounds.convolution import Convolution, lower_norm
from eigenscope.bounds.convolution_norm import convolution_norm

MODES = ("zeros", "circular", "reflect", "replicate")


def _conv(
    dims: int = 2,
    *,
    channels: tuple[int, int] = (2, 4),
    kernel: int = 3,
    size: int = 6,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    groups: int = 1,
    mode: str = "zeros",
    positive: bool = False,
) -> Convolution:
    into, out = channels
    weight = torch.randn(out, into // groups, *[kernel] * dims, generator=torch.Generator().manual_seed(kernel))
    weight = weight.abs() if positive else weight
    pads = ((padding, padding),) * dims
    return Convolution(weight, (size,) * dims, (stride,) * dims, pads, (dilation,) * dims, groups, mode)


def _dense_twin(conv: Convolution) -> float:
    """σ_max of the matrix whose columns are the layer's answers to unit vectors; the layer is torch's own."""
    dims, (out, into) = conv.dims, conv.weight.shape[:2]
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    layer = kind(
        into * conv.groups, out, tuple(conv.weight.shape[2:]), conv.stride, tuple(p[0] for p in conv.padding),
        conv.dilation, conv.groups, bias=False, padding_mode=conv.mode,
    ).double()  # fmt: skip
    layer.weight.data = conv.weight.double()
    unit = torch.eye(conv.input_numel, dtype=torch.float64).view(-1, into * conv.groups, *conv.size)
    with torch.no_grad():
        return float(torch.linalg.svdvals(layer(unit).flatten(1))[0])


def _small() -> Iterator[tuple[int, dict[str, object]]]:
    grid = itertools.product(MODES, (1, 2), (1, 2), (1, 2), (1, 2, 3), (0, 1))
    for mode, stride, dilation, groups, kernel, padding in grid:
        for dims, size in ((1, 9), (2, 6)):
            if dilation * (kernel - 1) < size:
                yield dims, {"mode": mode, "stride": stride, "dilation": dilation, "groups": groups, "size": size,
                             "kernel": kernel, "padding": padding}  # fmt: skip


@pytest.mark.parametrize("channels", [(2, 4), (4, 2)])
@pytest.mark.parametrize("mode", MODES)
def test_small_operators_are_exact_and_the_torus_is_never_below(mode: str, channels: tuple[int, int]) -> None:
    for dims, settings in _small():
        if settings["mode"] == mode:
            conv = _conv(dims, channels=channels, **settings)  # type: ignore[arg-type]
            true = _dense_twin(conv)
            assert convolution_norm(conv).value == pytest.approx(true, rel=3e-8), settings
            assert convolution_norm(conv, unroll=False).value >= true * (1 - 1e-12), settings


@pytest.mark.parametrize("stride", [1, 2])
def test_three_dimensions(stride: int) -> None:
    conv = _conv(3, kernel=2, size=4, stride=stride)
    true = _dense_twin(conv)
    assert convolution_norm(conv).value == pytest.approx(true, rel=3e-8)
    assert convolution_norm(conv, unroll=False).value >= true


@pytest.mark.parametrize("stride", [1, 2])
def test_circular_padding_is_exact_by_fourier(stride: int) -> None:
    norm = convolution_norm(_conv(size=8, stride=stride, mode="circular"))
    assert norm.exact
    assert "circular" in norm.method
    assert norm.value == pytest.approx(_dense_twin(_conv(size=8, stride=stride, mode="circular")), rel=3e-8)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("positive", [False, True])
def test_zero_padding_is_bounded_within_a_fiftieth(stride: int, positive: bool) -> None:
    """Larger than what is solved as a matrix, small enough for a dense twin."""
    conv = _conv(channels=(12, 12), size=14, positive=positive)
    conv = replace(conv, stride=(stride, 1))
    true, norm = _dense_twin(conv), convolution_norm(conv)
    assert not norm.exact
    assert norm.lower is not None
    assert norm.lower <= true <= norm.value < 1.02 * true


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_other_paddings_are_proven_by_a_factorization(mode: str) -> None:
    conv = _conv(channels=(8, 8), size=13, mode=mode)
    true, norm = _dense_twin(conv), convolution_norm(conv)
    assert "Cholesky" in norm.method
    assert norm.lower is not None
    assert norm.lower <= true <= norm.value < 1.001 * true


def test_twists_tighten_the_torus() -> None:
    """A blur's symbol peaks at frequency 0, which every plain torus has: it says 9, the operator is below."""
    conv = _conv(1, channels=(1, 1), kernel=3, size=30, positive=True)
    conv = replace(conv, weight=torch.ones(1, 1, 3))
    true = 1 + 2 * math.cos(math.pi / 31)  # the tridiagonal Toeplitz matrix of ones: closed form
    bound = convolution_norm(conv, unroll=False).value
    assert true <= bound < true + (3 - true) / 10


def test_a_zero_kernel_has_norm_zero() -> None:
    for mode in MODES:
        conv = replace(_conv(channels=(8, 8), size=13, mode=mode), weight=torch.zeros(8, 8, 3, 3))
        assert convolution_norm(conv).value == 0.0


@pytest.mark.parametrize(("kernel", "same"), [(1, 1.0), (3, 1.0)])
def test_a_delta_kernel_is_the_identity(kernel: int, same: float) -> None:
    conv = _conv(channels=(3, 3), kernel=kernel, size=40, padding=kernel // 2)
    weight = torch.zeros(3, 3, kernel, kernel)
    weight[range(3), range(3), kernel // 2, kernel // 2] = 1.0
    assert convolution_norm(replace(conv, weight=weight)).value == pytest.approx(same, rel=1e-7)


def _denoiser(name: str) -> list[Tensor]:
    state = torch.load(zoo.shared_data(f"weights/{name}.pth"), weights_only=True, map_location="cpu")
    return [state[f"dncnn.{i}.weight"] for i in (0, 2, 4, 6)]


def _norms_on_40x40(name: str) -> list[float]:
    pads = ((1, 1), (1, 1))
    norms = [convolution_norm(Convolution(w, (40, 40), (1, 1), pads, (1, 1))) for w in _denoiser(name)]
    for norm in norms:
        assert norm.lower is not None
        assert norm.lower <= norm.value < 1.01 * norm.lower
    return [norm.value for norm in norms]


def test_the_constrained_denoiser_has_norms_next_to_one() -> None:
    """1.004 to 1.015, stated beside the data (RealSN: Ryu et al. 2019, trained under a true spectral constraint)."""
    norms = _norms_on_40x40("realsn-simplecnn-noise5")
    assert min(norms) == pytest.approx(1.005, abs=2e-3)
    assert max(norms) == pytest.approx(1.015, abs=2e-3)


def test_the_free_denoiser_has_norms_of_10_to_30_and_the_last_below_1() -> None:
    *norms, last = _norms_on_40x40("simplecnn-noise5")
    assert all(10 < norm < 30 for norm in norms)
    assert last < 1


@pytest.mark.parametrize("seed", range(3))
def test_the_lower_bound_of_a_convolution_is_found_in_fp64(seed: int) -> None:
    conv = replace(
        _conv(size=5), weight=torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(seed)).double()
    )
    true = _dense_twin(conv)
    assert true * (1 - 2e-7) <= lower_norm(conv) <= true

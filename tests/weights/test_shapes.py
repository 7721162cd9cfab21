"""The word for a spectrum, as a scan gives it, for every type that weights are stored in."""

import numpy as np
import pytest
import torch

import eigenscope as es
from eigenscope.weights.ranks import elbow

TYPES = [torch.float32, torch.float16, torch.bfloat16]


def shape_of(matrix: torch.Tensor) -> str:
    return es.scan({"w": matrix})["w"].reading.spectrum_shape


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(64, 64), (100, 1000), (128, 512), (256, 256)])
def test_at_most_5_of_100_random_matrices_are_called_anything_but_noise(shape, dtype):
    """The smallest value of a square random matrix may lie below what bf16 adds: that makes it no deficient matrix."""
    otherwise = 0
    for seed in range(100):
        matrix = 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        otherwise += shape_of(matrix.to(dtype)) != "noise"
    assert otherwise <= 5


@pytest.mark.parametrize("dtype", TYPES)
def test_a_product_of_thin_factors_is_deficient_in_every_type(dtype):
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(200, 8, generator=generator) @ torch.randn(8, 300, generator=generator)
    reading = es.scan({"w": low.to(dtype)})["w"].reading
    assert (reading.spectrum_shape, reading.rank) == ("rank_deficient", 8)


@pytest.mark.parametrize("dtype", TYPES)
def test_one_row_twice_is_deficient_though_all_else_is_random(dtype):
    matrix = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    matrix[1] = matrix[0]
    reading = es.scan({"w": matrix.to(dtype)})["w"].reading
    assert (reading.spectrum_shape, reading.rank) == ("rank_deficient", 63)


def test_directions_that_stand_out_of_noise_are_an_elbow():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(256, 5, generator=generator))[0] for _ in range(2))
    reading = es.scan({"w": torch.randn(256, 256, generator=generator) + 500 * left @ right.T})["w"].reading
    assert reading.spectrum_shape == "spiked"
    assert "an elbow after 5, the first 5 hold" in reading.sentence


def test_an_elbow_is_the_largest_step_of_the_first_half():
    assert elbow(np.array([9.0, 8.0, 1.0, 0.9, 0.1, 0.01])) == 2
    assert elbow(np.array([3.0, 2.9, 2.8, 2.7])) == 0
    assert elbow(np.array([1.0])) == 0


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor.*:UserWarning")
def test_what_quantization_hides_is_no_missing_direction():
    """Values 10⁻³ to 1: in int8 a third of them lie below what its steps add, and nobody can tell."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, 128, generator=generator))[0] for n in (128, 256))
    matrix = (left * torch.logspace(0, -3, 128)) @ right.T
    stored = torch.quantize_per_tensor(matrix, float(matrix.abs().max()) / 127, 0, torch.qint8)
    reading = es.scan({"w": stored})["w"].reading
    off = torch.linalg.matrix_norm(stored.dequantize() - matrix, 2)
    assert 0.5 * reading.rounding_floor < off < 1.5 * reading.rounding_floor
    assert reading.spectrum_shape != "rank_deficient"
    assert "below what rounding to the stored type adds" in reading.sentence

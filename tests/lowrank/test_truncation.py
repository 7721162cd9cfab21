"""Truncated decompositions against prescribed spectra, NumPy's SVD and their own error statements."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import svds

import eigenscope as es
from lowrank.matrices import METHODS, SPECTRA, conjugated

UNIT = 2.0**-53


def truth(x, k):
    """σ₁ … σ_k, σ_{k+1} and √Σ_{i>k} σ² by a dense SVD in fp64."""
    sigma = np.linalg.svd(np.asarray(x, np.float64), compute_uv=False)
    return sigma[:k], (sigma[k] if k < len(sigma) else 0.0), float(np.linalg.norm(sigma[k:]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("shape", [(140, 90), (90, 110)], ids=["tall", "wide"])
def test_every_singular_value_lies_within_its_stated_error(name, method, shape):
    sigma = SPECTRA[name]
    x = conjugated(sigma, *shape)
    found = es.truncated_svd(x, 10, method=method)
    top = sigma[0]
    assert np.all(np.abs(found.singular_values - sigma[:10]) <= found.error + 4 * UNIT * top)  # of x itself
    assert found.rank == 10
    assert found.shape == shape


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [name for name in SPECTRA if name != "rank 7"])
def test_errors_keep_to_the_tolerance_where_fp64_can(name, method):
    found = es.truncated_svd(conjugated(SPECTRA[name], 140), 10, method=method, tolerance=1e-3)
    assert np.all(found.error <= 1.001e-3 * found.singular_values)


@pytest.mark.parametrize("method", ["exact", "randomized", "auto"])
def test_values_that_are_0_are_so_to_rounding_in_every_way_but_the_gram_matrix(method):
    found = es.truncated_svd(conjugated(SPECTRA["rank 7"], 140), 10, method=method)
    assert np.all(found.singular_values[7:] < 1e-14)
    assert np.all(found.error[7:] < 1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SPECTRA)
def test_the_factors_are_orthonormal_and_their_errors_are_those_of_eckart_and_young(name, method):
    x = conjugated(SPECTRA[name], 140, seed=1)
    scale = SPECTRA[name][0]
    found = es.truncated_svd(x, 10, method=method)
    np.testing.assert_allclose(found.U.T @ found.U, np.eye(10), atol=1e-13)
    np.testing.assert_allclose(found.Vt @ found.Vt.T, np.eye(10), atol=1e-13)
    difference = (x - found.reconstruction()) / scale
    assert found.frobenius_error == pytest.approx(np.linalg.norm(difference) * scale, rel=1e-6, abs=1e-14 * scale)
    assert found.spectral_error == pytest.approx(np.linalg.norm(difference, 2) * scale, rel=2e-3, abs=1e-14 * scale)
    _, following, missing = truth(x / scale, 10)
    slack = 20 * UNIT * scale  # of the reference
    assert abs(found.eckart_young_spectral - following * scale) <= found.eckart_young_spectral_error + slack
    assert missing * scale <= found.eckart_young_frobenius * (1 + 1e-9) + slack
    assert missing * scale >= found.eckart_young_frobenius - found.eckart_young_frobenius_error - slack
    assert found.frobenius_error >= missing * scale * (1 - 1e-9) - slack  # nothing of this rank is nearer


def test_the_errors_cover_the_truth_for_many_seeds():
    """600 values of 60 random starts; the probability that a bound fails is stated as 10⁻⁸."""
    sigma = np.r_[np.linspace(5, 4, 8), np.arange(2, 200) ** -0.5]
    x = conjugated(sigma, 260, seed=2)
    shares = []
    for seed in range(60):
        found = es.truncated_svd(x, 10, method="randomized", seed=seed, tolerance=1e-2)
        off = sigma[:10] - found.singular_values
        assert np.all(off <= found.error + 4 * UNIT * 5)
        assert np.all(off >= -1e-13)
        assert abs(found.eckart_young_spectral - sigma[10]) <= found.eckart_young_spectral_error
        shares.append(np.max(off / found.error))
    assert max(shares) > 1e-6  # the bounds are not made of air


def test_a_direction_that_the_start_never_touches_is_found_or_the_error_says_so(monkeypatch):
    """The trap of residuals: a start orthogonal to the leading singular vector converges to the others perfectly."""
    from eigenscope.lowrank import randomized

    sigma = np.r_[50.0, np.exp(-np.arange(199) / 4)]
    x = conjugated(sigma, 200, seed=3)
    _, _, vt = np.linalg.svd(x)
    leading, draws = torch.from_numpy(vt[0].copy()), []
    drawn = randomized.gaussian

    def blind_at_first(*arguments):
        block = drawn(*arguments)
        draws.append(block)
        return block - leading[:, None] * (leading @ block) if len(draws) == 1 else block

    monkeypatch.setattr(randomized, "gaussian", blind_at_first)
    found = es.truncated_svd(x, 3, method="randomized")
    assert found.singular_values[0] == pytest.approx(50, rel=1e-3)
    assert np.all(np.abs(found.singular_values - sigma[:3]) <= found.error)


def test_more_equal_values_than_a_block_holds_are_all_found():
    sigma = np.r_[np.full(60, 3.0), np.exp(-np.arange(140) / 5)]
    found = es.truncated_svd(conjugated(sigma, 220, seed=4), 60, method="randomized")
    np.testing.assert_allclose(found.singular_values, 3, rtol=1e-3)
    assert found.eckart_young_spectral == pytest.approx(1, rel=2e-3)


@pytest.mark.parametrize("method", ["gram", "randomized", "auto"])
def test_agrees_with_scipy_s_lanczos_on_a_spectrum_that_falls_slowly(method):
    x = np.random.default_rng(5).standard_normal((300, 200)) * np.arange(1, 201) ** -0.5
    found = es.truncated_svd(x, 6, method=method, tolerance=1e-6)
    reference = np.sort(svds(x, 6, return_singular_vectors=False, random_state=0))[::-1]
    np.testing.assert_allclose(found.singular_values, reference, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("energy", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["exponential", "power law", "noise", "degenerate", "rank 7"])
def test_an_energy_takes_the_least_rank_that_holds_it(name, energy, method):
    sigma = SPECTRA[name]
    least = int(np.argmax(np.cumsum(sigma**2) >= energy * np.sum(sigma**2))) + 1
    found = es.truncated_svd(conjugated(sigma, 140), energy=energy, method=method)
    assert found.rank == least
    assert found.energy >= energy - 1e-12
    assert found.energy == pytest.approx(np.sum(sigma[:least] ** 2) / np.sum(sigma**2), abs=2e-3)


@pytest.mark.parametrize("method", METHODS)
def test_all_the_energy_is_the_rank(method):
    found = es.truncated_svd(conjugated(SPECTRA["rank 7"], 140), energy=1.0, method=method)
    assert found.rank == 7
    assert found.energy == pytest.approx(1, abs=1e-12)
    assert found.frobenius_error < 1e-13


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_gives_tensors_and_the_errors_include_their_rounding(dtype, method):
    x = torch.from_numpy(conjugated(SPECTRA["exponential"], 140)).to(dtype)
    found = es.truncated_svd(x, 30, method=method)
    kept = torch.float64 if dtype == torch.float64 else torch.float32
    assert all(item.dtype == kept for item in (found.U, found.singular_values, found.Vt, found.error))
    sigma, following, missing = truth(x.double(), 30)
    assert np.all(np.abs(found.singular_values.double().numpy() - sigma) <= found.error.double().numpy() + 1e-14)
    difference = x.double() - (found.U.double() * found.singular_values.double()) @ found.Vt.double()
    assert found.frobenius_error == pytest.approx(float(difference.norm()), rel=1e-9)
    assert found.eckart_young_frobenius == pytest.approx(missing, rel=1e-6)
    assert found.eckart_young_spectral == pytest.approx(following, rel=2e-3)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_an_array_gives_arrays(dtype):
    x = conjugated(SPECTRA["exponential"], 140).astype(dtype)
    found = es.truncated_svd(x, 3)
    assert all(isinstance(item, np.ndarray) for item in (found.U, found.singular_values, found.Vt, found.error))
    assert found.U.dtype == (np.float64 if dtype == np.float64 else np.float32)


def test_fp32_loses_no_digits_that_a_sum_in_fp64_keeps():
    """σ_min/σ₁ = 10⁻⁵: a Gram matrix in fp32 would lose it entirely; the input's own rounding is 6·10⁻⁸·σ₁."""
    sigma = np.logspace(0, -5, 60)
    x = conjugated(sigma, 400).astype(np.float32)
    for method in METHODS:
        np.testing.assert_allclose(es.truncated_svd(x, 60, method=method).singular_values, truth(x, 60)[0], rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_bits_and_the_callers_matrix_and_generators_stay(method):
    x = torch.randn(120, 100, generator=torch.Generator().manual_seed(0)).requires_grad_()
    before, state = x.detach().clone(), torch.get_rng_state()
    first, second = (es.truncated_svd(x, 5, method=method, seed=7) for _ in range(2))
    assert torch.equal(first.U, second.U)
    assert torch.equal(first.singular_values, second.singular_values)
    assert torch.equal(x.detach(), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert not first.U.requires_grad


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 40)])
def test_the_smallest_matrices_are_no_special_case(shape, method):
    x = np.random.default_rng(6).standard_normal(shape)
    k = min(shape)
    found = es.truncated_svd(x, k, method=method)
    np.testing.assert_allclose(found.reconstruction(), x, atol=1e-14)
    assert found.energy == pytest.approx(1)
    assert found.eckart_young_spectral == 0
    assert found.frobenius_error < 1e-14


@pytest.mark.parametrize("method", METHODS)
def test_zero_is_its_own_reconstruction(method):
    found = es.truncated_svd(np.zeros((60, 70)), 2, method=method)
    assert not found.reconstruction().any()
    assert (found.frobenius_error, found.spectral_error, found.energy) == (0, 0, 1)
    np.testing.assert_allclose(found.U.T @ found.U, np.eye(2), atol=1e-15)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(140, 90), (90, 140)], ids=["tall", "wide"])
def test_signs_do_not_depend_on_the_method(shape, method):
    x = conjugated(SPECTRA["power law"], *shape)
    found, exact = es.truncated_svd(x, 5, method=method, tolerance=1e-9), es.truncated_svd(x, 5, method="exact")
    np.testing.assert_allclose(found.Vt, exact.Vt, atol=1e-4)
    assert np.all(found.Vt[np.arange(5), np.abs(found.Vt).argmax(1)] > 0)


def test_factors_share_the_singular_values_and_multiply_to_the_reconstruction():
    found = es.truncated_svd(conjugated(SPECTRA["power law"], 140), 5)
    a, b = found.factors()
    assert (a.shape, b.shape) == ((140, 5), (5, 90))
    np.testing.assert_allclose(a @ b, found.reconstruction(), atol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=1), rtol=1e-12)


def test_strided_and_read_only_views_are_taken_as_they_are():
    x = conjugated(SPECTRA["power law"], 140)
    expected = es.truncated_svd(np.ascontiguousarray(x[::-2, ::3]), 4).singular_values
    view = x[::-2, ::3]
    view.flags.writeable = False
    np.testing.assert_array_equal(es.truncated_svd(view, 4).singular_values, expected)
    swapped = x.astype(">f8")[::-2, ::3]
    np.testing.assert_array_equal(es.truncated_svd(swapped, 4).singular_values, expected)


def test_a_matrix_read_in_blocks_gives_the_same_values(monkeypatch):
    from eigenscope.lowrank import matrix

    x = torch.from_numpy(conjugated(SPECTRA["power law"], 140)).float()
    whole = [es.truncated_svd(part, 8, method=method) for part in (x, x.T) for method in METHODS]
    monkeypatch.setattr(matrix, "_HELD", 0)
    monkeypatch.setattr(matrix, "_BLOCK", 1000)
    blocks = [es.truncated_svd(part, 8, method=method) for part in (x, x.T) for method in METHODS]
    for one, other in zip(whole, blocks, strict=True):
        np.testing.assert_allclose(one.singular_values, other.singular_values, rtol=1e-7)
        assert one.frobenius_error == pytest.approx(other.frobenius_error, rel=1e-9)


def test_auto_takes_products_where_few_are_enough_and_the_gram_matrix_where_not():
    fast = conjugated(np.exp(-np.arange(800) / 10), 800)
    assert es.truncated_svd(fast, 8).method == "randomized"
    assert es.truncated_svd(fast, 300).method in ("gram", "exact")  # many of its values are 0 to a Gram matrix
    flat = np.random.default_rng(8).standard_normal((600, 600))
    assert es.truncated_svd(flat, 200).method == "gram"
    assert es.truncated_svd(flat[:40], 3).method == "exact"


def test_auto_falls_back_to_the_dense_svd_where_the_gram_matrix_cannot_tell():
    x = conjugated(np.logspace(0, -13, 90), 140)
    assert es.truncated_svd(x, 80, method="gram").error[-1] > 1e-3 * 1e-12
    found = es.truncated_svd(x, 80)
    assert found.method == "exact"


def test_a_low_rank_difference_of_weights_in_fp32_takes_two_steps_in_spite_of_its_noise():
    """What an adapter leaves: rank 8 and rounding to fp32, whose flat edge would take hundreds of products."""
    generator = np.random.default_rng(9)
    base = (0.02 * generator.standard_normal((900, 900))).astype(np.float32)
    tuned = base + (1e-3 * generator.standard_normal((900, 8)) @ generator.standard_normal((8, 900))).astype(np.float32)
    for settings in ({"rank": 8}, {"energy": 0.999}):
        found = es.truncated_svd(tuned - base, **settings)
        assert found.method == "randomized"
        assert found.rank == 8
        assert found.num_matvecs <= 100
        np.testing.assert_allclose(found.singular_values, truth(tuned - base, 8)[0], rtol=1e-6)


def test_its_words_are_one_line():
    text = repr(es.truncated_svd(conjugated(SPECTRA["power law"], 140), 5))
    assert text.startswith("TruncatedSVD(140 × 90 at rank 5, ")
    assert "\n" not in text


@pytest.mark.parametrize("method", ["gram", "randomized", "auto"])
@pytest.mark.parametrize("rank", [20, 40])
def test_no_matrix_is_nearer_than_the_bound_where_little_is_left_of_large_squares(method, rank):
    """‖X‖² − Σθ² loses the digits of what is left: the bound has to say so, never to be too low."""
    sigma = np.r_[np.ones(20), np.full(90, 1e-9)]
    for seed in range(5):
        found = es.truncated_svd(conjugated(sigma, 150, 110, seed), rank, method=method)
        assert np.linalg.norm(sigma[rank:]) <= found.eckart_young_frobenius * (1 + 1e-6)


@pytest.mark.parametrize("like", [np.asarray, torch.as_tensor])
def test_whole_numbers_are_numbers(like):
    """[[3, 2], [2, 3]]: σ = 5 and 1, along (1, 1) and (1, −1)."""
    found = es.truncated_svd(like([[3, 2], [2, 3]]), 2)
    np.testing.assert_allclose(found.singular_values, [5, 1], rtol=1e-14)
    assert str(found.U.dtype).endswith("float64")
    np.testing.assert_allclose(abs(found.U), 0.5**0.5, rtol=1e-14)

"""The prescribed spectra are as prescribed, and `quadratic` has them as its Hessian."""

from collections import Counter

import pytest
import torch

from oracles import dense_hessian, gradient
from spectra import SPECTRA, conjugated, definite, degenerate, indefinite, neural, quadratic, singular


@pytest.mark.parametrize("name", SPECTRA)
def test_a_matrix_has_its_prescribed_eigenvalues(name: str) -> None:
    made = SPECTRA[name]()
    assert torch.equal(made.matrix, made.matrix.T)
    scale = made.eigenvalues.abs().max()
    torch.testing.assert_close(torch.linalg.eigvalsh(made.matrix), made.eigenvalues, rtol=0, atol=float(1e-13 * scale))


@pytest.mark.parametrize("kappa", [1e2, 1e4])
def test_a_definite_matrix_has_its_condition_number(kappa: float) -> None:
    eigenvalues = definite(kappa).eigenvalues
    assert float(eigenvalues[-1] / eigenvalues[0]) == pytest.approx(kappa, rel=1e-12)


def test_the_named_counts_hold() -> None:
    assert int((singular().eigenvalues == 0).sum()) == 40
    assert int((indefinite().eigenvalues < 0).sum()) == 3
    assert Counter(degenerate().eigenvalues.tolist()) == {-1: 2, -0.25: 3, 0.1: 181, 1: 10, 3: 4}
    spectrum = neural().eigenvalues
    assert int((spectrum > 4).sum()) == 10
    assert int((spectrum < 0).sum()) == 49
    assert float(spectrum[0]) == pytest.approx(-0.3)


def test_another_seed_turns_the_eigenvectors_only() -> None:
    eigenvalues = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    first, second = conjugated(eigenvalues, seed=0), conjugated(eigenvalues, seed=1)
    assert not torch.allclose(first.matrix, second.matrix)
    torch.testing.assert_close(torch.linalg.eigvalsh(first.matrix), torch.linalg.eigvalsh(second.matrix))


def test_the_hessian_of_the_quadratic_is_the_matrix() -> None:
    matrix = indefinite(n=30).matrix
    torch.testing.assert_close(dense_hessian(*quadratic(matrix, distance=2.0)), matrix)


def test_batches_that_disagree_have_the_matrix_as_their_mean() -> None:
    matrix = definite(1e2, n=100).matrix
    model, loss_fn, batches = quadratic(matrix, num_batches=4, spread=0.5)
    torch.testing.assert_close(torch.cat(batches).mean(0), matrix)
    torch.testing.assert_close(dense_hessian(model, loss_fn, batches), matrix)
    norms = torch.linalg.matrix_norm(torch.cat(batches) - matrix, 2)
    assert all(0.35 < norm < 0.6 for norm in norms.tolist())


def test_the_quadratic_is_stationary_at_zero_and_not_elsewhere() -> None:
    matrix = indefinite(n=30).matrix
    assert not gradient(*quadratic(matrix)).any()
    model, loss_fn, batches = quadratic(matrix, distance=3.0)
    x = next(model.parameters()).detach()
    assert float(x.norm()) == pytest.approx(3.0)
    torch.testing.assert_close(gradient(model, loss_fn, batches), matrix @ x)

"""Known answers, exactly; and for random matrices those of NumPy, which knows nothing of characteristic polynomials."""

import numpy as np
import pytest

from eigenscope.explain.derivation import derive
from eigenscope.explain.examples import EXAMPLES

SQUARE_ROOTS = {
    "symmetric": (["5", "1"], 2),
    "diagonal": (["3", "2", "1"], 3),
    "rank-deficient": (["14", "0", "0"], 1),
    "hidden-rank": (["6", "1", "0"], 2),
    "power-law": (["48", "24", "16", "12"], 4),
    "counting": (["√(325 + √103705)", "√(325 − √103705)", "0"], 2),
}


def agrees_with_numpy(found, matrix, rtol=1e-12):
    m, n = matrix.shape
    values = np.array([sigma.value for sigma in found.singular_values])
    u, v, sigma = np.array(found.u), np.array(found.v), np.zeros((m, n))
    np.fill_diagonal(sigma, values)
    scale = max(values[0], 1e-300)
    np.testing.assert_allclose(values, np.linalg.svd(matrix, compute_uv=False), rtol=rtol, atol=1e-14 * scale)
    np.testing.assert_allclose(u.T @ u, np.eye(m), atol=1e-12)
    np.testing.assert_allclose(v.T @ v, np.eye(n), atol=1e-12)
    np.testing.assert_allclose(u @ sigma @ v.T, matrix, atol=1e-13 * scale)
    assert found.residual <= 1e-13 * scale


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_have_their_known_answers(name):
    found = derive(EXAMPLES[name].rows)
    assert ([sigma.exact for sigma in found.singular_values], found.rank) == SQUARE_ROOTS[name]
    assert found.exact
    agrees_with_numpy(found, np.array(EXAMPLES[name].rows, dtype=float))
    told = [float(value) for value in EXAMPLES[name].singular_values.split(", ")]
    assert [sigma.value for sigma in found.singular_values] == pytest.approx(told, rel=5e-4)


def test_the_examples_are_what_they_are_said_to_be():
    deficient, hidden = (np.array(EXAMPLES[name].rows) for name in ("rank-deficient", "hidden-rank"))
    assert (deficient == np.outer([1, 2, 3], deficient[0])).all()
    assert (2 * hidden[2] == hidden[0] + hidden[1]).all()


def test_counting_is_reconstructed_to_rounding():
    found = derive(EXAMPLES["counting"].rows)
    assert [sigma.value for sigma in found.singular_values] == pytest.approx([25.4368356, 1.72261225, 0], rel=1e-8)
    assert 0 < found.residual < 5e-15


@pytest.mark.parametrize("seed", range(200))
def test_random_matrices_agree_with_numpy(seed):
    generator = np.random.default_rng(seed)
    m, n = generator.integers(1, 7, 2)
    matrix = generator.integers(-9, 10, (m, n)).astype(float)
    if seed % 3 == 0 and m > 1:  # some rows depend on others, and some values coincide
        matrix[-1] = matrix[0]
    found = derive(matrix)
    agrees_with_numpy(found, matrix, rtol=1e-11)
    assert found.rank == np.linalg.matrix_rank(matrix)


@pytest.mark.parametrize("rows", [
    [[1, 0], [0, 1]],
    [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
    [[2, 0, 0], [0, 2, 0], [0, 0, 1]],
    [[1, 1], [1, 1]],
    [[0, 0, 0], [0, 0, 0]],
    [[5]],
    [[-3, 4]],
    [[1], [2], [2]],
    [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]],
    [["1/3", "0.1"], ["-1e-3", "2"]],
])  # fmt: skip
def test_repeated_values_zeros_vectors_and_fractions_are_exact(rows):
    found = derive(rows)
    assert found.exact
    agrees_with_numpy(found, np.array([[float(entry) for entry in row] for row in found.matrix]))


@pytest.mark.parametrize(("rows", "why"), [
    ([[1, 1, 0], [0, 1, 1], [1, 0, 2]], "the characteristic polynomial has a factor of degree 3 that does not split"),
    ([[1] * 7] * 2, "exact arithmetic is done up to 6 × 6, and this is 2 × 7"),
    ([["0.1234567", 1], [1, 1]], "exact fractions would have 15 digits in the Gram matrix alone"),
])  # fmt: skip
def test_what_can_not_be_exact_is_rounded_and_says_why(rows, why):
    found = derive(rows)
    assert (found.exact, found.reason) == (False, why)
    agrees_with_numpy(found, np.array([[float(entry) for entry in row] for row in found.matrix]))


def test_small_singular_values_keep_their_digits_where_a_polynomial_gives_them():
    found = derive([[1, 1], [1, "1.0001"]])
    exactly = (4.00020001 - (4.00020001**2 - 4e-8) ** 0.5) / 2
    assert found.singular_values[1].value == pytest.approx(0.0001**2 / (4.00020001 - exactly) ** 0.5 / 0.0001, rel=1e-8)


def test_floats_that_are_of_low_rank_but_for_rounding_are_told_so():
    generator = np.random.default_rng(0)
    found = derive(generator.normal(size=(5, 2)) @ generator.normal(size=(2, 4)))
    assert found.rank == 2


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5, 3.5, 4.5])
def test_exact_arithmetic_gives_way_wherever_its_time_is_over(seconds):
    ticks = iter(range(1000))
    found = derive([[1, 2], [3, 4]], seconds=seconds, clock=lambda: float(next(ticks)))
    assert (found.exact, found.reason) == (False, f"exact arithmetic was not done after {seconds} s")
    agrees_with_numpy(found, np.array([[1.0, 2.0], [3.0, 4.0]]))


def test_lessons_tell_what_each_example_is_for():
    lessons = {name: derive(example.rows).lesson for name, example in EXAMPLES.items()}
    assert "its singular values are its eigenvalues" in lessons["symmetric"]
    assert "the axes are the singular vectors" in lessons["diagonal"]
    assert "Row 2 is 2 × row 1 and row 3 is 3 × row 1" in lessons["rank-deficient"]
    assert "Row 3 is the mean of rows 1 and 2" in lessons["hidden-rank"]
    assert "fall like 1/i" in lessons["power-law"]
    assert "two spaces" in lessons["counting"]
    assert "row 3 is 2 × row 2 − row 1" in lessons["counting"]


@pytest.mark.parametrize(("rows", "told"), [
    ([[2, 0], [0, 3]], "Nothing is turned."),
    ([[-2, 0], [0, 3]], "The negative entry mirrors its axis, u = −v there."),
    ([[-1, 0], [0, -1]], "The two negative entries mirror their axes, u = −v there, which together is a half turn."),
    ([[-1, 0, 0], [0, -1, 0], [0, 0, -4]], "The three negative entries mirror their axes, u = −v there."),
    ([[-7]], "its sign goes into u"),
])  # fmt: skip
def test_a_negative_entry_on_the_diagonal_is_a_mirror_and_two_are_a_half_turn(rows, told):
    assert told in derive(rows).lesson


def test_a_matrix_of_rank_1_has_one_vector_that_matters():
    assert "3 inputs, in which v₁ matters, and 1 output" in derive([[1, 2, 3]]).lesson
    assert "in which v₁ and v₂ matter, and" in derive([[1, 2, 3], [0, 1, 0]]).lesson

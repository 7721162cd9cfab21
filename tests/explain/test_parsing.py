"""A matrix is read exactly or refused in one line, and nothing in it is ever run."""

import contextlib
import pickle
from fractions import Fraction

import numpy as np
import pytest

from eigenscope.errors import InputError
from eigenscope.explain.parsing import entries, read, typed


def test_decimals_and_fractions_are_exact():
    assert typed("[[0.1, 1/3], [-2, 1e-3]]") == (
        (Fraction(1, 10), Fraction(1, 3)), (Fraction(-2), Fraction(1, 1000)),
    )  # fmt: skip
    assert typed(" [ [+.5 , −1.] ] ") == ((Fraction(1, 2), Fraction(-1)),)


def test_floats_are_the_shortest_decimal_that_stands_for_them():
    assert entries([[0.1, np.float32(0.1), True]]) == ((Fraction(1, 10), Fraction(1, 10), Fraction(1)),)


@pytest.mark.parametrize(("text", "why"), [
    ("[]", "is empty"),
    ("[[]]", "is empty"),
    ("[[1, 2], [3]]", "row 1 has 2 and row 2 has 1 numbers"),
    ("[1, 2]", "is not a matrix"),
    ("[[[1]]]", "is not a matrix"),
    ("[[1, 2]", "is not a matrix"),
    ("[[1, 2]] and more", "is not a matrix"),
    ("[[1,, 2]]", "is not a matrix"),
    ("[[1, 2],]", "is not a matrix"),
    ("[[1, a]]", "'a' in row 1, column 2 is not a number"),
    ("[[1, 2 3]]", "'2 3' in row 1, column 2 is not a number"),
    ("[[1+2j]]", "is not a number"),
    ("[[nan]]", "row 1, column 1 is nan: every entry must be a finite number"),
    ("[[-inf]]", "every entry must be a finite number"),
    ("[[1/0]]", "divides by zero"),
    ("[[1e99]]", "out of range"),
    ("[[1e99999999999999999999]]", "out of range"),
    (f"[[{'9' * 5000}]]", "out of range"),
    (f"[[{'1,' * 12}1]]", "is 1 × 13: up to 12 × 12 can be explained"),
    ("[" * 10_000, "is not a matrix"),
    ("[[" + "1," * 50_000, "characters long"),
    ("[[__import__('os').getcwd()]]", "is not a number"),
])  # fmt: skip
def test_what_is_no_matrix_is_refused_in_one_line(text, why):
    with pytest.raises(InputError) as caught:
        typed(text)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("rows", [3, [1, 2], np.zeros(3), [], [[object()]], None])
def test_rows_from_python_are_checked_too(rows):
    with pytest.raises(InputError):
        entries(rows)


@pytest.mark.parametrize("text", ["1,2\n3,4\n", "1;2\r\n3;4\r\n", "\ufeff1\t2\n\n3\t4", '"1", 2\n3,4'])
def test_csv_files_are_read(tmp_path, text):
    path = tmp_path / "matrix.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert read(path) == typed("[[1, 2], [3, 4]]")


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "uint64", "bool", ">f8"])
def test_npy_files_are_read(tmp_path, kind):
    np.save(tmp_path / "matrix.npy", np.eye(2, dtype=kind))
    assert read(tmp_path / "matrix.npy") == typed("[[1, 0], [0, 1]]")


@pytest.mark.parametrize(("name", "content", "why"), [
    ("a.csv", b"", "is empty"),
    ("a.csv", b"1,2\n3\n", "differ in length"),
    ("a.csv", b"x,y\n1,2\n", "begins with a header line"),
    ("a.csv", b"1,2\n,\n", "is not a number"),
    ("a.csv", b"\xff\xfe\x00", "is not text"),
    ("a.csv", b"1," * 50_000, "too large"),
    ("a.npy", b"", "is not a NumPy array"),
    ("a.npy", pickle.dumps([[1]]), "is not a NumPy array"),
    ("a.npy", b"\x93NUMPY\x01\x00\xff\xff", "is damaged"),
    ("a.txt", b"1,2", "is not a .csv or .npy file"),
])  # fmt: skip
def test_bad_files_are_refused_by_name(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=why) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.parametrize(("array", "why"), [
    (np.zeros(3), "has 1 dimension"),
    (np.zeros((2, 2, 2)), "has 3 dimensions"),
    (np.zeros((0, 3)), "is empty"),
    (np.zeros((2, 2), complex), "holds complex128"),
    (np.array([["a"]]), "holds <U1"),
    (np.zeros((13, 2)), "is 13 × 2"),
    (np.array([[np.nan]]), "finite"),
    (np.array([[print]]), "pickled Python objects, which are never loaded"),
])  # fmt: skip
def test_arrays_that_are_no_small_matrix_are_refused(tmp_path, array, why):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=why):
        read(tmp_path / "a.npy")


def test_a_header_that_claims_more_than_the_file_holds_costs_nothing(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    whole = (tmp_path / "a.npy").read_bytes()
    claimed = whole.replace(b"(2, 2), }            ", b"(9999999, 9999999), }", 1)
    assert claimed != whole
    (tmp_path / "a.npy").write_bytes(claimed)
    with pytest.raises(InputError, match="is damaged"):
        read(tmp_path / "a.npy")


def test_corrupted_files_never_end_in_a_traceback(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(12.0).reshape(3, 4))
    whole, generator = (tmp_path / "a.npy").read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(whole)
        for _ in range(generator.integers(1, 9)):
            broken[generator.integers(len(broken))] = generator.integers(256)
        (tmp_path / "a.npy").write_bytes(
            broken[: generator.integers(len(broken)) if generator.random() < 0.3 else None]
        )
        with contextlib.suppress(InputError):
            read(tmp_path / "a.npy")


def test_a_missing_file_and_a_folder_say_so(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="there is no file"):
        read(tmp_path / ("long" * 1000 + ".csv"))
    with pytest.raises(InputError, match=r"not a \.csv or"):
        read(tmp_path)

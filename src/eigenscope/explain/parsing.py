"""A small matrix from what somebody typed, or from a .csv or .npy file. Nothing that is read is ever run."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from eigenscope.errors import InputError, first_line

LARGEST = 12  # rows and columns: what a page can show
_LONGEST_TEXT = 20_000  # characters
_LONGEST_NUMBER = 60
_LARGEST_EXPONENT = 30
_NUMBER = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(?:e([+-]?\d+))?(?:/(\d+\.?\d*|\.\d+))?", re.IGNORECASE | re.ASCII)
_TOKEN = re.compile(r"\s*([\[\],]|[^\[\],\s][^\[\],]*)")

Rows = tuple[tuple[Fraction, ...], ...]


def typed(text: str) -> Rows:
    """A matrix as "[[3, 2], [2, 3]]", with decimals and fractions taken exactly: 0.1 is 1/10."""
    if len(text) > _LONGEST_TEXT:
        raise InputError(f"the matrix is {len(text):,} characters long: up to {LARGEST} × {LARGEST} can be explained")
    tokens = _TOKEN.findall(text)
    rest = iter(tokens)
    if next(rest, "") != "[":
        raise _malformed(text)
    lines = list(_list_of_rows(rest, text))
    if next(rest, None) is not None:
        raise _malformed(text)
    return entries(lines)


def _list_of_rows(tokens: Iterator[str], text: str) -> Iterator[list[str]]:
    token = next(tokens, "")
    if token == "]":
        return
    while True:
        if token != "[":
            raise _malformed(text)
        yield list(_cells(tokens, text))
        closing = next(tokens, "")
        if closing == "]":
            return
        if closing != ",":
            raise _malformed(text)
        token = next(tokens, "")


def _cells(tokens: Iterator[str], text: str) -> Iterator[str]:
    token = next(tokens, "")
    if token == "]":
        return
    while True:
        if token in ("[", "]", ",", ""):
            raise _malformed(text)
        yield token.strip()
        closing = next(tokens, "")
        if closing == "]":
            return
        if closing != ",":
            raise _malformed(text)
        token = next(tokens, "")


def _malformed(text: str) -> InputError:
    return InputError(f'{shown(text)} is not a matrix: write its rows in brackets, as "[[3, 2], [2, 3]]"')


def read(path: Path) -> Rows:
    """The matrix in a .csv or .npy file."""
    if not os.path.exists(path):  # unlike Path.exists, False for a name that is too long
        raise InputError(
            f"there is no file {shown(str(path))}: give a matrix, a .csv or .npy file, or an example's name"
        )
    kinds = {".csv": _csv, ".npy": _npy}
    if path.is_dir() or path.suffix.lower() not in kinds:
        raise InputError(f"{str(path)!r} is not a .csv or .npy file")
    try:
        rows = kinds[path.suffix.lower()](path)
        if path.suffix.lower() == ".csv" and _has_header(rows):
            raise InputError("begins with a header line: remove it, so that only the numbers are left")
        return entries(rows)
    except OSError as error:
        raise InputError(f"can't read {str(path)!r}: {error.strerror or first_line(error)}") from error
    except InputError as error:
        raise InputError(f"{str(path)!r}: {error}") from error


def _csv(path: Path) -> list[list[object]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            text = file.read(_LONGEST_TEXT + 1)
        except UnicodeDecodeError:
            raise InputError("is not text") from None
    if len(text) > _LONGEST_TEXT:
        raise InputError(f"is too large: up to {LARGEST} × {LARGEST} can be explained")
    separator = next((sign for sign in ";\t" if sign in text), ",")
    try:
        return [[cell.strip() for cell in line] for line in csv.reader(text.splitlines(), delimiter=separator) if line]
    except csv.Error as error:
        raise InputError(f"is not CSV: {first_line(error)}") from None


def _has_header(rows: Sequence[Sequence[object]]) -> bool:
    """Whether only the first of several lines holds words alone."""
    numbers = [[_NUMBER.fullmatch(str(cell).replace("−", "-")) is not None for cell in row] for row in rows]
    return len(rows) > 1 and not any(numbers[0]) and all(map(all, numbers[1:]))


def _npy(path: Path) -> list[list[object]]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: no more than the file holds is read
    except OSError:
        raise
    except Exception as error:  # of a damaged header: a dozen kinds, down to tokenize.TokenError
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise InputError("is not a NumPy array, whatever its ending says") from error
        if "object" in str(error).lower() or "pickle" in str(error).lower():
            raise InputError("holds pickled Python objects, which are never loaded: save plain numbers") from error
        raise InputError(f"is damaged: {first_line(error)}") from error
    if not isinstance(array, np.ndarray):  # an archive of several
        raise InputError("holds more than one array: save the matrix with numpy.save")
    return _entries_of(array)


def _entries_of(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> list[list[object]]:
    if array.ndim != 2:
        raise InputError(f"has {array.ndim} dimensions (shape {array.shape}): a matrix has two")
    if array.dtype.kind not in "biuf":
        raise InputError(f"holds {array.dtype}, not real numbers")
    if max(array.shape) > LARGEST:
        raise _too_large(*array.shape)
    return [list(row) for row in (array.astype(np.int8) if array.dtype.kind == "b" else array)]


def entries(rows: Sequence[Sequence[object]]) -> Rows:
    """Checked rows as exact fractions."""
    if isinstance(rows, str):
        return typed(rows)
    try:
        lines = [list(row) for row in rows]
    except TypeError:
        raise InputError("a matrix is given by its rows, as [[3, 2], [2, 3]]") from None
    if not lines or not any(lines):
        raise InputError("the matrix is empty: it needs at least one row with one number")
    lengths = [len(line) for line in lines]
    if len(set(lengths)) > 1:
        other = next(i for i, length in enumerate(lengths) if length != lengths[0])
        raise InputError(
            f"the rows differ in length: row 1 has {lengths[0]} and row {other + 1} has {lengths[other]} numbers"
        )
    if max(len(lines), lengths[0]) > LARGEST:
        raise _too_large(len(lines), lengths[0])
    return tuple(
        tuple(_number(entry, i, j) for j, entry in enumerate(line, 1)) for i, line in enumerate(lines, 1)
    )  # fmt: skip


def _too_large(rows: int, columns: int) -> InputError:
    limit = f"up to {LARGEST} × {LARGEST} can be explained"
    return InputError(f"the matrix is {rows} × {columns}: {limit}; eigenscope scan takes any size")


def _number(entry: object, row: int, column: int) -> Fraction:
    place = f"row {row}, column {column}"
    plain = Fraction(entry) if isinstance(entry, bool) else entry
    text = str(plain).replace("−", "-").strip()
    if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise InputError(f"{place} is {text}: every entry must be a finite number")
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise InputError(f"{shown(text)} in {place} is not a number: write it as 3, -0.5, 1e-3 or 1/3")
    if len(text) > _LONGEST_NUMBER or abs(int(match[3] or 0)) > _LARGEST_EXPONENT:
        raise _out_of_range(text, place)
    if match[4] is not None and not Fraction(match[4]):
        raise InputError(f"{shown(text)} in {place} divides by zero")
    number = Fraction(f"{match[1]}{match[2]}e{match[3] or 0}") / Fraction(match[4] or 1)
    if number and abs(math.log10(abs(number))) > _LARGEST_EXPONENT:
        raise _out_of_range(text, place)
    return number


def _out_of_range(text: str, place: str) -> InputError:
    limits = f"from 1e-{_LARGEST_EXPONENT} to 1e{_LARGEST_EXPONENT}"
    return InputError(
        f"{shown(text)} in {place} is out of range: sizes {limits} in at most {_LONGEST_NUMBER} characters"
    )


def shown(text: str) -> str:
    """What was given, quoted and cut for a message."""
    one_line = " ".join(text.split())
    return repr(one_line if len(one_line) <= 60 else f"{one_line[:57]}...")

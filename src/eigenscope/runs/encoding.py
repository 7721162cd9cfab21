"""Between Python values and what a run file holds."""

import json
import math
import sqlite3
from collections.abc import Mapping
from typing import Any

import numpy as np

INT64 = 2**63


def to_json(value: object) -> str:
    """JSON in which NaN and infinities stay what they are; arrays become lists, the unknown its `repr`."""
    return json.dumps(value, default=_plain, separators=(",", ":"))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    tolist = getattr(value, "tolist", None)  # NumPy arrays and scalars, torch tensors
    return repr(value) if tolist is None else tolist()


def scalar_row(step: object, value: Any, error: Any) -> tuple[int, float | None, float | None]:
    """`(step, value, error)` as stored: a NaN value is NULL; a NaN error (of unknown size) is infinite.

    Raises TypeError, ValueError or OverflowError where they are not numbers.
    """
    number, row_step = _number(value), whole_step(step)
    if error is not None:
        error = _number(error)
        error = math.inf if math.isnan(error) else error
    return row_step, None if math.isnan(number) else number, error


def _number(value: Any) -> float:
    return float(value.item() if hasattr(value, "item") else value)


def whole_step(step: Any) -> int:
    """A step as the file holds it; raises OverflowError beyond 64 bits."""
    number = int(step)
    if not -INT64 <= number < INT64:
        raise OverflowError(f"step {number} does not fit in 64 bits")
    return number


def split_density(
    step: int, reading: Mapping[str, object]
) -> tuple[dict[str, object], tuple[int, bytes, bytes, str] | None]:
    """A reading without the arrays of its density, and the row of `densities` that they make.

    The density of a reading may come from an earlier step, which its own "step" names; it is stored once.
    """
    density = reading.get("density")
    if not isinstance(density, Mapping) or not {"grid", "values"} <= density.keys():
        return dict(reading), None
    rest = {key: value for key, value in density.items() if key not in ("grid", "values")}
    density_step = whole_step(rest.setdefault("step", step))
    grid, values = (np.asarray(density[key], dtype="<f8").tobytes() for key in ("grid", "values"))
    return {**reading, "density": {"step": density_step}}, (density_step, grid, values, to_json(rest))


def density_dict(grid: bytes, values: bytes, rest: str) -> dict[str, Any]:
    """A row of `densities` as it was given."""
    arrays = {"grid": np.frombuffer(grid, "<f8").tolist(), "values": np.frombuffer(values, "<f8").tolist()}
    return {**arrays, **json.loads(rest)}


def one_line(error: BaseException) -> str:
    """An error as one line: SQLite's words where it has any."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "the disk is full" if isinstance(error, sqlite3.Error) and "disk is full" in text else text

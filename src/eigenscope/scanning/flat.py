"""Matrices as flat records: the rows of a CSV file and of a pandas table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from eigenscope.errors import InputError
from eigenscope.weights.reading import WeightReading

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = (
    "rows", "columns", "effective_rank", "entropy_rank", "stable_rank", "condition_number", "spectral_norm",
    "frobenius_norm", "variance_at_10", "rank_at_90", "rank_at_95", "rank_at_99", "rank", "rounding_floor", "alpha",
    "alpha_x_min", "alpha_tail_count", "alpha_distance", "alpha_preferred", "noise_edge", "spikes", "spectrum_shape",
)  # fmt: skip
_TAIL = ("alpha", "x_min", "tail_count", "distance", "preferred")


def numbers(reading: WeightReading) -> dict[str, object]:
    """Every number of a matrix by the names of `NUMBERS`; None where there is none."""
    fit = reading.alpha
    tail = {name: getattr(fit, name) if fit else None for name in _TAIL}
    known = {name: getattr(reading, name) for name in NUMBERS if hasattr(reading, name)}
    return known | {
        "condition_number": reading.condition_number.value,
        "spectral_norm": reading.spectral_norm.value,
        "alpha": tail["alpha"],
        **{f"alpha_{name}": tail[name] for name in _TAIL[1:]},
        "noise_edge": reading.noise.edge,
        "spikes": reading.noise.spikes,
    }


def frame(records: Sequence[Mapping[str, object]], titles: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """A pandas table, a row a matrix by its title. Raises `InputError` where pandas is not installed."""
    try:
        import pandas as pd
    except ImportError:
        raise InputError("to_pandas needs pandas: pip install 'eigenscope[pandas]'") from None
    return pd.DataFrame(records, index=pd.Index(titles, name="matrix"), columns=pd.Index(columns))

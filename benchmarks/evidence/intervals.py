"""Shares and medians over seeds with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import beta, chi2


def share(hits: int, of: int) -> dict[str, float]:
    """Clopper and Pearson's exact interval of a share (1934)."""
    low = float(beta.ppf(0.025, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, of - hits)) if hits < of else 1.0
    return {"value": hits / of if of else float("nan"), "low": low, "high": high, "hits": hits, "of": of}


def rate(events: int, exposure: float, per: float = 10_000) -> dict[str, float]:
    """Garwood's exact interval of a Poisson rate (1936), such as false alarms per 10,000 steps."""
    low = float(chi2.ppf(0.025, 2 * events) / 2) if events else 0.0
    high = float(chi2.ppf(0.975, 2 * events + 2) / 2)
    return {
        "value": per * events / exposure,
        "low": per * low / exposure,
        "high": per * high / exposure,
        "events": events,
    }


def median(values: Sequence[float], seed: int = 0) -> dict[str, float]:
    """The median with a percentile bootstrap over the seeds (Efron 1979); infinite is a run that never got there."""
    data = np.asarray(values, dtype=float)
    draws = np.random.default_rng(seed).integers(len(data), size=(2000, len(data)))
    medians = np.sort(np.median(data[draws], axis=1))
    return {
        "value": float(np.median(data)),
        "low": float(medians[49]),
        "high": float(medians[1949]),
        "seeds": len(data),
    }


def text(found: dict[str, float], form: str = ".0f") -> str:
    """A figure with its interval: `12 [10, 15]`."""
    return f"{found['value']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"

"""The trace: exact on the Krylov basis, Hutchinson's estimate on its complement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from eigenscope.estimators.lanczos import Krylov
from eigenscope.operators import Operator


@dataclass(frozen=True)
class TraceEstimate:
    """tr A with its standard error, and ‖A‖²_F, from `num_probes` random vectors (0: exact)."""

    value: float
    standard_error: float
    frobenius_squared: float
    num_probes: int


def deflated_trace(
    operator: Operator,
    krylov: Krylov,
    *,
    generator: torch.Generator,
    tolerance: float = 0.025,
    max_probes: int = 12,
    min_probes: int = 2,
) -> TraceEstimate:
    """tr A = tr QᵀAQ + tr PAP, P = I − QQᵀ, the second by u uniform on the complement's sphere (Meyer et al. 2021).

    For such u of dimension d, E d·uᵀAu = tr PAP and Var d·uᵀAu = 2d/(d+2)·(‖PAP‖²_F − (tr PAP)²/d), and
    ‖PAP‖²_F = d·E‖PAu‖² comes from the same products: so the error is known well from a few probes. Stops when the
    standard error is `tolerance` of the trace.
    """
    exact, rest = float(np.trace(krylov.projected)), operator.space.size - krylov.basis.count
    known = float(np.sum(krylov.projected**2) + 2 * np.sum(krylov.coupling**2))
    if rest <= 0 or max_probes <= 0:
        return TraceEstimate(exact, 0.0 if rest <= 0 else float("inf"), known, 0)
    forms: list[float] = []
    squares: list[float] = []
    while len(forms) < max_probes:
        u, _ = krylov.basis.orthogonalize(operator.space.random(generator))
        u = u / operator.space.norm(u)
        product, _ = krylov.basis.orthogonalize((operator @ u).to(u.dtype))
        forms.append(rest * operator.space.dot(u, product))
        squares.append(rest * operator.space.norm(product) ** 2)
        estimate = _estimate(exact, known, rest, forms, squares)
        if len(forms) >= min(min_probes, max_probes) and estimate.standard_error <= tolerance * abs(estimate.value):
            break
    return estimate


def _estimate(exact: float, known: float, rest: int, forms: list[float], squares: list[float]) -> TraceEstimate:
    count = len(forms)
    mean, frobenius = float(np.mean(forms)), float(np.mean(squares))
    spread = 2 * rest / (rest + 2) * max(frobenius - mean**2 / rest, 0.0)
    return TraceEstimate(exact + mean, float((spread / count) ** 0.5), known + frobenius, count)

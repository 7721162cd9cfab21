"""One block over all batches of a probe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.flow import BlockFlow, Branch, Distribution, growth_of


def merged(parts: Sequence[BlockFlow]) -> BlockFlow:
    """The block's Jacobian over all batches is block diagonal: the largest σ_max, the smallest σ_min, the mean of
    ‖J‖²_F/n by their sizes n, the norms of all together.
    """
    blocks = [part for part in parts if part.shape is not None]
    if len(blocks) < 2:
        return blocks[0] if blocks else parts[0]
    shares = np.array([math.prod(block.shape[0]) for block in blocks if block.shape], dtype=float)
    shares /= shares.sum()
    before, after = _norms([b.gradient_norm for b in blocks])
    branches = [b.branch for b in blocks if b.branch is not None]
    minima = [b.sigma_min for b in blocks if b.sigma_min is not None]
    spectra = [b.spectrum for b in blocks if b.spectrum is not None]
    return replace(
        blocks[0],
        sigma_max=_largest([b.sigma_max for b in blocks]),
        sigma_rms=_mean([b.sigma_rms for b in blocks], shares),
        sigma_min=min(minima, key=lambda e: e.value or 0.0, default=None),
        growth=growth_of(before, after),
        activation_norm=_norms([b.activation_norm for b in blocks]),
        gradient_norm=(before, after),
        branch=Branch(_largest([b.sigma_max for b in branches]), _mean([b.sigma_rms for b in branches], shares))
        if len(branches) == len(blocks)
        else None,
        spectrum=_joined(spectra, shares) if len(spectra) == len(blocks) else None,
        num_matvecs=sum(b.num_matvecs for b in blocks),
    )


def _largest(estimates: Sequence[Estimate]) -> Estimate:
    return max(estimates, key=lambda estimate: estimate.value or 0.0)


def _mean(estimates: Sequence[Estimate], shares: np.ndarray) -> Estimate:
    """Root mean square; its standard error by propagation."""
    values = np.array([estimate.value or 0.0 for estimate in estimates])
    errors = np.array([estimate.standard_error or 0.0 for estimate in estimates])
    rms = float(np.sqrt(shares @ values**2))
    spread = float(np.linalg.norm(shares * values * errors)) / rms if rms > 0 else 0.0
    return Estimate(rms, standard_error=spread)


def _norms(pairs: Sequence[tuple[float, float] | None]) -> tuple[float, float]:
    first, second = np.linalg.norm(np.array([pair for pair in pairs if pair is not None]), axis=0).tolist()
    return first, second


def _joined(spectra: Sequence[Distribution], shares: np.ndarray) -> Distribution:
    pairs = sorted(
        (sigma, share * part)
        for spectrum, part in zip(spectra, shares.tolist(), strict=True)
        for sigma, share in zip(spectrum.sigma, spectrum.share, strict=True)
    )
    methods = {spectrum.method for spectrum in spectra}
    method = "exact" if methods == {"exact"} else "lanczos_quadrature"
    return Distribution(tuple(sigma for sigma, _ in pairs), tuple(share for _, share in pairs), method)

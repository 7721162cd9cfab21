"""Matrices whose singular values are prescribed."""

import numpy as np


def conjugated(sigma, rows=None, columns=None, seed=0):
    """U diag(σ) Vᵀ, rows × columns, with random orthonormal U and V."""
    generator, k = np.random.default_rng(seed), len(sigma)
    u, _ = np.linalg.qr(generator.standard_normal((rows or k, k)))
    v, _ = np.linalg.qr(generator.standard_normal((columns or k, k)))
    return (u * np.asarray(sigma, float)) @ v.T


SPECTRA = {
    "flat": np.ones(90),
    "exponential": np.exp(-np.arange(90) / 6),
    "power law": np.arange(1, 91) ** -0.7,
    "noise": np.linspace(2, 0.01, 90),
    "degenerate": np.r_[np.full(40, 5.0), np.full(50, 1.0)],
    "pairs": np.repeat(np.linspace(9, 1, 45), 2),
    "a step": np.r_[np.full(5, 10.0), np.full(85, 1e-3)],
    "rank 7": np.r_[np.linspace(3, 1, 7), np.zeros(83)],
    "from 1 to 1e-12": np.logspace(0, -12, 90),
    "tiny": 1e-200 / np.arange(1, 91),
    "huge": 1e200 / np.arange(1, 91),
}
METHODS = ("exact", "gram", "randomized", "auto")

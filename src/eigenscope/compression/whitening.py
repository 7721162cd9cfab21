"""The best low-rank layer for the data: truncation in the coordinates in which every error counts the same.

With C the covariance of what a layer sees and G that of the gradients at its outputs, the least ‖G^½ (W − W′) C^½‖ over
matrices of rank k is a truncated SVD of G^½ W C^½ (Eckart–Young). One eigendecomposition on the smaller side gives its
factors: W′ = L D W with L = G^-½ Q and D = Qᵀ G^½, or W′ = W E R with E = C^½ Q and R = Qᵀ C^-½. What the means
contribute goes into the bias. Both covariances are shrunk (Chen et al. 2010) towards what a layer would see without
data, so that a calibration of fewer samples than dimensions falls back on the plain SVD.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.compression.candidates import Candidate
from eigenscope.compression.layers import bias_of, matrix_of
from eigenscope.compression.moments import oas_shrinkage
from eigenscope.compression.statistics import Statistics
from eigenscope.estimators.gram import singular_spectrum

_FLOOR = 1e-10  # of the largest eigenvalue: what fp64 tells from 0, with room
_SHIFT = 0.01  # a mean error below this share of the rest is not worth a bias where there was none


@dataclass(frozen=True)
class Factors:
    """A layer as `left @ right @ x + bias`, in fp64."""

    left: Float[Tensor, "m r"]
    right: Float[Tensor, "r n"]
    bias: Float[Tensor, " m"] | None


@dataclass(frozen=True)
class Truncation:
    """A layer at every rank: W′ = into[:, :r] @ onto[:r].

    `effects[r]` is the predicted squared change of the model's output at rank r, as a share of its variation; where
    nothing is known of the output, the squared relative error of the layer's.
    """

    candidate: Candidate
    effects: Float[Tensor, " k1"]
    into: Float[Tensor, "m k"]
    onto: Float[Tensor, "k n"]
    dual: Float[Tensor, "k m"]  # onto = dual @ W, where the statistics are of outputs
    statistics: Statistics | None
    absorb: bool  # by what the data say: the mean error goes into the bias

    def cost(self, rank: int) -> int:
        """Parameters at a rank, a bias that may be added counted."""
        added = self.absorb and bias_of(self.candidate.module) is None
        return self.candidate.cost(rank) + (self.candidate.rows if added else 0)

    @property
    def rank_useful(self) -> int:
        """The largest rank that makes the layer smaller; 0 where none does."""
        each = self.candidate.rows + self.candidate.columns
        return max(min(self.candidate.rank_full, (self.candidate.parameters - 1 - self.cost(0)) // each), 0)

    def factors(self, rank: int) -> Factors:
        """The two factors, sharing the singular values evenly, and the bias."""
        left, right = balanced(self.into[:, :rank], self.onto[:rank])
        bias = bias_of(self.candidate.module)
        if not self.absorb:
            return Factors(left, right, bias)
        shift, lost = self._errors(rank)
        if bias is None:
            return Factors(left, right, shift if _matters(shift, lost) else None)
        return Factors(left, right, bias + shift)

    def output_error(self, rank: int) -> float | None:
        """√(Σw‖y − y′‖² / Σw‖y − ȳ‖²) over the rows seen, w the squared gradient that came back to each.

        None where that is not known.
        """
        if self.statistics is None:
            return None
        shift, lost = self._errors(rank)
        has_bias = bias_of(self.candidate.module) is not None
        absorbed = self.absorb and (has_bias or _matters(shift, lost))
        return relative(lost + (0.0 if absorbed else float(shift @ shift)), self._whole())

    def output_error_bound(self, rank: int) -> float | None:
        """The least output error of any affine layer of this rank on these rows."""
        if self.statistics is None:
            return None
        return relative(float(self._output_tails[rank]), self._whole())

    def weight_error_bound(self, rank: int) -> float:
        """‖W − W′‖_F / ‖W‖_F of the nearest matrix of this rank (Eckart–Young)."""
        return math.sqrt(float(self._weight_tails[rank]))

    @cached_property
    def _weight_tails(self) -> Tensor:
        if not self.absorb:  # then they are the effects
            return self.effects
        sigma = torch.from_numpy(singular_spectrum(matrix_of(self.candidate.module)).singular_values)
        return _tails(sigma**2 / max(float((sigma**2).sum()), torch.finfo(torch.float64).tiny))

    @cached_property
    def _output_tails(self) -> Tensor:
        """The least squared error of the outputs at every rank."""
        assert self.statistics is not None
        spectrum = self.statistics.moments.covariance
        if self.statistics.of_inputs:
            root, _ = roots(spectrum)
            spectrum = root @ self._gram() @ root
        return _tails(torch.linalg.eigvalsh(spectrum).flip(0))

    def _errors(self, rank: int) -> tuple[Tensor, float]:
        """The mean error of the outputs, and the mean squared error around it."""
        assert self.statistics is not None
        moments = self.statistics.moments
        if self.statistics.of_inputs:
            lacking = matrix_of(self.candidate.module) - self.into[:, :rank] @ self.onto[:rank]
            mean = moments.mean
        else:
            identity = torch.eye(moments.width, dtype=torch.float64, device=moments.device)
            lacking = identity - self.into[:, :rank] @ self.dual[:rank]
            bias = bias_of(self.candidate.module)
            mean = moments.mean if bias is None else moments.mean - bias
        return lacking @ mean, max(float(((lacking @ moments.covariance) * lacking).sum()), 0.0)

    def _whole(self) -> float:
        """The mean squared distance of the outputs from their mean."""
        assert self.statistics is not None
        covariance = self.statistics.moments.covariance
        return float((covariance * self._gram()).sum() if self.statistics.of_inputs else covariance.trace())

    def _gram(self) -> Tensor:
        weight = matrix_of(self.candidate.module)
        return weight.T @ weight


def plain(candidate: Candidate, statistics: Statistics | None = None) -> Truncation:
    """By the singular values of the weight alone; statistics only measure it."""
    left, sigma, right = torch.linalg.svd(matrix_of(candidate.module), full_matrices=False)
    effects = _tails(sigma**2 / max(float((sigma**2).sum()), torch.finfo(torch.float64).tiny))
    return Truncation(candidate, effects, left, sigma[:, None] * right, left.T, statistics, absorb=False)


def whitened(statistics: Statistics) -> Truncation:
    """By what the data and the model's output make of it."""
    candidate, moments = statistics.candidate, statistics.moments
    weight = matrix_of(candidate.module)
    squares = weight.T @ weight if statistics.of_inputs else weight @ weight.T
    blind = torch.eye(len(squares), dtype=torch.float64, device=squares.device)
    if statistics.of_inputs:
        covariance = mixed(moments.covariance, blind, moments.samples)
        sensitivity = mixed(statistics.sensitivity, squares, statistics.draws)
        root, inverse = roots(covariance)
        values, vectors = _descending(root @ sensitivity @ root)
        into, onto, dual = weight @ root @ vectors, vectors.T @ inverse, weight.new_zeros(0, 0)
    else:
        covariance = mixed(moments.covariance, squares, moments.samples)
        root, inverse = roots(mixed(statistics.sensitivity, blind, statistics.draws))
        values, vectors = _descending(root @ covariance @ root)
        into, dual = inverse @ vectors, vectors.T @ root
        onto = dual @ weight
    return Truncation(candidate, _tails(values), into, onto, dual, statistics, absorb=True)


def mixed(covariance: Tensor, prior: Tensor, samples: float) -> Tensor:
    """A covariance shrunk towards `prior`, scaled to the same trace; the prior alone where nothing was seen."""
    size, known = float(covariance.trace()), float(prior.trace())
    if not known > 0:
        return covariance
    if not size > 0:
        return prior / known * len(prior)
    share = oas_shrinkage(covariance, samples)
    return (1 - share) * covariance + share * size / known * prior


def roots(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric square root and its inverse, eigenvalues below the floor raised to it."""
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp_min(max(_FLOOR * float(values[-1]), torch.finfo(torch.float64).tiny)).sqrt()
    return (vectors * values) @ vectors.T, (vectors / values) @ vectors.T


def balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The same product from factors with orthogonal columns and rows that share the singular values evenly."""
    inner_left, tall = torch.linalg.qr(left)
    inner_right, wide = torch.linalg.qr(right.T)
    u, sigma, v = torch.linalg.svd(tall @ wide.T, full_matrices=False)
    root = sigma.sqrt()
    return (inner_left @ u) * root, root[:, None] * (v @ inner_right.T)


def _descending(matrix: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return values.flip(0), vectors.flip(1)


def _tails(values: Tensor) -> Tensor:
    """Σ over i ≥ r, for r = 0 … k."""
    sums = values.clamp_min(0).flip(0).cumsum(0).flip(0)
    return torch.cat([sums, sums.new_zeros(1)])


def _matters(shift: Tensor, lost: float) -> bool:
    """Whether a mean error is worth a bias where there was none."""
    return float(shift @ shift) > _SHIFT * lost


def relative(error: float, whole: float) -> float | None:
    """√(error ÷ whole); 0 where both are, None where there is nothing to compare with."""
    if whole > 0:
        return math.sqrt(max(error, 0.0) / whole)
    return None if error > 0 else 0.0

"""Principal components, under the names that scikit-learn gave them."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.errors import InputError
from eigenscope.lowrank.matrix import Array, Matrix, returned, tensor_of
from eigenscope.lowrank.truncation import truncated_svd


class NotFittedError(InputError, AttributeError):
    """Nothing has been fitted yet; an AttributeError too, so that `hasattr` says no."""


class PCA:
    """Principal component analysis by the singular values of the centred rows, in fp64.

    Parameters
    ----------
    n_components
        How many components; a float in (0, 1): as few as explain more than that share of the variance; None: all,
        min(samples, features).
    method, tolerance, seed
        As in `es.truncated_svd`. The default agrees with scikit-learn's full solver to the rounding of fp64; `auto`
        is many times cheaper for large data, and each singular value is proven to `tolerance`.

    Attributes
    ----------
    components_
        n_components_ × features, orthonormal rows; the largest entry of each by size is positive.
    explained_variance_, explained_variance_ratio_
        σ²/(samples − 1) of each component, and its share of the whole variance.
    singular_values_, mean_, n_components_, n_features_in_, n_samples_
        σ of the centred rows, their mean, and the sizes.
    noise_variance_
        The mean variance of the directions left out (Tipping & Bishop 1999), 0 where none is.

    Arrays are of the kind of what `fit` was given. Nothing is divided by a standard deviation: scale columns of
    different units yourself. InputError where X is no finite real matrix of two rows or more, where n_components is
    not possible, or where the number of features is not that of `fit`.

    Source: Jolliffe 2002, "Principal Component Analysis"; names and signs as in scikit-learn.
    """

    components_: Float[Array, "k n"]
    explained_variance_: Float[Array, " k"]
    explained_variance_ratio_: Float[Array, " k"]
    singular_values_: Float[Array, " k"]
    mean_: Float[Array, " n"]
    noise_variance_: float
    n_components_: int
    n_features_in_: int
    n_samples_: int

    def __init__(
        self,
        n_components: int | float | None = None,
        *,
        method: str = "exact",
        tolerance: float = 1e-3,
        seed: int = 0,
    ) -> None:
        self.n_components, self.method, self.tolerance, self.seed = n_components, method, tolerance, seed

    def fit(self, X: Float[Array, "m n"], y: object = None) -> PCA:
        """Find the components of the rows of X; `y` is there for pipelines, and not looked at."""
        self._fitted(X)
        return self

    def fit_transform(self, X: Float[Array, "m n"], y: object = None) -> Float[Array, "m k"]:
        """The coordinates of the rows of X among their own components."""
        left, values = self._fitted(X)
        return returned(left * values, X)  # type: ignore[no-any-return]

    def transform(self, X: Float[Array, "r n"]) -> Float[Array, "r k"]:
        """The coordinates of rows among the components."""
        rows = self._like(X, self.n_features_in_, "features")
        components = _double(self.components_).to(rows.device)
        return returned((rows - _double(self.mean_).to(rows.device)) @ components.T, X)  # type: ignore[no-any-return]

    def inverse_transform(self, X: Float[Array, "r k"]) -> Float[Array, "r n"]:
        """The rows that have these coordinates."""
        coordinates = self._like(X, self.n_components_, "components")
        components = _double(self.components_).to(coordinates.device)
        return returned(coordinates @ components + _double(self.mean_).to(coordinates.device), X)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"PCA(n_components={self.n_components}, method={self.method!r})"

    def _fitted(self, X: Array) -> tuple[Tensor, Tensor]:
        """Set every attribute; gives U and σ."""
        whole = Matrix(X)
        rows = whole.source.to(torch.float64)
        samples, features = rows.shape
        if samples < 2:
            raise InputError("X has 1 row: a variance takes two or more")
        wanted, mean = self._wanted(samples, features), rows.mean(0)
        centred = rows - mean
        total = float((centred * centred).sum()) / (samples - 1)
        found = truncated_svd(
            centred,
            wanted if isinstance(wanted, int) else None,
            energy=None if isinstance(wanted, int) else wanted,
            method=self.method,
            tolerance=self.tolerance,
            seed=self.seed,
        )
        left, sigma, components = (torch.as_tensor(item) for item in (found.U, found.singular_values, found.Vt))
        variance, rest = sigma**2 / (samples - 1), min(samples, features) - found.rank
        self.components_, self.singular_values_ = returned(components, X), returned(sigma, X)
        self.explained_variance_, self.mean_ = returned(variance, X), returned(mean, X)
        self.explained_variance_ratio_ = returned(variance / total if total > 0 else variance, X)
        left_out = found.eckart_young_frobenius**2 / (samples - 1)
        self.noise_variance_ = left_out / rest if rest else 0.0
        self.n_components_, self.n_features_in_, self.n_samples_ = found.rank, features, samples
        return left, sigma

    def _wanted(self, samples: int, features: int) -> int | float:
        asked, most = self.n_components, min(samples, features)
        if asked is None:
            return most
        whole = isinstance(asked, Integral) and not isinstance(asked, bool)
        if whole and 1 <= asked <= most:
            return int(asked)
        if not whole and isinstance(asked, Real) and not isinstance(asked, bool) and 0 < asked < 1:
            return float(asked)
        raise InputError(
            f"n_components={asked!r} is not possible for {samples} × {features}: give a whole number from 1 to {most}, "
            "a share of the variance between 0 and 1, or None"
        )

    def _like(self, X: Array, width: int, what: str) -> Tensor:
        rows = tensor_of(X, "X")
        if rows.shape[1] != width:
            raise InputError(f"X has {rows.shape[1]} columns, and there are {width} {what}: give as many")
        return rows.to(torch.float64)

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_") and not name.startswith("_"):
            raise NotFittedError(f"{name} is not there yet: call fit first")
        raise AttributeError(f"PCA has no attribute {name!r}")


def _double(value: Any) -> Tensor:
    return torch.as_tensor(np.asarray(value) if not isinstance(value, Tensor) else value).to(torch.float64)

"""curvlinops: its Hessian under SciPy's ``eigsh``, its Lanczos for the density, its trace estimators.

Tried for the extremes: ``eigsh`` from each end (k = 10 and k = 1), from both ends at once (k = 20),
and curvlinops' own Lanczos without reorthogonalization, which would serve the density as well.
Products of a block of vectors are one call, as the library offers them; each column is counted.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from curvlinops import HessianLinearOperator, hutchinson_trace, hutchpp_trace, xtrace
from curvlinops.papyan2020traces.spectrum import fast_lanczos
from scipy.sparse.linalg import eigsh
from torch import Tensor
from workloads import Workload

from peers.base import Families, Peer, Settings, Spectrum, from_quadrature

ESTIMATORS = {"hutchinson": hutchinson_trace, "hutch++": hutchpp_trace, "xtrace": xtrace}
ENDS: dict[str, list[tuple[Literal["LA", "SA", "BE"], int]]] = {
    "each": [("LA", 10), ("SA", 1)],
    "both": [("BE", 20)],
}
TOLERANCES = (0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4)


def _eigsh_family(ends: str, ncv: int) -> list[Settings]:
    return [{"ends": ends, "ncv": ncv, "tol": tol} for tol in TOLERANCES]


class _Counted(HessianLinearOperator):  # type: ignore[misc]
    num_matvecs = 0

    def _matmat(self, columns: list[Tensor]) -> Any:
        self.num_matvecs += columns[0].shape[-1]
        return super()._matmat(columns)


class Curvlinops(Peer):
    name = "curvlinops"
    package = "curvlinops-for-pytorch==3.0.1"
    spectrum_families: ClassVar[Families] = [
        *(_eigsh_family("each", ncv) for ncv in (21, 28, 40)),
        *(_eigsh_family("both", ncv) for ncv in (41, 60)),
        [{"ends": "lanczos", "ncv": ncv} for ncv in range(20, 61, 10)],
    ]
    trace_families: ClassVar[Families] = [
        [{"method": "xtrace", "num_matvecs": count} for count in range(8, 301, 2)],
        [{"method": "hutch++", "num_matvecs": count} for count in range(9, 301, 3)],
        [{"method": "hutchinson", "num_matvecs": count} for count in range(5, 401)],
    ]
    density_steps = 20

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        parameters = list(workload.model.parameters())
        self.operator = _Counted(
            workload.model, self.criterion, parameters, [workload.batch], check_deterministic=False
        )

    @property
    def num_matvecs(self) -> int:  # type: ignore[override]
        return self.operator.num_matvecs

    def product(self, vector: Tensor) -> Tensor:
        image: Tensor = self.operator @ vector
        return image

    def spectrum(self, settings: Settings, seed: int) -> Spectrum:
        torch.manual_seed(seed)
        if settings["ends"] == "lanczos":
            nodes, vectors = fast_lanczos(self.operator, settings["ncv"])
            return from_quadrature(nodes, vectors[0] ** 2)
        values = self._extremes(settings, seed)
        nodes, vectors = fast_lanczos(self.operator, self.density_steps)
        density = from_quadrature(nodes, vectors[0] ** 2)
        return Spectrum(sorted(values)[::-1][:10], float(min(values)), density.nodes, density.weights)

    def trace(self, settings: Settings, seed: int) -> float:
        torch.manual_seed(seed + 1)
        return float(ESTIMATORS[settings["method"]](self.operator, settings["num_matvecs"]))

    def _extremes(self, settings: Settings, seed: int) -> list[float]:
        operator = self.operator.to_scipy(dtype=np.float32)
        start = np.random.default_rng(seed).standard_normal(operator.shape[0], dtype=np.float32)
        ncv, tol = int(settings["ncv"]), float(settings["tol"])
        found = [
            eigsh(operator, k=k, which=which, v0=start, ncv=ncv, tol=tol, return_eigenvectors=False)
            for which, k in ENDS[settings["ends"]]
        ]
        return [float(value) for values in found for value in values]

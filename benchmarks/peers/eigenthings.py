"""hessian-eigenthings: one Lanczos run for extremes and density, its trace estimators beside it.

``lanczos(which="LA")`` and ``lanczos(which="SA")`` would pay for two Krylov spaces; the quadrature of
``spectral_density`` holds both ends of one, fully reorthogonalized, so that is what is called.
"""

from __future__ import annotations

from typing import ClassVar

from hessian_eigenthings import HessianOperator, spectral_density, trace
from torch import Tensor
from workloads import Workload, mean_loss

from peers.base import Families, Peer, Settings, Spectrum, from_quadrature


class HessianEigenthings(Peer):
    name = "hessian-eigenthings"
    package = "hessian-eigenthings==1.0.0a5"
    spectrum_families: ClassVar[Families] = [[{"lanczos_steps": steps} for steps in range(20, 121, 2)]]
    trace_families: ClassVar[Families] = [
        [{"method": "hutch++", "num_matvecs": count} for count in range(9, 301, 3)],
        [{"method": "hutchinson", "num_matvecs": count} for count in range(5, 401)],
    ]

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.operator = HessianOperator(workload.model, [workload.batch], mean_loss)
        self.operator.matvec = self.counted(self.operator.matvec)

    def product(self, vector: Tensor) -> Tensor:
        image: Tensor = self.operator.matvec(vector)
        return image

    def spectrum(self, settings: Settings, seed: int) -> Spectrum:
        result = spectral_density(self.operator, num_runs=1, seed=seed, **settings)
        return from_quadrature(result.raw_eigenvalues[0], result.raw_weights[0])

    def trace(self, settings: Settings, seed: int) -> float:
        return float(trace(self.operator, seed=seed + 1, **settings).estimate)

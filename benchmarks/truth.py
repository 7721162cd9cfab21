"""The reference spectra, computed in fp64 by other means than any tool under test.

MLP: the whole Hessian, SciPy's ``eigvalsh``; exact. CNN and GPT: SciPy's ``eigsh`` to a residual of
1e-9 for the extremes, deflated Hutchinson for the trace (its standard error is stored with it) and
stochastic Lanczos quadrature with many steps for the density. The results are kept in ``truth.json``
with a fingerprint of the trained weights; where training ends elsewhere they are computed anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal, eigvalsh
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from workloads import Workload

Array = NDArray[np.float64]
STORE = Path(__file__).with_name("truth.json")
DENSE_UP_TO = 4_000
FINGERPRINT_TOLERANCE = 1e-4  # relative; rounding of the fp64 training moves it by about 1e-6


@dataclass(frozen=True)
class Truth:
    """Reference spectrum of one workload; the trace is exact where its standard error is 0."""

    method: str
    fingerprint: list[float]
    top: list[float]
    bottom: list[float]
    trace: float
    trace_standard_error: float
    nodes: list[float]
    weights: list[float]

    @property
    def lambda_min(self) -> float:
        return self.bottom[0]


def reference(workload: Workload, *, again: bool = False) -> Truth:
    """The stored reference of this workload, computed first where there is none that fits it."""
    stored = json.loads(STORE.read_text()) if STORE.exists() else {}
    here = fingerprint(workload)
    if workload.name in stored and not again:
        truth = Truth(**stored[workload.name])
        if np.allclose(truth.fingerprint, here, rtol=FINGERPRINT_TOLERANCE, atol=0):
            return truth
        print(f"{workload.name}: these weights differ from the stored reference's", file=sys.stderr)
    print(f"{workload.name}: computing the reference spectrum in fp64 ...", file=sys.stderr)
    truth = (_dense if workload.num_parameters <= DENSE_UP_TO else _converged)(workload, here)
    if again or workload.name not in stored:
        STORE.write_text(json.dumps(stored | {workload.name: asdict(truth)}) + "\n")
    return truth


def fingerprint(workload: Workload) -> list[float]:
    """Loss, gradient norm and weight norm: the same to 1e-4 means the same spectrum to 1e-4."""
    twin = workload.double()
    parameters = list(twin.model.parameters())
    gradient = _flat(torch.autograd.grad(twin.loss(), parameters))
    return [twin.loss().item(), gradient.norm().item(), _flat(parameters).norm().item()]


def double_backward(workload: Workload) -> Callable[[Array], Array]:
    """v ↦ Hv in fp64 by double backward through one kept graph."""
    twin = workload.double()
    parameters = list(twin.model.parameters())
    gradient = _flat(torch.autograd.grad(twin.loss(), parameters, create_graph=True))

    def product(vector: Array) -> Array:
        pulled = torch.autograd.grad(gradient, parameters, torch.from_numpy(vector.ravel()), retain_graph=True)
        return _flat(pulled).numpy()

    return product


def _dense(workload: Workload, here: list[float]) -> Truth:
    product = double_backward(workload)
    matrix = np.stack([product(row) for row in np.eye(workload.num_parameters)])
    values = eigvalsh((matrix + matrix.T) / 2)
    return Truth(
        method=f"dense fp64, asymmetry {abs(matrix - matrix.T).max() / abs(matrix).max():.0e}",
        fingerprint=here,
        top=values[::-1][:10].tolist(),
        bottom=values[:10].tolist(),
        trace=float(np.trace(matrix)),
        trace_standard_error=0.0,
        nodes=values.tolist(),
        weights=np.full(len(values), 1 / len(values)).tolist(),
    )


def _converged(workload: Workload, here: list[float], *, probes: int = 200, runs: int = 8) -> Truth:
    size, product = workload.num_parameters, double_backward(workload)
    rng = np.random.default_rng(0)
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    ends = [
        eigsh(operator, k=10, which=which, ncv=100, tol=1e-9, v0=rng.standard_normal(size)) for which in ("LA", "SA")
    ]
    basis = np.hstack([vectors for _, vectors in ends])
    samples = [_complement_sample(product, basis, rng.choice([-1.0, 1.0], size)) for _ in range(probes)]
    quadrature = [_lanczos(product, rng.choice([-1.0, 1.0], size), steps=80) for _ in range(runs)]
    (top, _), (bottom, _) = ends
    return Truth(
        method=f"fp64: eigsh to 1e-9, {probes} deflated Hutchinson probes, {runs} Lanczos runs of 80 steps",
        fingerprint=here,
        top=np.sort(top)[::-1].tolist(),
        bottom=np.sort(bottom).tolist(),
        trace=float(top.sum() + bottom.sum() + np.mean(samples)),
        trace_standard_error=float(np.std(samples, ddof=1) / probes**0.5),
        nodes=np.concatenate([nodes for nodes, _ in quadrature]).tolist(),
        weights=np.concatenate([weights / runs for _, weights in quadrature]).tolist(),
    )


def _complement_sample(product: Callable[[Array], Array], basis: Array, probe: Array) -> float:
    probe = probe - basis @ (basis.T @ probe)
    return float(probe @ product(probe))


def _lanczos(product: Callable[[Array], Array], start: Array, steps: int) -> tuple[Array, Array]:
    """Nodes and weights of one Lanczos run, orthogonalized twice against all vectors."""
    basis: list[Array] = [start / np.linalg.norm(start)]
    alphas, betas = [], []
    for _ in range(steps):
        image = product(basis[-1])
        alphas.append(basis[-1] @ image)
        for _ in range(2):
            stacked = np.stack(basis)
            image = image - stacked.T @ (stacked @ image)
        betas.append(np.linalg.norm(image))
        basis.append(image / betas[-1])
    nodes, vectors = eigh_tridiagonal(np.array(alphas), np.array(betas[:-1]))
    return np.asarray(nodes, float), np.asarray(vectors[0], float) ** 2


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])

"""PyHessian: its Lanczos run for extremes and density, its Hutchinson trace, on one kept graph.

As released, ``density`` stops on any torch since 1.13, where ``torch.eig`` only raises, and the power iteration
beside it reaches neither λmin nor a density. So that the tool is measured at its best, ``torch.eig`` is restored for
the symmetric matrix that it is called with.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar
from unittest.mock import patch

import numpy as np
import pyhessian
import torch
from torch import Tensor
from workloads import Workload

from peers.base import Families, Peer, Settings, Spectrum, from_quadrature

_module = sys.modules["pyhessian.hessian"]  # the package shadows it by a class of the same name


class PyHessian(Peer):
    name = "pyhessian"
    package = "pyhessian==0.1"
    spectrum_families: ClassVar[Families] = [[{"iter": steps} for steps in range(20, 121, 2)]]
    trace_families: ClassVar[Families] = [[{"method": "hutchinson", "num_matvecs": count} for count in range(5, 401)]]

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        with warnings.catch_warnings():  # backward(create_graph=True): the library's own choice
            warnings.simplefilter("ignore")
            self.hessian = pyhessian.hessian(
                workload.model, self.criterion, data=workload.batch, cuda=workload.batch[0].is_cuda
            )
        workload.model.zero_grad()

    def product(self, vector: Tensor) -> Tensor:
        sizes = [parameter.numel() for parameter in self.hessian.params]
        pieces = zip(torch.split(vector, sizes), self.hessian.params, strict=True)
        split = [piece.view_as(parameter) for piece, parameter in pieces]
        images = _module.hessian_vector_product(self.hessian.gradsH, self.hessian.params, split)
        return torch.cat([image.reshape(-1) for image in images])

    def spectrum(self, settings: Settings, seed: int) -> Spectrum:
        torch.manual_seed(seed)
        with self._counting(), patch.object(torch, "eig", _eig, create=True):
            nodes, weights = self.hessian.density(n_v=1, **settings)
        return from_quadrature(nodes[0], weights[0])

    def trace(self, settings: Settings, seed: int) -> float:
        torch.manual_seed(seed + 1)
        with self._counting():  # no tolerance: it would compare two running means, not the error
            return float(np.mean(self.hessian.trace(maxIter=settings["num_matvecs"], tol=float("-inf"))))

    @contextmanager
    def _counting(self) -> Iterator[None]:
        counted = self.counted(_module.hessian_vector_product)
        with patch.object(_module, "hessian_vector_product", counted):
            yield


def _eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
    """``torch.eig`` as it was, for a symmetric matrix: real parts, imaginary parts; vectors."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], 1), vectors

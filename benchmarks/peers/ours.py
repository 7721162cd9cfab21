"""eigenscope's own side of the comparison: one call, one reading."""

from __future__ import annotations

import eigenscope as es
import numpy as np
import torch
from peers.base import Reading, Spectrum
from workloads import Workload, mean_loss


def measure_ours(workload: Workload, seed: int) -> Reading:
    """The whole reading by ``es.curvature``, cold."""
    generator = torch.Generator().manual_seed(seed)
    found = es.curvature(workload.model, mean_loss, [workload.batch], generator=generator).to_dict()
    grid = np.array(found["density"]["grid"])
    weights = np.array(found["density"]["values"]) * np.gradient(grid)
    spectrum = Spectrum(
        top=[eigenvalue["value"] for eigenvalue in found["top_eigenvalues"]],
        lambda_min=found["lambda_min"]["value"],
        nodes=grid.tolist(),
        weights=(weights / weights.sum()).tolist(),
    )
    return Reading(spectrum, found["trace"]["value"], found["num_matvecs"])

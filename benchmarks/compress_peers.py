"""What others do, at one rank ratio for all layers, so that each keeps the same share of its parameters."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from compress_workloads import Workload
from torch import Tensor, nn
from torch.nn import functional as F

from eigenscope.compression.candidates import Candidate, find_layers
from eigenscope.compression.layers import bias_of, matrix_of, turn_into, with_factors

ALPHA = 0.5  # of ASVD (Yuan et al. 2023)


def uniform_rank(layer: Candidate, keep: float) -> int:
    """The rank that keeps a share of the layer's weight."""
    return max(int(keep * layer.rows * layer.columns / (layer.rows + layer.columns)), 1)


def _compressed(work: Workload, keep: float, factors: Callable[[Candidate, int], tuple[Tensor, Tensor]]) -> nn.Module:
    model = copy.deepcopy(work.model)
    for layer in find_layers(model, work.only, None)[0]:
        rank = uniform_rank(layer, keep)
        if rank < layer.rank_full:
            turn_into(layer.module, with_factors(layer.module, *factors(layer, rank), bias_of(layer.module)))
    return model


def plain_svd(work: Workload, keep: float) -> nn.Module:
    """Truncated SVD of each weight."""

    def factors(layer: Candidate, rank: int) -> tuple[Tensor, Tensor]:
        left, sigma, right = torch.linalg.svd(matrix_of(layer.module), full_matrices=False)
        root = sigma[:rank].sqrt()
        return left[:, :rank] * root, root[:, None] * right[:rank]

    return _compressed(work, keep, factors)


def asvd(work: Workload, keep: float) -> nn.Module:
    """Each input channel scaled by (mean |x|)^α before the SVD, and back after it."""
    sizes = _passed(work, lambda module, inputs, output: _channels(module, inputs).abs().mean(0))

    def factors(layer: Candidate, rank: int) -> tuple[Tensor, Tensor]:
        scale = (sizes[layer.name].clamp_min(1e-6) ** ALPHA).repeat_interleave(layer.columns // len(sizes[layer.name]))
        left, sigma, right = torch.linalg.svd(matrix_of(layer.module) * scale, full_matrices=False)
        root = sigma[:rank].sqrt()
        return left[:, :rank] * root, root[:, None] * right[:rank] / scale

    return _compressed(work, keep, factors)


def whitening(work: Workload, keep: float) -> nn.Module:
    """Truncation-aware whitening (SVD-LLM, Wang et al. 2024): W′ = U Uᵀ W, U the largest directions of W x."""

    def second_moment(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        bias, dense = bias_of(module), output.ndim < 4
        rows = (output if dense else output.movedim(1, -1)).flatten(0, -2).double()
        rows = rows if bias is None else rows - bias
        return rows.T @ rows / len(rows)

    moments = _passed(work, second_moment)

    def factors(layer: Candidate, rank: int) -> tuple[Tensor, Tensor]:
        left = torch.linalg.eigh(moments[layer.name])[1].flip(1)[:, :rank]
        return left, left.T @ matrix_of(layer.module)

    return _compressed(work, keep, factors)


def _channels(module: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
    x = inputs[0].double()
    return (x.movedim(1, -1) if isinstance(module, nn.Conv2d) else x).flatten(0, -2)


@torch.no_grad()
def _passed(work: Workload, measure: Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]) -> dict[str, Tensor]:
    """The mean over batches of what is measured at each layer."""
    sums: dict[str, Any] = {}
    handles = []
    for layer in find_layers(work.model, work.only, None)[0]:

        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor, name: str = layer.name) -> None:
            sums[name] = sums.get(name, 0.0) + measure(module, inputs, output) / len(work.calibration)

        handles.append(layer.module.register_forward_hook(hook))
    for batch in work.calibration:
        work.forward(work.model, batch)
    for handle in handles:
        handle.remove()
    return sums


def goldcrest(work: Workload, keep: float) -> nn.Module:
    """goldcrest 0.1.0: its pipeline of SVD-LLM, layer after layer, with its closed-form update.

    It takes dense layers, of those within an `nn.Sequential` none; and batches of one length, to which we pad.
    """
    from goldcrest.framework.context import PipelineContext
    from goldcrest.plugins.compression.svdllm_pipeline import SVDLLMPipelinePlugin

    model = copy.deepcopy(work.model)
    layers = [layer for layer in find_layers(model, work.only, None)[0] if layer.kind == "linear"]
    plugin = SVDLLMPipelinePlugin(
        target_modules=[layer.name for layer in layers], rank_ratio=keep, use_closed_form_update=True,
        n_samples=10**9, clear_intermediate_state=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        plugin.initialize(PipelineContext(workspace_dir=folder))
        plugin.execute(model=model, dataloader=_padded(work.calibration))
    return model


def _padded(batches: Sequence[Any]) -> list[Any]:
    """Mappings of tokens brought to the length of the longest."""
    if not isinstance(batches[0], Mapping):
        return list(batches)
    longest = max(tensor.shape[1] for batch in batches for tensor in batch.values())
    return [{k: F.pad(t, (0, longest - t.shape[1])) for k, t in batch.items()} for batch in batches]


PEERS = {"plain SVD": plain_svd, "ASVD": asvd, "whitening": whitening, "goldcrest": goldcrest}

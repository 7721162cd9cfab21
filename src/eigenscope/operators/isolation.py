"""Run a model for a measurement and leave no trace in it.

Training with a measurement in its middle is bit-identical to training without. So the model runs on aliases of its
parameters (same memory, but no `.grad` and no hooks of the user's) and on copies of its buffers; modes and random
streams are put back; ambient `no_grad`, autocast and compilation are lifted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

_SEED = 20231  # a fixed stream: dropout in train mode draws the same mask for each product


def underlying(model: nn.Module) -> nn.Module:
    """The module under `torch.compile` (compiled code has no double backward) and under data-parallel wrappers."""
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


@contextmanager
def isolated(
    model: nn.Module, aliases: Mapping[Tensor, Tensor], devices: Sequence[torch.device], train_mode: bool = False
) -> Iterator[None]:
    """Within: `model` computes with `aliases` in place of its parameters, with gradients on, and may do as it likes."""
    with ExitStack() as stack:
        stack.enter_context(differentiable(devices))
        stack.enter_context(random_streams(devices))
        stack.enter_context(_attributes(model))
        stack.enter_context(_modes(model, train_mode))
        stack.enter_context(_tensors(model, aliases))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # fused attention has no double backward
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(_no_fused_recurrence())
        if _has_weight_norm(model):
            stack.enter_context(_ExactWeightNorm())
        stack.enter_context(_eager())
        yield


@contextmanager
def differentiable(devices: Sequence[torch.device]) -> Iterator[None]:
    """Within: gradients on and full precision, though the caller be under `no_grad`, inference mode or autocast.

    Autocast in particular reaches into backward passes: a product was 0.3 % off.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {"cpu", *(device.type for device in devices)}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def random_streams(devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Within: a fixed stream of random numbers; then the streams go on as if nothing had been drawn."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's stream, kept as it is
    accelerators = sorted({(d.type, d.index or 0) for d in devices if d.type != "cpu"})
    with ExitStack() as stack:
        stack.callback(np.random.set_state, numpy_state)
        stack.callback(random.setstate, state)
        stack.enter_context(torch.random.fork_rng([], device_type="cpu"))
        torch.default_generator.manual_seed(_SEED)  # not torch.manual_seed: it reseeds devices that are not ours too
        for kind, index in accelerators:
            stack.enter_context(torch.random.fork_rng([index], device_type=kind))
            getattr(torch, kind).manual_seed(_SEED)
        yield


@contextmanager
def _modes(model: nn.Module, train_mode: bool) -> Iterator[None]:
    before = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in before:  # not `.eval()`: a user's override may merge adapters into the weights
            module.training = module.training and train_mode
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def _attributes(model: nn.Module) -> Iterator[None]:
    """What a forward pass sets on its modules (a counter, a cached activation) is put back."""
    before = [(module, dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            now = vars(module)
            for name in now.keys() - attributes.keys():
                del now[name]
            now.update({name: value for name, value in attributes.items() if now.get(name, now) is not value})


@contextmanager
def _tensors(model: nn.Module, aliases: Mapping[Tensor, Tensor]) -> Iterator[None]:
    kept: list[tuple[dict[str, Tensor | None], dict[str, Tensor | None]]] = []
    copies: dict[Tensor, Tensor] = {}
    for module in model.modules():
        parameters, buffers = module._parameters, module._buffers
        kept += [(parameters, dict(parameters)), (buffers, dict(buffers))]  # type: ignore[list-item]
    try:
        for tensors, _ in kept[::2]:
            tensors.update({k: aliases[p] for k, p in tensors.items() if p is not None and p in aliases})
        for tensors, _ in kept[1::2]:
            for name, buffer in tensors.items():
                if buffer is not None:
                    tensors[name] = copies.setdefault(buffer, buffer.detach().clone())
        yield
    finally:
        for tensors, before in kept:
            tensors.clear()
            tensors.update(before)


@contextmanager
def _no_fused_recurrence() -> Iterator[None]:
    """The fused recurrent kernels have no double backward either."""
    mkldnn: Any = torch.backends.mkldnn
    enabled = mkldnn.enabled  # not `mkldnn.flags`: it warns about TF32, which is none of our business
    with torch.backends.cudnn.flags(enabled=False):
        try:
            mkldnn.enabled = False
            yield
        finally:
            mkldnn.enabled = enabled


def _has_weight_norm(model: nn.Module) -> bool:
    parts = (part for module in model.modules() for part in (module, *module._forward_pre_hooks.values()))
    return any("WeightNorm" in type(part).__name__ for part in parts)


class _ExactWeightNorm(TorchFunctionMode):
    """Weight norm out of operations whose second derivatives are right.

    The fused one takes the norm for a constant in its double backward: a Hessian came out asymmetric, 5 % off (torch
    2.13).
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch._weight_norm:
            v, g, dim = (*args, 0)[:3]
            return v * (g / torch.norm_except_dim(v, 2, dim))
        return func(*args, **(kwargs or {}))


@contextmanager
def _eager() -> Iterator[None]:
    """Compiled sub-modules run as written; nothing is loaded for it where nothing was compiled."""
    import sys

    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield

"""What a model gives for a batch: what is to stay close to the original, and random directions in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eigenscope.errors import InputError, first_line
from eigenscope.operators.probe import batch_size

Forward = Callable[[nn.Module, Any], Any]
PROBES = 4  # backward passes a batch: with one, the gradients of 256 sentences span 256 of 384 directions at most


def call(model: nn.Module, batch: Any) -> Any:
    """`model(**batch)` for a mapping, `model(*batch)` for a tuple or list, else `model(batch)`."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


def samples_in(batch: Any) -> int:
    """The length of the first tensor found in it; 1 where there is none."""
    try:
        return int(batch_size(batch))
    except InputError:
        return 1


def run(model: nn.Module, batch: Any, index: int, forward: Forward) -> Any:
    """One forward pass; an error of the model's is told in one line."""
    try:
        return forward(model, batch)
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"the model failed on calibration batch {index} ({type(error).__name__}: {first_line(error)}): "
            "pass batches that it takes, or forward= to say how it is called"
        ) from error


@dataclass(frozen=True)
class Observed:
    """Outputs of one batch; where there is more than a loss, the loss only says which parts of it matter."""

    outputs: list[Tensor]
    loss: Tensor | None

    def pull_back(self) -> int:
        """Backward passes from random cotangents, so scaled that 1 is the variation of an output; how many there were.

        A row that the loss does not depend on, such as padding, gets none. Of a loss alone there is one gradient.
        """
        outputs = [output for output in self.outputs if output.requires_grad and output.numel()]
        if not outputs:
            return 1
        probes = PROBES if any(output.numel() > 1 for output in outputs) else 1
        scales = [scale / math.sqrt(probes) for scale in self._scales(outputs)]
        for probe in range(probes):
            drawn = [torch.randn_like(o) if o.numel() > 1 else torch.ones_like(o) for o in outputs]
            cotangents = [scale * cotangent for scale, cotangent in zip(scales, drawn, strict=True)]
            torch.autograd.backward(outputs, cotangents, retain_graph=probe + 1 < probes)
        return probes

    def _scales(self, outputs: list[Tensor]) -> list[Tensor]:
        scales = [o.new_tensor(1 / max(variation(o), torch.finfo(o.dtype).tiny)) for o in outputs]
        if self.loss is None or not self.loss.requires_grad:
            return scales
        gradients = torch.autograd.grad(self.loss, outputs, retain_graph=True, allow_unused=True)
        used = [o.new_zeros(1) if g is None else _rows_that_matter(g) for o, g in zip(outputs, gradients, strict=True)]
        if not any(bool(mask.any()) for mask in used):
            return scales
        return [scale * mask for scale, mask in zip(scales, used, strict=True)]


def _rows_that_matter(gradient: Tensor) -> Tensor:
    matters = (gradient != 0).any(-1, keepdim=True) if gradient.ndim else gradient != 0
    return matters.to(gradient.dtype)


def observe(model: nn.Module, batch: Any, index: int, forward: Forward) -> Observed:
    """Run a batch. Where `forward` returns a loss alone, the outputs are what the model itself returned meanwhile."""
    inside: list[Tensor] = []
    handle = model.register_forward_hook(lambda module, inputs, output: inside.extend(tensors_of(output)))
    try:
        returned = list(tensors_of(run(model, batch, index, forward)))
    finally:
        handle.remove()
    losses = [tensor for tensor in returned if tensor.ndim == 0]
    outputs = [tensor for tensor in returned if tensor.ndim] or [tensor for tensor in inside if tensor.ndim]
    if not outputs or not losses:
        return Observed(outputs or losses, None)
    return Observed(outputs, torch.stack([loss.to(losses[0].dtype) for loss in losses]).sum())


def tensors_of(found: Any) -> Iterator[Tensor]:
    """The floating-point tensors in what a model returned."""
    if isinstance(found, Tensor):
        if found.is_floating_point():
            yield found
    elif isinstance(found, Mapping):
        for value in found.values():
            yield from tensors_of(value)
    elif isinstance(found, tuple | list):
        for value in found:
            yield from tensors_of(value)


def variation(output: Tensor) -> float:
    """‖f − f̄‖ of one output, f̄ its mean over all but the last axis; of a single value, its size."""
    values = output.detach().to(torch.float64)
    flat = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1)
    spread = float((flat - flat.mean(0)).norm())
    return spread if spread > 0 else float(values.norm())

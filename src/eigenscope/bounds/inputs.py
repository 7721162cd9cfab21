"""The samples that a bound is held against: one input tensor, what goes with it, and the labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from eigenscope.errors import InputError
from eigenscope.operators.probe import as_batches

_INPUTS = ("inputs_embeds", "pixel_values", "input_ids", "input_values")  # Hugging Face's names


@dataclass(frozen=True)
class Samples:
    """One batch: `inputs` (samples first), its name where the batch is a mapping, and what else the model is given."""

    inputs: Tensor
    labels: Tensor | None = None
    key: str | None = None
    rest: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def floating(self) -> bool:
        return self.inputs.is_floating_point()

    def call(self, model: nn.Module, inputs: Tensor) -> Any:
        """The model's answer to these samples with `inputs` in place of theirs."""
        if self.key is None:
            return model(inputs)
        return model(**{**(self.rest or {}), self.key: inputs})

    def part(self, index: slice | Tensor) -> Samples:
        """Some of the samples."""
        size = len(self)

        def cut(value: Any) -> Any:
            return value[index] if isinstance(value, Tensor) and value.ndim and len(value) == size else value

        rest = None if self.rest is None else {name: cut(value) for name, value in self.rest.items()}
        return replace(self, inputs=self.inputs[index], labels=cut(self.labels), rest=rest)

    def first(self) -> Samples:
        return self.part(slice(0, 1))

    def tensors(self) -> list[Tensor]:
        """Those that the model is given besides its input."""
        return [leaf for leaf in tree_leaves(self.rest) if isinstance(leaf, Tensor)]

    def with_tensors(self, tensors: Sequence[Tensor]) -> Samples:
        """With these in their place."""
        left = iter(tensors)
        return replace(self, rest=tree_map(lambda leaf: next(left) if isinstance(leaf, Tensor) else leaf, self.rest))

    def settings(self) -> str:
        """What else the model is given: the names of the tensors, and the rest as it is written."""
        return repr(tree_map(lambda leaf: Tensor if isinstance(leaf, Tensor) else leaf, self.rest))

    def distinct(self) -> list[Samples]:
        """Batches of one, one for each bound: by the input's shape and all that the model is given besides.

        Integer inputs count by their values, which masks and positions may be made from.
        """
        if self.floating and not self.rest:
            return [self.first()]
        found = {one._signature(): one for one in (self.part(slice(i, i + 1)) for i in range(len(self)))}
        return list(found.values())

    def _signature(self) -> tuple[object, ...]:
        given = [*self.tensors(), *([] if self.floating else [self.inputs])]
        return (tuple(self.inputs.shape), self.settings(), *((t.shape, str(t.dtype), str(t.tolist())) for t in given))


def read_batches(batches: Any, max_samples: int) -> list[Samples]:
    """The batches of a probe, cut after `max_samples`. Raises InputError for what holds no samples."""
    found, room = [], max_samples
    for batch in as_batches(batches):
        samples = _samples(batch)
        if room > 0 and len(samples):
            found.append(samples.part(slice(0, room)))
            room -= len(found[-1])
    if not found:
        raise InputError("the probe holds no sample: pass at least one batch with at least one")
    return found


def _samples(batch: Any) -> Samples:
    if isinstance(batch, Tensor):
        return Samples(_checked(batch))
    if isinstance(batch, Mapping):
        return _of_mapping(batch)
    if isinstance(batch, Sequence) and batch and isinstance(batch[0], Tensor):
        labels = batch[1] if len(batch) > 1 and isinstance(batch[1], Tensor) else None
        return Samples(_checked(batch[0]), _labels(labels, len(batch[0])))
    raise InputError(f"a batch is a {type(batch).__name__}: pass inputs, (inputs, labels), or a mapping of arguments")


def _of_mapping(batch: Mapping[str, Any]) -> Samples:
    rest = {name: value for name, value in batch.items() if name not in ("labels", "label")}
    tensors = {name: value for name, value in rest.items() if isinstance(value, Tensor)}
    named: list[str] = [name for name in _INPUTS if name in tensors]
    named += [name for name, value in tensors.items() if value.is_floating_point()] + list(tensors)
    if not named:
        raise InputError(f"a batch has no tensor among {', '.join(batch) or 'nothing'}: which one is the input?")
    inputs = _checked(rest.pop(named[0]))
    return Samples(inputs, _labels(batch.get("labels", batch.get("label")), len(inputs)), named[0], rest)


def _checked(inputs: Tensor) -> Tensor:
    if inputs.ndim == 0:
        raise InputError("an input is a single number: its first axis must be the samples'")
    if inputs.is_complex():
        raise InputError("an input is complex: only real inputs are supported")
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        raise InputError("an input holds NaN or infinity: the probe must be finite")
    with torch.inference_mode(False):
        return inputs.detach().clone() if inputs.is_inference() else inputs.detach()


def _labels(labels: Any, count: int) -> Tensor | None:
    """Class numbers, one a sample, or real targets; anything else is no label for a margin."""
    if not isinstance(labels, Tensor) or labels.shape[:1] != (count,):
        return None
    return labels.detach() if labels.ndim == 1 or labels.is_floating_point() else None


def first_tensor(output: Any) -> Tensor:
    """The tensor that a model's answer is about: itself, its `logits`, or the first floating tensor in it."""
    for tensor in _tensors(output):
        if tensor.is_floating_point():
            return tensor
    raise InputError(f"the model returns a {type(output).__name__} without a floating tensor: nothing to bound")


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from _tensors([output[k] for k in sorted(output, key=lambda k: k != "logits")])
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for item in output:
            yield from _tensors(item)
    elif hasattr(output, "logits"):
        yield from _tensors(output.logits)

"""Which layers of a model can be compressed, and why others can't."""

from __future__ import annotations

import fnmatch
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from eigenscope.compression.layers import LowRank
from eigenscope.compression.report import Skipped
from eigenscope.errors import InputError

Patterns = str | Sequence[str] | None
KINDS: dict[type[nn.Module], str] = {
    nn.Linear: "linear",
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Conv3d: "conv3d",
}


@dataclass(frozen=True)
class Candidate:
    """A layer that can become two."""

    name: str
    kind: str
    module: nn.Module
    rows: int  # of its matrix: outputs
    columns: int  # inputs, times the positions of a kernel

    @property
    def rank_full(self) -> int:
        """The largest rank that its matrix can have."""
        return min(self.rows, self.columns)

    @property
    def parameters(self) -> int:
        """Weight and bias."""
        return sum(p.numel() for p in self.module.parameters(recurse=False))

    @property
    def overhead(self) -> int:
        """What stays whatever the rank: the bias."""
        return self.parameters - self.rows * self.columns

    def cost(self, rank: int) -> int:
        """Parameters at a rank."""
        return rank * (self.rows + self.columns) + self.overhead


def kind_of(module: nn.Module) -> str | None:
    """What the reports call a layer that can be compressed; None for anything else, subclasses among it."""
    utils = sys.modules.get("transformers.pytorch_utils")  # whoever has such a layer has loaded it
    if utils is not None and type(module) is utils.Conv1D:
        return "conv1d_transposed"
    return KINDS.get(type(module))


def find_layers(model: nn.Module, only: Patterns, skip: Patterns) -> tuple[list[Candidate], list[Skipped]]:
    """The layers that can be compressed, in the model's order, and those with a matrix that can't."""
    users = _users(model)
    found, skipped = [], []
    inside = {id(part) for module in model.modules() if isinstance(module, LowRank) for part in module.children()}
    for name, module in model.named_modules():
        if id(module) in inside or not _has_matrix(name, module):
            continue
        size = sum(p.numel() for p in module.parameters(recurse=isinstance(module, LowRank)))
        reason = _obstacle(name, module, users) or _unwanted(name, only, skip)
        if reason:
            skipped.append(Skipped(name, type(module).__name__, size, reason))
        else:
            found.append(_candidate(name, module))
    _check(model, found, skipped, only, skip)
    return found, skipped


def _has_matrix(name: str, module: nn.Module) -> bool:
    if "parametrizations" in name.split("."):  # the inside of a parametrized layer, which is told as a whole
        return False
    return isinstance(module, (*KINDS, LowRank)) or any(p.ndim > 1 for p in module.parameters(recurse=False))


def _candidate(name: str, module: nn.Module) -> Candidate:
    kind, weight = kind_of(module), module.get_parameter("weight")
    assert kind is not None
    if not all(bool(torch.isfinite(p).all()) for p in module.parameters(recurse=False)):
        raise InputError(f"layer {name!r} holds NaN or infinity: the model has diverged or is corrupt")
    rows, columns = weight.shape[0], weight[0].numel()
    if kind == "conv1d_transposed":
        rows, columns = columns, rows
    return Candidate(name, kind, module, rows, columns)


def _users(model: nn.Module) -> dict[int, list[str]]:
    """The names of each parameter, by its identity: more than one where it is tied. A module counts once."""
    names = defaultdict(list)
    for prefix, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            names[id(parameter)].append(f"{prefix}.{key}" if prefix else key)
    return names


def _obstacle(name: str, module: nn.Module, users: dict[int, list[str]]) -> str | None:
    """Why the layer can't be compressed."""
    if isinstance(module, LowRank):
        return "two thin layers already: to choose its rank again, compress the original model"
    if "forward" in vars(module):
        return "its forward was replaced on this very layer (accelerate does so): remove that first"
    if kind_of(module) is None:
        base = next((KINDS[kind] for kind in KINDS if isinstance(module, kind)), None)
        if base and hasattr(module, "parametrizations"):
            return "its weight is parametrized: remove the parametrization first"
        return (
            f"a subclass of {base}, whose code may use the weight itself" if base else "no dense or convolution layer"
        )
    if module._parameters.get("weight") is None:
        return "its weight is computed from other parameters: remove weight_norm or spectral_norm first"
    if getattr(module, "groups", 1) != 1:
        return f"a convolution in {module.groups} groups: each is small, and no two thin layers do the same"
    weight = module.get_parameter("weight")
    if not weight.is_floating_point():
        return f"its weight is {weight.dtype}: only real floating-point ones are compressed"
    others = [other for other in users[id(weight)] if other != (f"{name}.weight" if name else "weight")]
    return f"its weight is tied to {others[0]}" if others else None


def _unwanted(name: str, only: Patterns, skip: Patterns) -> str | None:
    if only is not None and not any(fnmatch.fnmatchcase(name, pattern) for pattern in _listed(only)):
        return "not among those asked for"
    return "skipped as asked" if any(fnmatch.fnmatchcase(name, pattern) for pattern in _listed(skip)) else None


def _listed(patterns: Patterns) -> Sequence[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns or [])


def _check(
    model: nn.Module, found: Sequence[Candidate], skipped: Iterable[Skipped], only: Patterns, skip: Patterns
) -> None:
    names = [name for name, _ in model.named_modules()]
    for what, patterns in (("only", only), ("skip", skip)):
        for pattern in _unmatched(names, patterns):
            known = [name for name, module in model.named_modules() if kind_of(module)]
            near = f"there are {', '.join(known[:3])}{', ...' if known[3:] else ''}" if known else "there is none"
            raise InputError(f"{what}={pattern!r} matches no layer: {near}")
    if not found:
        reasons = sorted({f"{layer.name or layer.kind}: {layer.reason}" for layer in skipped})[:3]
        told = f" ({'; '.join(reasons)})" if reasons else ""
        raise InputError(f"{type(model).__name__} has no layer to compress{told}: nn.Linear and convolutions are")


def _unmatched(names: Sequence[str], patterns: Patterns) -> Iterator[str]:
    yield from (p for p in _listed(patterns) if not fnmatch.filter(names, p))

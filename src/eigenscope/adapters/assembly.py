"""From the parts of an extraction to an adapter: PEFT's names, what goes along, the configuration and the report.

Biases. `lora_bias` gives B a bias, which is the change of the layer's: it can be switched off with the adapter. It
takes a bias in every layer that the adapter stands beside; where one has none (Qwen's output projections), `bias="all"`
lets the file hold biases whole, which PEFT then loads into the base itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from eigenscope.adapters.adapter import Adapter
from eigenscope.adapters.architecture import Architecture, modules_of
from eigenscope.adapters.configuration import can_be_saved, configuration, saved_too
from eigenscope.adapters.pairing import Pair
from eigenscope.adapters.report import ExtractedLayer, Extraction, WholeTensor
from eigenscope.checkpoints import Checkpoint
from eigenscope.checkpoints.formats.peft import PREFIX
from eigenscope.errors import InputError
from eigenscope.words import counted, few


@dataclass
class Parts:
    """What was found of each tensor."""

    layers: dict[str, ExtractedLayer] = field(default_factory=dict)  # by module
    factors: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # A and B, by module
    biases: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # change and new value, by module
    whole: dict[str, str] = field(default_factory=dict)  # tensor → why
    unchanged: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)  # differ by no more than the rounding of their storage


def assembled(
    parts: Parts,
    pairs: list[Pair],
    checkpoints: tuple[Checkpoint, Checkpoint],
    known_as: str | None,
    architecture: Architecture,
    notes: list[str],
    start: float,
) -> Adapter:
    """The adapter of these parts of (BASE, TUNED); raises `InputError` where nothing changed."""
    base, tuned = checkpoints
    if not (parts.factors or parts.biases or parts.whole):
        same = f"differ in {few(parts.rounded)} alone, by no more than the rounding of their storage"
        found = same if parts.rounded else "hold the same values"
        end = "no change can be told from it" if parts.rounded else "there is nothing to extract"
        raise InputError(f"{base.name} and {tuned.name} {found}: {end}")
    builder = _Builder(parts, {pair.name: pair for pair in pairs}, tuned, architecture)
    builder.bring_whole()
    builder.stand_in()
    builder.add_biases()
    tensors = builder.tensors | builder.named_factors()
    ranks = {module: a.shape[0] for module, (a, _) in parts.factors.items()}
    config = configuration(
        ranks,
        architecture.kinds.keys() | modules_of(builder.pairs),
        modules_to_save=builder.modules,
        fan_in_fan_out=any(layer.kind == "conv1d" for layer in parts.layers.values()),
        bias=builder.bias,
        lora_bias=builder.lora_bias,
        base=known_as,
        task=architecture.task,
    )
    report = builder.report(base, tensors, [*notes, *builder.notes], start)
    about = (
        f"Extracted by eigenscope: {tuned.name} as {base.name} plus {counted(len(parts.layers), 'low-rank update')}."
    )
    return Adapter(config, tensors, report, about)


class _Builder:
    """Collects the tensors of the file."""

    def __init__(self, parts: Parts, pairs: Mapping[str, Pair], tuned: Checkpoint, architecture: Architecture) -> None:
        self.parts, self.pairs, self.tuned, self.architecture = parts, pairs, tuned, architecture
        self.tensors: dict[str, Tensor] = {}
        self.modules: set[str] = set()  # to save
        self.rows: list[WholeTensor] = []
        self.notes: list[str] = []
        self.bias, self.lora_bias = "none", False

    def bring_whole(self) -> None:
        """Modules to save with all their tensors, and with those that share them; the rest into the base itself."""
        loose = {name for name in self.parts.whole if not self._in_a_layer(name)}
        held = {name.rpartition(".")[0] for name in self.parts.whole if name not in loose}
        names = [name for module in held for name in self._of(module)]
        shared = {other for name in names for other in self._shared(name) if self._in_a_layer(other)}
        known = self.architecture.kinds.keys() | modules_of(self.pairs)
        self.modules = saved_too(held | {name.rpartition(".")[0] for name in shared}, known)
        for module in sorted(self.modules):
            self.parts.biases.pop(module, None)
            self.parts.layers.pop(module, None)
            self.parts.factors.pop(module, None)
            for name in self._of(module):
                why = self.parts.whole.get(name) or "goes along: PEFT saves a module as a whole"
                self._add(name, f"{PREFIX}{name}", "modules_to_save", why)
        for name in sorted(loose):
            self._add(name, f"{PREFIX}{name}", "base", self.parts.whole[name])
        self._tell(loose)

    def _in_a_layer(self, name: str) -> bool:
        pair, module = self.pairs.get(name), name.rpartition(".")[0]
        shape = pair.tuned.shape if pair else (1, 1)
        return bool(module) and self.architecture.kind(name, shape) != "parameter" and can_be_saved(module)

    def _of(self, module: str) -> list[str]:
        """All tensors of a module, in the model or else in the checkpoint."""
        names = self.architecture.names or self.pairs.keys()
        return sorted(name for name in names if name.rpartition(".")[0] == module)

    def _shared(self, name: str) -> tuple[str, ...]:
        return self.architecture.sharing(name)

    def _value(self, name: str) -> Tensor | None:
        for other in self._shared(name):
            if other in self.pairs:
                return self.tuned.load(self.pairs[other].tuned.name)
        return None

    def _add(self, name: str, key: str, how: str, why: str) -> None:
        value = self._value(name)
        if value is not None:
            self.tensors[key] = value.detach().clone()
            self.rows.append(WholeTensor(name, tuple(value.shape), how, why))

    def _tell(self, loose: set[str]) -> None:
        grown = {
            pair.name: (pair.base.shape[0], pair.tuned.shape[0])
            for pair in self.pairs.values()
            if pair.base is not None and pair.base.shape != pair.tuned.shape
        }
        vocabulary = {name: sizes for name, sizes in grown.items() if self.architecture.embeds_tokens(name)}
        for (before, after), name in {sizes: name for name, sizes in reversed(vocabulary.items())}.items():
            how = f"call base_model.resize_token_embeddings({after}) before PEFT loads the adapter"
            self.notes.append(f"the vocabulary went from {before:,} to {after:,} ({name}): {how}")
        for name, (before, after) in grown.items():
            if name.endswith(".weight") and (before, after) not in vocabulary.values():
                many = f"num_labels={after}" if self.architecture.is_head(name) else "as many"
                how = f"build the base with {many} before PEFT loads the adapter"
                self.notes.append(f"{name} went from {before:,} rows to {after:,}: {how}")
        if self.parts.rounded:
            found = f"{few(self.parts.rounded)}: the difference is no more than the rounding of the storage"
            self.notes.append(f"{found}, and is left out")
        if loose:
            found = f"{few(sorted(loose))}: not of a module that PEFT could save, so PEFT loads it into the base itself"
            self.notes.append(f"{found}, and switching the adapter off does not undo that")

    def stand_in(self) -> None:
        """PEFT takes no adapter without factors: beside the smallest layer, of rank 1, all zero."""
        if self.parts.factors:
            return
        candidates = [name for name in self.pairs if self._adaptable(name)]
        if not candidates:
            why = "PEFT needs a layer to stand beside, and all that changed would be stored whole"
            raise InputError(f"{self.tuned.name} can't be an adapter: {why}; keep less energy, or give a rank")
        if not self.parts.biases:
            name = min(candidates, key=lambda name: math.prod(self.pairs[name].tuned.shape))
            self._zero(name.removesuffix(".weight"))
            self.notes.append(f"no weight matrix changed: {name} has factors of rank 1 that are 0, as PEFT needs some")

    def _adaptable(self, name: str) -> bool:
        shape = self.pairs[name].tuned.shape
        kind = self.architecture.kind(name, shape)
        return len(shape) > 1 and kind in ("linear", "conv1d", "conv") and name.rpartition(".")[0] not in self.modules

    def _zero(self, module: str) -> None:
        shape = self.pairs[f"{module}.weight"].tuned.shape
        turned = self.architecture.kind(f"{module}.weight", shape) == "conv1d"
        out, rest = (shape[1], shape[:1]) if turned else (shape[0], shape[1:])
        self.parts.factors[module] = (torch.zeros(1, *rest), torch.zeros(out, 1, *(1 for _ in rest[1:])))

    def add_biases(self) -> None:
        """By `lora_bias` where every layer with factors has a bias, else whole."""
        changed = self.parts.biases
        if not changed:
            return
        standing = self.parts.factors.keys() | changed.keys()
        if all(f"{module}.bias" in self.pairs and f"{module}.weight" in self.pairs for module in standing):
            self.lora_bias = True
            for module in changed.keys() - self.parts.factors.keys():
                self._zero(module)
            return
        self.bias = "all"
        self.notes.append(
            "biases changed, and some layers have none: they are loaded into the base itself (bias='all')"
        )
        for module, (_, value) in changed.items():
            held = f"{module}.base_layer" if module in self.parts.factors else module
            self.tensors[f"{PREFIX}{held}.bias"] = value.detach().clone()
            self.rows.append(WholeTensor(f"{module}.bias", tuple(value.shape), "bias", "a bias that changed"))

    def named_factors(self) -> dict[str, Tensor]:
        """A, B and where all have one the bias of B, by PEFT's names."""
        found = {}
        for module, (a, b) in self.parts.factors.items():
            found[f"{PREFIX}{module}.lora_A.weight"] = a
            found[f"{PREFIX}{module}.lora_B.weight"] = b
            if self.lora_bias:
                change = self.parts.biases.get(module)
                zero = torch.zeros(b.shape[0])
                found[f"{PREFIX}{module}.lora_B.bias"] = zero if change is None else change[0].float()
        return found

    def report(self, base: Checkpoint, tensors: Mapping[str, Tensor], notes: list[str], start: float) -> Extraction:
        """What became of every tensor."""
        if self.lora_bias:
            rows = [(module, change[0].shape) for module, change in self.parts.biases.items()]
            self.rows += [
                WholeTensor(f"{m}.bias", tuple(shape), "lora_bias", "a bias that changed") for m, shape in rows
            ]
        changed = set(self.parts.whole) | {f"{module}.weight" for module in self.parts.layers}
        changed |= {f"{module}.bias" for module in self.parts.biases}
        once = {name: pair for name, pair in self.pairs.items() if pair.tuned.name not in self.tuned.tied}
        sizes = {name: math.prod(pair.tuned.shape) for name, pair in once.items()}
        flat = [layer.name for layer in self.parts.layers.values() if 2 * layer.parameters > layer.parameters_full]
        if flat:
            notes.append(f"low rank hardly pays for {few(flat)}: the change is spread over most directions")
        return Extraction(
            base=base.name,
            tuned=self.tuned.name,
            architecture=self.architecture.source,
            layers=tuple(self.parts.layers.values()),
            whole=tuple(self.rows),
            unchanged=tuple(self.parts.unchanged),
            rounded=tuple(self.parts.rounded),
            parameters=sum(tensor.numel() for tensor in tensors.values()),
            parameters_full=sum(size for name, size in sizes.items() if name in changed),
            parameters_model=sum(sizes.values()),
            bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
            notes=tuple(notes),
            seconds=time.perf_counter() - start,
        )

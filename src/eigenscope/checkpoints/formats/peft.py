"""A PEFT adapter folder: the update ΔW = scaling · B·A that LoRA adds to each weight (Hu et al. 2021).

Scaling is alpha/r, or alpha/√r for rank-stabilized LoRA. ΔW is out × in, whatever the base does: whether a weight is
stored in × out, as GPT-2's Conv1D does, is a matter of its layer, and `fan_in_fan_out` does not tell. (PEFT sets that
anew for each layer, and saves what the last one was.) Factors are multiplied in double precision, so that the rank of
ΔW is at most r to the last digit.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from eigenscope.checkpoints.base import Checkpoint, Entry, damaged
from eigenscope.checkpoints.files import read_json
from eigenscope.checkpoints.registry import Format, open_file
from eigenscope.errors import CheckpointError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FILES = (WEIGHTS, "adapter_model.bin")
_KIND = r"\.lora_(?P<kind>A|B|embedding_A|embedding_B)"
_FACTOR = re.compile(rf"(?P<module>.+){_KIND}(?:\.(?!weight$|bias$)(?P<name>[^.]+))?(?:\.weight)?")
PREFIX = "base_model.model."  # what PEFT puts before the names of the model


@dataclass(frozen=True)
class Update:
    """The factors of one ΔW, by their names in the file: ΔW = scaling · B·A (out × in), of embeddings the transpose."""

    a: Entry
    b: Entry
    embedding: bool
    fan_in_fan_out: bool  # what the configuration says of all layers
    scaling: float

    @property
    def shape(self) -> tuple[int, ...]:
        if len(self.a.shape) > 2:  # a convolution: A is one of fewer channels, B is 1 × 1
            return (self.b.shape[0], *self.a.shape[1:])
        shape = (self.b.shape[0], self.a.shape[1])
        return shape[::-1] if self.embedding else shape


class Peft(Checkpoint):
    """A LoRA adapter; its entries are the updates of the weights, under the names of these."""

    format = "peft"

    def __init__(self, folder: Path) -> None:
        config = read_json(folder / CONFIG)
        if (kind := config.get("peft_type")) != "LORA":
            raise CheckpointError(f"{folder} is a PEFT adapter of type {kind}: eigenscope reads those of type LORA")
        path = next((folder / name for name in FILES if (folder / name).is_file()), None)
        if path is None:
            raise CheckpointError(f"{folder} is a PEFT adapter without weights: looked for {' and '.join(FILES)}")
        self._file = open_file(path)
        self.updates: Mapping[str, Update] = _updates(self._file.entries, config, path)
        used = {factor.name for update in self.updates.values() for factor in (update.a, update.b)}
        entries = [_entry(name, update) for name, update in self.updates.items()]
        entries += [_replacement(entry) for entry in self._file.entries if entry.name not in used]
        super().__init__(folder.resolve().name, entries, config=config, notes=_notes(config))

    def _load(self, entry: Entry) -> Tensor:
        update = self.updates.get(entry.name)
        if update is None:
            return self._file.load(entry.name)
        a, b = (factor.double() for factor in self.factors(update))
        product = update.scaling * (b.flatten(1) @ a.flatten(1))
        if update.embedding:
            product = product.T
        return product.reshape(update.shape)

    def factors(self, update: Update) -> tuple[Tensor, Tensor]:
        """A and B as stored, without multiplying them."""
        return self._file.load(update.a.name), self._file.load(update.b.name)

    def close(self) -> None:
        """Close the file with the factors."""
        self._file.close()


def _updates(entries: tuple[Entry, ...], config: Mapping[str, object], path: Path) -> dict[str, Update]:
    pairs: dict[tuple[str, str], dict[str, Entry]] = defaultdict(dict)
    for entry in entries:
        if match := _FACTOR.fullmatch(entry.name):
            pairs[match["module"].removeprefix(PREFIX), match["name"] or ""][match["kind"]] = entry
    several = len({adapter for _, adapter in pairs}) > 1
    found = {}
    for (module, adapter), factors in pairs.items():
        name = f"{module}.weight ({adapter})" if several else f"{module}.weight"
        found[name] = _update(module, factors, config, path)
    if not found:
        raise CheckpointError(f"{path} holds no lora_A and lora_B: name a LoRA adapter")
    return found


def _update(module: str, factors: Mapping[str, Entry], config: Mapping[str, object], path: Path) -> Update:
    embedding = "embedding_A" in factors
    a, b = (factors.get(f"embedding_{side}" if embedding else side) for side in "AB")
    if a is None or b is None:
        raise damaged(path, f"{module} has one factor of two")
    if min(len(a.shape), len(b.shape)) < 2 or math.prod(b.shape[1:]) != a.shape[0] or not a.shape[0]:
        raise damaged(path, f"the factors of {module}, {a.shape} and {b.shape}, do not fit")
    if "float" not in (a.kind, b.kind):
        raise damaged(path, f"the factors of {module} are no floating-point numbers")
    flag = bool(config.get("fan_in_fan_out"))
    return Update(a, b, embedding, flag, _scaling(module, a.shape[0], config, path))


def _scaling(module: str, rank: int, config: Mapping[str, object], path: Path) -> float:
    alpha = config.get("lora_alpha")
    patterns = config.get("alpha_pattern")
    for pattern, value in patterns.items() if isinstance(patterns, Mapping) else ():
        if _fits(str(pattern), module, path):
            alpha = value
            break
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise damaged(path.with_name(CONFIG), f"lora_alpha is {alpha!r}")
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _fits(pattern: str, module: str, path: Path) -> bool:
    """PEFT takes a pattern as a regular expression for the end of the name; one that could take forever is refused."""
    bare = re.sub(r"\\.", "", pattern)  # without what is escaped
    if len(pattern) > 500 or len(re.findall(r"[*+?{]", bare)) > 3 or re.search(r"\)[*+?{]", bare):
        raise CheckpointError(f"{path.with_name(CONFIG)}: the pattern {pattern[:60]!r} is too intricate: name modules")
    try:
        return bool(re.match(rf"(.*\.)?({pattern})$", module))
    except re.error:
        raise damaged(path.with_name(CONFIG), f"the pattern {pattern[:60]!r} is no regular expression") from None


def _entry(name: str, update: Update) -> Entry:
    rougher = max((update.a, update.b), key=lambda factor: factor.roundoff)
    return Entry(name, update.shape, rougher.dtype, rougher.kind, rougher.roundoff, rank=update.a.shape[0])


def _replacement(entry: Entry) -> Entry:
    magnitude = "lora_magnitude" in entry.name
    aside = "a magnitude of DoRA" if magnitude else "a whole weight that the adapter brings, not a ΔW"
    return replace(entry, aside=entry.aside or aside)


def _notes(config: Mapping[str, Any]) -> list[str]:
    dora = "DoRA also rescales each row by a magnitude that depends on the base: ΔW here is its low-rank part"
    return [dora] if config.get("use_dora") else []


FORMAT = Format("PEFT adapter", (), lambda path, _: (path / CONFIG).is_file(), Peft)

"""BASE and TUNED, tensor by tensor: what has a partner, what is new, and what must not be missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from eigenscope.adapters.architecture import ADAPTABLE, Architecture
from eigenscope.checkpoints import Checkpoint, Entry
from eigenscope.errors import InputError
from eigenscope.words import few

_FORMATS = ("gguf", "keras", "onnx")  # names of their own, which no module of PyTorch has
_SAMPLE = 40  # names that tell a prefix


@dataclass(frozen=True)
class Pair:
    """A tensor of TUNED, by its name in the model, and the one of BASE, if there is one."""

    name: str
    base: Entry | None
    tuned: Entry


def paired(base: Checkpoint, tuned: Checkpoint, architecture: Architecture) -> tuple[list[Pair], list[str]]:
    """Every weight of TUNED with its partner, and notes; raises `InputError` where these are no two of one model."""
    for checkpoint, role in ((base, "BASE"), (tuned, "TUNED")):
        if checkpoint.format == "peft":
            raise InputError(f"{role}, {checkpoint.name}, is an adapter already: give the models, or inspect it")
    after = _weights(tuned, architecture)
    before = _moved(_weights(base, architecture), after)
    if not before.keys() & after.keys():
        raise InputError(f"{base.name} and {tuned.name} have no tensor in common: are they of one architecture?")
    notes = list(_notes(base, tuned, before, after, architecture))
    pairs = [Pair(name, before.get(name), entry) for name, entry in after.items()]
    _check(pairs, architecture, (base.name, tuned.name))
    return pairs, notes


def _weights(checkpoint: Checkpoint, architecture: Architecture) -> dict[str, Entry]:
    """Of what is no weight (an optimizer's state, masks that are computed), nothing."""
    found: dict[str, Entry] = {}
    for entry in checkpoint.entries:
        name = architecture.name_of(entry.name)
        buffer = entry.aside == "a buffer"
        if (entry.aside and not buffer) or (buffer and architecture.names and name not in architecture.names):
            continue
        if entry.kind == "integer" and not name.endswith("num_batches_tracked"):
            continue
        found[name] = entry
    return found


def _moved(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> dict[str, Entry]:
    """BASE's tensors by TUNED's names, where one of them has the body below a prefix and the other has not."""
    if len(before.keys() & after.keys()) > len(before) // 2:
        return dict(before)
    longer = Counter(_lead(name, after) for name in list(before)[:_SAMPLE])
    shorter = Counter(_lead(name, before) for name in list(after)[:_SAMPLE])
    (down, gained), (up, lost) = (count.most_common(1)[0] for count in (longer, shorter))
    if down and gained >= lost:
        return {f"{down}{name}" if f"{down}{name}" in after else name: entry for name, entry in before.items()}
    return {name.removeprefix(up or ""): entry for name, entry in before.items()}


def _lead(name: str, others: Mapping[str, Entry]) -> str | None:
    """What stands before this name in the other checkpoint."""
    return next((other[: -len(name)] for other in others if other.endswith(f".{name}")), None)


def _notes(
    base: Checkpoint,
    tuned: Checkpoint,
    before: Mapping[str, Entry],
    after: Mapping[str, Entry],
    architecture: Architecture,
) -> Iterator[str]:
    absent = [name for name in before if name not in after]
    fatal = [name for name in absent if _needed(name, before, architecture)]
    if fatal:
        raise InputError(f"{tuned.name} lacks {few(fatal)}, which {base.name} has: are they of one architecture?")
    if absent:
        yield f"{tuned.name} has no {few(absent)}: a head of {base.name} alone, which the adapter leaves as it is"
    if tuned.format in _FORMATS:
        yield f"the names are those of {tuned.format}: PEFT will not find modules of such names in a PyTorch model"
    if not architecture.names:
        how = "hand in the models, or folders whose config.json transformers knows, to be sure"
        yield f"which layer a tensor belongs to is guessed from its name and shape: {how}"
    unknown = [name for name in after if architecture.names and name not in architecture.names]
    if unknown:
        yield f"{architecture.source} has no tensor {few(unknown)}: their kind is guessed from name and shape"


def _needed(name: str, before: Mapping[str, Entry], architecture: Architecture) -> bool:
    if architecture.names:
        return name in architecture.names and not set(architecture.tied.get(name, ())) - {name}
    buffer = before[name].aside is not None or name.endswith(("position_ids", ".attn.bias", "inv_freq"))
    return not (architecture.is_head(name) or buffer)


def _check(pairs: list[Pair], architecture: Architecture, names: tuple[str, str]) -> None:
    """Shapes agree but for embeddings' rows and heads; what only TUNED has is no layer of the stack."""
    for pair in pairs:
        kind = architecture.kind(pair.name, pair.tuned.shape)
        head = architecture.is_head(pair.name)
        if kind in ADAPTABLE and "." not in pair.name:
            raise InputError(f"{names[1]} is a single layer, without a name for PEFT to find: put it in nn.Sequential")
        if pair.base is None:
            if re.search(r"\.\d+\.", pair.name) and not head:
                raise InputError(f"{names[0]} lacks {pair.name}, which {names[1]} has: are they of one architecture?")
        elif pair.base.shape != pair.tuned.shape and not head:
            longer = kind in ("embedding", "doubtful") and pair.base.shape[1:] == pair.tuned.shape[1:]
            if not longer:
                shapes = f"{pair.base.shape} in {names[0]} and {pair.tuned.shape} in {names[1]}"
                raise InputError(f"{pair.name} is {shapes}: an adapter needs two models of one architecture")

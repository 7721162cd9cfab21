"""A folder with one model: Hugging Face's layout, in one file or in shards, with its configuration and its tokens."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from torch import Tensor

from eigenscope.checkpoints.base import Checkpoint, Entry, reading
from eigenscope.checkpoints.files import read_json
from eigenscope.checkpoints.registry import formats, known_formats, open_file
from eigenscope.checkpoints.tokens import tokens_of
from eigenscope.errors import CheckpointError
from eigenscope.words import few

INDEX = ".index.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.safetensors")  # the first that is there
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)")
_EMBEDDING = re.compile(r"(^|\.)(wte|lm_head|embed_tokens|word_embeddings?|shared|tok_embeddings|embed_in|embed_out)\.")


class Folder(Checkpoint):
    """A model folder. Entries come in the order of the shards, and of the tensors in each."""

    format = "huggingface"

    def __init__(self, folder: Path, name: str | None = None, index: Path | None = None) -> None:
        self._folder = folder
        self._shards = [open_file(path) for path in _weights(folder, index)]
        self._home: dict[str, Checkpoint] = {}
        for shard in self._shards:
            for entry in shard.entries:
                if entry.name in self._home:
                    raise CheckpointError(f"{folder}: {entry.name} is in two shards: name one file of them")
                self._home[entry.name] = shard
        config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
        super().__init__(
            name or folder.resolve().name,
            [entry for shard in self._shards for entry in shard.entries],
            config=config or (self._shards[0].config if len(self._shards) == 1 else {}),
            tied={key: value for shard in self._shards for key, value in shard.tied.items()},
            notes=[note for shard in self._shards for note in shard.notes],
        )

    def _load(self, entry: Entry) -> Tensor:
        return self._home[entry.name].stored(entry.name)  # its scale may be in another shard

    def labels(self, name: str, axis: int) -> Sequence[str] | None:
        """The tokens, for the rows of an embedding or a head; rows beyond the vocabulary are padding."""
        entry = self._by_name.get(name)
        if entry is None or axis != 0 or len(entry.shape) != 2:
            return None
        if not _EMBEDDING.search(name):
            return self._home[name].labels(name, axis)
        tokens, rows = self._tokens, entry.shape[0]
        if tokens is None or not len(tokens) <= rows <= len(tokens) + 1024:
            return None
        return [*tokens, *(f"<padding {number}>" for number in range(len(tokens), rows))]

    @cached_property
    def _tokens(self) -> list[str] | None:
        with reading(self._folder / "tokenizer.json"):
            return tokens_of(self._folder)

    def close(self) -> None:
        """Close every shard."""
        for shard in self._shards:
            shard.close()


def _weights(folder: Path, index: Path | None) -> list[Path]:
    """The files with the weights; raises `CheckpointError` where there are none, or several models."""
    with reading(folder):
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    if index is not None:
        return _indexed(index)
    for name in WEIGHTS:
        if name + INDEX in names:
            return _indexed(folder / (name + INDEX))
        if name in names:
            return [folder / name]
    suffixes = tuple(suffix for known in formats() for suffix in known.suffixes)
    found = [name for name in names if name.lower().endswith(suffixes)]
    if not found:
        inside = sorted(path.parent.name for path in folder.glob("*/adapter_config.json"))
        hint = f"; its adapters are in folders of their own: {', '.join(inside)}" if inside else ""
        looked = f"{', '.join(WEIGHTS)} (or an index of shards), or one file of {known_formats()}"
        raise CheckpointError(f"{folder} is a folder without weights: looked for {looked}{hint}")
    if len(found) == 1:
        return shards_of(folder, found) or [folder / found[0]]
    if shards := shards_of(folder, found):
        return shards
    raise CheckpointError(f"{folder} holds several files with weights: name one of {few(found, 8)}")


def _indexed(index: Path) -> list[Path]:
    """The shards that an index names, each there and holding what the index says of it."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise CheckpointError(f"{index} names no weights: get a fresh copy")
    promised: dict[str, list[str]] = defaultdict(list)
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard or shard in ("", ".", ".."):
            raise CheckpointError(f"{index} wants to read {str(shard)[:80]!r}, which is no file of its folder: refused")
        promised[shard].append(name)
    missing = [shard for shard in promised if not (index.parent / shard).is_file()]
    if missing:
        raise CheckpointError(_missing(index.parent, missing, len(promised)))
    for shard, names in promised.items():
        with open_file(index.parent / shard) as opened:
            lacking = set(names) - {entry.name for entry in opened.entries}
        if lacking:
            path = index.parent / shard
            raise CheckpointError(f"{path} lacks {min(lacking)}, which the index promises: get both again")
    return [index.parent / shard for shard in promised]


def shards_of(folder: Path, found: Sequence[str]) -> list[Path] | None:
    """All shards of one model, told by their names; None where the files are no shards of one model."""
    matches = [_SHARD.fullmatch(name) for name in found]
    if not all(matches) or len({(m[1], m[3], m[4]) for m in matches if m}) != 1 or matches[0] is None:
        return None
    stem, _, count, ending = matches[0].groups()
    if int(count) > 10_000:
        return None
    expected = [f"{stem}-{number:05}-of-{count}{ending}" for number in range(1, int(count) + 1)]
    if missing := sorted(set(expected) - set(found)):
        raise CheckpointError(_missing(folder, missing, len(expected)))
    return [folder / name for name in expected]


def _missing(folder: Path, missing: Sequence[str], total: int) -> str:
    return f"{folder} lacks {few(missing)} of its {total} shards: download what is missing"

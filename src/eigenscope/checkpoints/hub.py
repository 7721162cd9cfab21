"""A model by its Hugging Face id, through `huggingface_hub` and its cache."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from eigenscope.checkpoints.base import Checkpoint
from eigenscope.checkpoints.files import read_json
from eigenscope.checkpoints.folder import INDEX, WEIGHTS, Folder, shards_of
from eigenscope.checkpoints.registry import formats, recognize
from eigenscope.errors import CheckpointError, first_line
from eigenscope.words import few

_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?", re.ASCII)
_DESCRIPTIONS = ["config.json", "adapter_config.json", "tokenizer.json", "vocab.json", "vocab.txt", "*.index.json"]


def is_id(source: str) -> bool:
    """Whether this can be an id such as "gpt2" or "openai-community/gpt2", and is no name of a file."""
    endings = tuple(suffix for known in formats() for suffix in known.suffixes)
    return bool(_ID.fullmatch(source)) and not source.lower().endswith((*endings, ".json"))


def open_hub(name: str) -> Checkpoint:
    """Download what is not in the cache yet (descriptions, then one set of weights), and open it."""
    folder = _fetch(name, _DESCRIPTIONS)
    there = _listed(name, folder)
    for patterns in _choices(folder):
        found = sorted(file for file in there if any(fnmatch(file, pattern) for pattern in patterns))
        if found:
            folder = _fetch(name, _one_model(name, found) if patterns[0].startswith("*") else found)
            break
    known = recognize(folder)
    return Folder(folder, name) if known is None else known.open(folder)


def _listed(name: str, folder: Path) -> list[str]:
    """The files of the model; offline those of its cache. Files in folders of their own are other models."""
    try:
        files = _hub().list_repo_files(name)
    except Exception:  # offline: what else is wrong, a download tells in its own words
        files = [path.name for path in folder.iterdir()]
    return [file for file in files if "/" not in file]


def _one_model(name: str, files: list[str]) -> list[str]:
    """Files that are one model, whole or in shards; raises `CheckpointError` before several are downloaded."""
    if len(files) > 1 and shards_of(Path(name), files) is None:
        raise CheckpointError(
            f"the Hugging Face model {name!r} holds several files with weights: "
            f"download one ('hf download {name} FILE') and name it: {few(files, 8)}"
        )
    return files


def _choices(folder: Path) -> list[list[str]]:
    """Patterns of files, the first of which that matches something has the weights."""
    adapter = (folder / "adapter_config.json").is_file()
    choices = [["adapter_model.safetensors"], ["adapter_model.bin"]] if adapter else []
    for weights in WEIGHTS:
        index = folder / (weights + INDEX)
        weight_map = read_json(index).get("weight_map") if index.is_file() else None
        choices.append(sorted(set(map(str, weight_map.values()))) if isinstance(weight_map, dict) else [weights])
    return choices + [[f"*{suffix}" for suffix in known.suffixes] for known in formats() if known.suffixes]


def _fetch(name: str, patterns: list[str]) -> Path:
    try:
        return Path(_hub().snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # of the network, of the cache's disk, of the id
        raise CheckpointError(_explained(name, error)) from error


def _hub() -> Any:
    """Imported where it is used: reading a file needs none of it."""
    import huggingface_hub

    return huggingface_hub


def _explained(name: str, error: Exception) -> str:
    kind = type(error).__name__
    if kind in ("LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError", "ConnectTimeout"):
        return (
            f"there is no file or folder {name!r} here, and the model of that Hugging Face id is not in the cache "
            "and can't be downloaded (offline): name a path, or download it while online"
        )
    if kind in ("RepositoryNotFoundError", "HFValidationError", "RevisionNotFoundError"):
        return f"there is no file or folder {name!r} here, and no Hugging Face model of that id: check the name"
    if kind == "GatedRepoError":
        return f"the Hugging Face model {name!r} asks for a licence first: accept it there and run 'hf auth login'"
    if isinstance(error, OSError) and error.strerror:
        where = error.filename or "HF_HOME"
        return f"the Hugging Face cache can't be used for {name!r} ({error.strerror}): check {where}"
    reason = f"{kind}: {first_line(error)}"
    return f"the Hugging Face model {name!r} can't be fetched ({reason}): download it and name its folder"

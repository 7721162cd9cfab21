"""The formats, each one file in `formats/` that defines FORMAT: adding one touches no other."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from eigenscope.checkpoints.base import Checkpoint, reading
from eigenscope.errors import CheckpointError

HEAD = 4096  # bytes that a format may look at to recognize a file


@dataclass(frozen=True)
class Format:
    """A kind of file or folder with weights."""

    name: str
    suffixes: tuple[str, ...]  # as people know it; a file of another name is still recognized by its content
    recognizes: Callable[[Path, bytes], bool]  # the path and its first bytes (none of a folder)
    open: Callable[[Path], Checkpoint]


@cache
def formats() -> tuple[Format, ...]:
    """Every format there is, by the name of its file."""
    package = import_module("eigenscope.checkpoints.formats")
    names = sorted(found.name for found in pkgutil.iter_modules(package.__path__))
    return tuple(import_module(f"{package.__name__}.{name}").FORMAT for name in names)


def recognize(path: Path) -> Format | None:
    """The format of a file or folder: by content, and by its name where the content tells nothing."""
    with reading(path):
        head = b"" if path.is_dir() else _head(path)
    named = [known for known in formats() if path.name.lower().endswith(known.suffixes or ("\0",))]
    for known in (*named, *formats()):
        if known.recognizes(path, head):
            return known
    return named[0] if named and path.is_file() else None


def open_file(path: Path) -> Checkpoint:
    """Open one file with weights; raises `CheckpointError` naming the known formats where it is of none."""
    found = recognize(path)
    if found is None:
        raise CheckpointError(f"{path} is in no known format: eigenscope reads {known_formats()}")
    with reading(path):
        return found.open(path)


def known_formats() -> str:
    """What can be read, for people."""
    return ", ".join(f"{known.name} ({' '.join(known.suffixes)})" for known in formats() if known.suffixes)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights: run 'git lfs pull' in its folder")
    if not head:
        raise CheckpointError(f"{path} is empty: get a fresh copy")
    return head

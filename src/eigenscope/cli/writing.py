"""Results into files: told before the work where a file can't be written, and `-` is standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from eigenscope.errors import InputError


def check_writable(paths: Mapping[str, str | None]) -> None:
    """Of the paths by option: each can be written, and at most one is standard output."""
    out = [option for option, path in paths.items() if path == "-"]
    if len(out) > 1:
        raise InputError(f"{' and '.join(out)} can't share standard output: give all but one a file")
    for path in paths.values():
        if path is not None and path != "-":
            _try(Path(path))


def _try(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder: give a file to write")
    if not path.parent.is_dir():
        raise InputError(f"{str(path)!r} can't be written: there is no folder {str(path.parent)!r}")
    new = not path.exists()
    try:
        with path.open("ab"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise InputError(f"{str(path)!r} can't be written: {error.strerror}") from None


def write(path: str | None, writer: Callable[[TextIO], None]) -> None:
    """Nowhere for None."""
    if path == "-":
        writer(sys.stdout)
    elif path is not None:
        try:
            with Path(path).open("w", encoding="utf-8", newline="") as file:
                writer(file)
        except OSError as error:
            raise InputError(f"{path!r} can't be written: {error.strerror}") from None

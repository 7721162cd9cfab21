"""A folder that is written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from eigenscope.errors import InputError, first_line


def write_folder(folder: Path, write: Callable[[Path], None], *, force: bool, marker: str) -> None:
    """Call `write` on a new folder beside `folder`, and give it that name once everything is in it.

    With `force` an older result, known by its file `marker`, is replaced; files in it that the new one lacks stay.
    Raises `InputError` where the folder exists or can't be written.
    """
    check_target(folder, force=force, marker=marker)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise InputError(f"{str(folder)!r} can't be written: {error.strerror}") from None
    try:
        write(made)
        made.chmod(0o777 & ~_umask())
        _take_place(made, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"{str(folder)!r} can't be written ({reason}): nothing was left there") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def check_target(folder: Path, *, force: bool, marker: str) -> None:
    """A new folder, an empty one, or with `force` an older result."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is a file: give a folder to write")
    if not any(folder.iterdir()):
        return
    if not force:
        raise InputError(f"{str(folder)!r} exists: give another folder, or force to replace it")
    if not (folder / marker).is_file():
        raise InputError(f"{str(folder)!r} holds something else than a compressed model: give another folder")


def _take_place(made: Path, folder: Path) -> None:
    if not folder.exists():
        made.rename(folder)
        return
    aside = made.with_name(f"{made.name}-old")
    folder.rename(aside)
    try:
        made.rename(folder)
    except BaseException:
        aside.rename(folder)
        raise
    for path in aside.iterdir():
        if not (folder / path.name).exists():
            path.rename(folder / path.name)
    shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""Folders that are written whole or not at all: the one writer of adapters, merged and compressed models.

What is new is made in a folder of its own and takes its place by renaming. An older result is replaced only by force,
and only the files of its kind: whatever else lies in the folder is never touched.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from eigenscope.errors import InputError, first_line


@dataclass(frozen=True)
class Contents:
    """What a kind of folder holds."""

    what: str  # for people: "an adapter"
    mark: str  # the file that tells such a folder
    files: tuple[str, ...]  # replaced together: an older one goes even where the new result has none


def check_folder(
    out: str | os.PathLike[str], contents: Contents, *, force: bool = False, sources: Iterable[object] = ()
) -> Path:
    """Where to write, links followed; raises `InputError`, before any work, where that can't or must not be.

    A folder with anything in it takes `force`, and has to be one of this kind. Nothing is written to (or into) the
    `sources`, as far as they are paths: they are what is read.
    """
    path, name = _real(out), repr(os.fspath(out))
    for source in sources:
        if isinstance(source, str | os.PathLike) and _would_harm(path, _real(source), contents):
            raise InputError(f"{name} would be written over {os.fspath(source)!r}, which is read: give another folder")
    if path.is_dir():
        if any(path.iterdir()):
            _check_replaced(path, name, contents, force)
    elif os.path.lexists(path):
        raise InputError(f"{name} is a file: give a folder to write")
    above = next(folder for folder in (path, *path.parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{name}: {str(above)!r} can't be written in: give a folder elsewhere")
    return path


def _real(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.realpath(Path(path).expanduser()))


def _would_harm(path: Path, source: Path, contents: Contents) -> bool:
    if not source.exists():
        return False  # an id of the Hub
    return path == source or source in path.parents or (source.parent == path and source.name in contents.files)


def _check_replaced(path: Path, name: str, contents: Contents, force: bool) -> None:
    if not force:
        raise InputError(f"{name} exists: give another folder, or force to replace it (--force)")
    if not (path / contents.mark).is_file():
        raise InputError(f"{name} holds something else than {contents.what} (no {contents.mark}): give another folder")


@contextmanager
def new_folder(
    out: str | os.PathLike[str], contents: Contents, *, force: bool = False, sources: Iterable[object] = ()
) -> Iterator[Path]:
    """A folder to fill, which becomes `out` at the end; whatever goes wrong leaves what was there before.

    Raises what `check_folder` raises, and `InputError` where the disk fails.
    """
    path = check_folder(out, contents, force=force, sources=sources)
    made: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        home = path if path.is_dir() else path.parent  # the same disk, so that renaming is enough
        made = home / f".{path.name}.{secrets.token_hex(4)}.partial"
        made.mkdir()
        yield made
        for file in made.iterdir():
            file.chmod(made.stat().st_mode & 0o666)  # as any new file: safetensors makes its own private
        _take_place(made, path, contents)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"{os.fspath(out)!r} can't be written ({reason}): nothing was left there") from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _take_place(made: Path, path: Path, contents: Contents) -> None:
    """Rename the folder, or its files one by one where there is one already; undone where that fails."""
    if not path.is_dir():
        made.rename(path)
        return
    new = sorted(file.name for file in made.iterdir())
    gone = [name for name in sorted({*contents.files, *new}) if (path / name).is_file() or (path / name).is_symlink()]
    old = made / "replaced"
    old.mkdir()
    moves = [(path / name, old / name) for name in gone] + [(made / name, path / name) for name in new]
    done = []
    try:
        for start, end in moves:
            start.rename(end)
            done.append((start, end))
    except BaseException:
        for start, end in reversed(done):
            end.rename(start)
        raise


def write_json_file(path: Path, document: Mapping[str, object]) -> None:
    """A configuration, as people read it."""
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

"""Where a run is written: the name that the user gave, never a file that is already there."""

import os
from itertools import chain, count
from pathlib import Path

from eigenscope.errors import InputError, RunFileError

SUFFIX = ".eigenscope"


def claim(path: str | os.PathLike[str]) -> Path:
    """Create the empty file of a new run: `first.eigenscope`, else `first-2.eigenscope`, and so on.

    Two programs that ask for one name at the same moment get two files.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"run={path!r}: a path is needed, such as 'runs/first'")
    given = Path(path)
    if given.is_dir():
        example = str(given / "first")
        raise RunFileError(f"the run path {str(path)!r} is a folder: name a file in it, such as {example!r}")
    stem = given.name.removesuffix(SUFFIX)
    if not stem:
        raise RunFileError(f"the run path {str(path)!r} has no name: give one, such as 'runs/first'")
    try:
        given.parent.mkdir(parents=True, exist_ok=True)
        for name in chain([stem], (f"{stem}-{n}" for n in count(2))):
            candidate = given.with_name(name + SUFFIX)
            try:
                candidate.touch(exist_ok=False)
            except FileExistsError:
                continue
            return candidate
    except OSError as error:
        raise RunFileError(
            f"the run {str(path)!r} can't be written ({error.strerror}): name a folder that you may write to"
        ) from error
    raise AssertionError("count() never ends")

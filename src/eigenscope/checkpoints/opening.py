"""`open_checkpoint`: whatever holds weights, opened."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from eigenscope.checkpoints.base import Checkpoint, reading
from eigenscope.checkpoints.folder import INDEX, Folder
from eigenscope.checkpoints.hub import is_id, open_hub
from eigenscope.checkpoints.live import Live
from eigenscope.checkpoints.registry import open_file, recognize
from eigenscope.errors import CheckpointError

Source = str | os.PathLike[str] | nn.Module | Mapping[str, Any]


def open_checkpoint(source: Source) -> Checkpoint:
    """Open a file, a folder, a Hugging Face id, a model in memory or a state dict; only headers are read.

    A path that exists goes before an id of the same name. Nothing in a file is ever executed. Raises `CheckpointError`,
    in one line, for all that can't be read.
    """
    if isinstance(source, nn.Module | Mapping):
        return Live(source)
    if not isinstance(source, str | os.PathLike) or not str(source):
        raise CheckpointError(f"{source!r:.80} is no checkpoint: hand in a path, an id, a model or a state dict")
    path = Path(source).expanduser()
    with reading(path):
        if path.is_dir():
            found = recognize(path)
            return Folder(path) if found is None else found.open(path)
        if path.name.endswith(INDEX) and path.is_file():
            return Folder(path.parent, index=path)
        if path.is_file():
            return open_file(path)
        if path.exists():
            raise CheckpointError(f"{path} is neither a file nor a folder: name one with weights")
        if isinstance(source, str) and is_id(source):
            return open_hub(source)
        raise CheckpointError(_absent(path))


def _absent(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link to {os.readlink(path)}, which is not there: the download is incomplete"
    if not path.parent.is_dir():
        return f"there is no {path}: not even the folder {path.parent} is there"
    close = difflib.get_close_matches(path.name, [other.name for other in path.parent.iterdir()], 3, 0.5)
    hint = f" (there is {', '.join(close)})" if close else ""
    return f"there is no {path}: check the name{hint}"

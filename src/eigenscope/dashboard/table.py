"""The runs under the path that the dashboard was opened on: found by looking, and known by an id.

An id that a request names is looked up here and never becomes a path.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eigenscope.errors import InputError, RunFileError
from eigenscope.runs import Run, load_run
from eigenscope.runs.paths import SUFFIX
from eigenscope.runs.status import ENDED

logger = logging.getLogger("eigenscope.dashboard")

# What may follow an id in an address.
_ROUTE_WORDS = frozenset({"series", "densities", "measurements", "readings", "alerts", "actions"})


class UnknownRunError(InputError):
    """No run of that id is under the dashboard's path."""


class RunTable:
    """The runs of one file or of a folder and the folders in it; hidden folders are left alone."""

    def __init__(self, runs: str | os.PathLike[str]) -> None:
        self._root = Path(runs)
        if not self._root.is_dir():
            with load_run(self._root) as run:  # says clearly what is wrong with it
                self._root = run.path
        self._paths: dict[str, Path] = {}
        self._ended: dict[str, tuple[object, dict[str, Any]]] = {}
        self._complained: set[Path] = set()
        self.scan()

    def scan(self) -> dict[str, Path]:
        """Look again; the runs by id."""
        self._paths = {_id_of(path, self._root): path for path in _run_files(self._root)}
        return self._paths

    def path(self, run_id: str) -> Path:
        """The file of a run; raises `UnknownRunError`."""
        path = self._paths.get(run_id) or self.scan().get(run_id)
        if path is None:
            raise UnknownRunError(f"there is no run {run_id!r}: it may have been moved or deleted")
        return path

    def open(self, run_id: str) -> Run:
        """A run, to be closed by the caller; raises `UnknownRunError` or `RunFileError`."""
        return load_run(self.path(run_id))

    def summaries(self) -> list[dict[str, Any]]:
        """A line a run, the one that started last first; files that can't be read are logged and left out."""
        lines = []
        for run_id, path in self.scan().items():
            try:
                lines.append(self._summary(run_id, path))
            except RunFileError as error:
                if path not in self._complained:
                    self._complained.add(path)
                    logger.warning("left out: %s", error)
        return sorted(lines, key=lambda line: line["started"] or 0, reverse=True)

    def _summary(self, run_id: str, path: Path) -> dict[str, Any]:
        stamp = _stamp(path)
        known, line = self._ended.get(run_id, (None, {}))
        if stamp == known:
            return line
        with load_run(path) as run:
            line = summary(run_id, run)
        if line["status"] in ENDED:  # the others change without a write, by the clock
            self._ended[run_id] = stamp, line
        return line


def summary(run_id: str, run: Run) -> dict[str, Any]:
    """A run as the list of runs shows it."""
    meta = run.meta
    return {
        "id": run_id,
        "name": run.name,
        "status": run.status,
        "last_step": run.last_step,
        "started": meta.get("started"),
        "updated": meta.get("heartbeat"),
        "config": meta.get("config", {}),
        "alert": next(iter(run.active_alerts), None),
    }


def _run_files(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        yield root
        return
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(SUFFIX))


def _id_of(path: Path, root: Path) -> str:
    if path == root:
        return path.stem
    parts = path.relative_to(root).with_suffix("").parts
    return "/".join(f"{part}~" if part in _ROUTE_WORDS else part for part in parts)


def _stamp(path: Path) -> object:
    """Changes when the file or its WAL was written to, or another file took its place."""
    stamps: list[tuple[int, int, int] | None] = []
    for name in (path, path.with_name(path.name + "-wal")):
        try:
            status = os.stat(name)
        except OSError:
            stamps.append(None)
        else:
            stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return stamps

"""Progress over several stages, each with a bar of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from eigenscope.reports.terminal import error_console


@contextmanager
def staged_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Told what is going on and how many of how many steps are done; on standard error, silent without a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    out = error_console()
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("reading the checkpoint", total=None)
        yield lambda title, done, total: bar.update(task, description=title, completed=done, total=max(done, total))

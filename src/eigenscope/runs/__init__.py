"""One SQLite file a run: the contract between the monitor that writes it and the dashboard that reads it.

`docs/run-file.md` describes the file for programs that are not eigenscope.
"""

from eigenscope.runs.reader import Run, load_run
from eigenscope.runs.series import Series
from eigenscope.runs.writer import RunWriter

__all__ = ["Run", "RunWriter", "Series", "load_run"]

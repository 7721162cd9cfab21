"""The command line in this process: its exit status and what it wrote."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from eigenscope.cli import main


@dataclass
class Ended:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of a command that refused its input; it printed nothing else."""
        assert self.status == 2, (self.status, self.out, self.err)
        assert self.out == ""
        (line,) = self.err.splitlines()
        return line


Command = Callable[..., Ended]


@pytest.fixture
def eigenscope(capsys, monkeypatch, tmp_path) -> Command:
    """Run a command in an empty folder, 100 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    threads = torch.get_num_threads()

    def run(*arguments: object) -> Ended:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse: --help, and bad usage
            status = int(error.code or 0)
        torch.set_num_threads(threads)
        out, err = capsys.readouterr()
        return Ended(status, out, err)

    return run

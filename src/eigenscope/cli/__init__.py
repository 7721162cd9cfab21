"""The `eigenscope` command: one file a command, each of them parse → library → report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from eigenscope.errors import EigenscopeError, InputError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Bad usage is one line and exit status 2, like any other bad input."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from eigenscope.cli import compare, dashboard, demo, explain, flow, lipschitz, measure, scan

    root = _Parser(
        prog="eigenscope",
        description="The instrument panel for neural-network training.",
        epilog="example: eigenscope demo --scenario saddle",
    )
    root.add_argument("--version", action="version", version=f"eigenscope {version('eigenscope')}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (demo, dashboard, measure, flow, lipschitz, scan, compare, explain):
        command.add_parser(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit status: 0 done, 1 a finding or a failed measurement, 2 bad usage or input."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except EigenscopeError as error:
        print(f"eigenscope: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        print("eigenscope: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0

"""The `eigenscope` command: one file a command, each of them parse → library → report."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from eigenscope.errors import EigenscopeError, InputError, first_line

DEBUG = "EIGENSCOPE_DEBUG"  # set to show the traceback of an internal error
EXIT_STATUSES = {
    0: "done, and no rule of --fail-on is met",
    1: "a rule of --fail-on is met, or a measurement can't be believed",
    2: "bad usage or input, told in one line",
    70: f"an internal error, told in one line; with {DEBUG}=1 its traceback too",
    130: "interrupted",
    141: "the reader of standard output went away, so that it can't be told what was found",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Bad usage is one line and exit status 2, like any other bad input."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from eigenscope.cli import (
        actions,
        compare,
        compress,
        dashboard,
        demo,
        explain,
        flow,
        lipschitz,
        lora,
        measure,
        scan,
    )

    root = _Parser(
        prog="eigenscope",
        description="The instrument panel for neural-network training.",
        epilog="example: eigenscope demo --scenario saddle",
    )
    root.add_argument("--version", action="version", version=f"eigenscope {version('eigenscope')}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (demo, dashboard, actions, measure, flow, lipschitz, scan, compare, compress, lora, explain):
        command.add_parser(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status; see `EXIT_STATUSES`."""
    try:
        options = parser().parse_args(arguments)
        return int(options.run(options))
    except EigenscopeError as error:
        print(f"eigenscope: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        print("eigenscope: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except Exception as error:  # ours: never a status that means a finding
        return _crashed(error)


def _crashed(error: Exception) -> int:
    """One line, and the traceback for who asks."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    said = f"{type(error).__name__}: {first_line(error)}"
    print(f"eigenscope: internal error ({said}), please report it with what {DEBUG}=1 adds", file=sys.stderr)
    return 70

"""`eigenscope actions RUN`: what was done to a run, and the answer to what is proposed."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from eigenscope.reports.actions_terminal import print_actions, when
from eigenscope.reports.strict_json import write_json
from eigenscope.reports.terminal import console
from eigenscope.runs import load_run
from eigenscope.runs.actions import DONE, answer

EPILOG = """examples:
  eigenscope actions runs/first               what was proposed, applied, undone
  eigenscope actions runs/first --apply 1     have proposal 1 applied
  eigenscope actions runs/first --dismiss 1   or not

A proposal comes from a training run with es.Monitor(..., act="ask"), and is
applied there between two steps; while another action is on trial, it waits
until that one is judged. The first answer counts.
"""


def add_parser(commands: Any) -> None:
    """Add the command to `eigenscope`."""
    parser = commands.add_parser(
        "actions",
        help="what was done to a run; apply or dismiss what is proposed",
        description="List the actions of a run, or answer a proposal of a live one.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", metavar="RUN", help="a run file")
    answers = parser.add_mutually_exclusive_group()
    answers.add_argument("--apply", type=int, metavar="N", help="have proposal N applied")
    answers.add_argument("--dismiss", type=int, metavar="N", help="dismiss proposal N")
    parser.add_argument("--json", action="store_true", help="the list as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List, or answer; raises `InputError` where there is nothing to answer."""
    with load_run(options.path) as run:
        actions, path = run.actions, run.path
    for verb in ("apply", "dismiss"):
        key = getattr(options, verb)
        if key is not None:
            answer(path, key, verb)
            console().print(f"action {key} is to be {DONE[verb]} {when(actions, verb)}")
            return 0
    if options.json:
        write_json(sys.stdout, {"run": str(path), "actions": actions})
    else:
        print_actions(console(), actions)
    return 0

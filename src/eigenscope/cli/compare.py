"""`eigenscope compare BASE TUNED`: what fine-tuning did to each matrix."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

from eigenscope.cli.writing import check_writable, write
from eigenscope.reports.compare_html import write_comparison_html
from eigenscope.reports.compare_terminal import COMPARE_SORTS, print_comparison
from eigenscope.reports.scan_csv import write_comparison_csv
from eigenscope.reports.strict_json import write_json
from eigenscope.reports.terminal import console, error_console, progress_bar
from eigenscope.scanning.compare import compare
from eigenscope.scanning.comparison import Comparison
from eigenscope.scanning.findings import OF_CHANGES, failing, parsed

EPILOG = """examples:
  eigenscope compare gpt2 ./gpt2-tuned     two checkpoints of one architecture
  eigenscope compare gpt2 ./adapter        a base and a PEFT adapter
  eigenscope compare base.pt tuned.pt --sort overlap --html report.html
  eigenscope compare base.pt tuned.pt --fail-on 'overlap<0.5'   exit status 1
"""


def add_parser(commands: Any) -> None:
    """Add the command to `eigenscope`."""
    parser = commands.add_parser(
        "compare",
        help="what fine-tuning did to each weight matrix",
        description="Measure the spectrum of the difference of two checkpoints, matrix by matrix:\n"
        "its size and rank, how far the leading directions turned, and which are new.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", metavar="BASE", help="a checkpoint file or folder, or a Hugging Face id")
    parser.add_argument("tuned", metavar="TUNED", help="another of its architecture, or a PEFT adapter of it")
    parser.add_argument("--match", action="append", metavar="GLOB", help="only tensors of such names (repeatable)")
    parser.add_argument(
        "--sort", choices=COMPARE_SORTS, metavar="ORDER", default="name",
        help=f"of the table: {', '.join(COMPARE_SORTS)} (default: name, as stored)",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON; - for standard output")
    parser.add_argument("--html", metavar="FILE", help="write a report that needs nothing else")
    parser.add_argument("--csv", metavar="FILE", help="write the table; - for standard output")
    parser.add_argument("--fail-on", action="append", metavar="RULE", help="exit 1 where a row meets it: 'overlap<0.9'")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare, print or write, judge."""
    paths = {"--json": options.json, "--csv": options.csv, "--html": options.html}
    check_writable(paths)
    for rule in options.fail_on or ():
        parsed(rule, OF_CHANGES)
    with contextlib.redirect_stdout(sys.stderr):  # what a reader of checkpoints prints is not the comparison
        found = _compared(options)
    faults = [line for rule in options.fail_on or () for line in failing(found, rule)]
    write(options.json, lambda file: write_json(file, found.to_dict()))
    write(options.csv, lambda file: write_comparison_csv(file, found))
    write(options.html, lambda file: write_comparison_html(file, found))
    if "-" not in paths.values():
        print_comparison(console(), found, sort=options.sort)
    for line in dict.fromkeys(faults):
        error_console().print(line, soft_wrap=True, markup=False)
    return 1 if faults else 0


def _compared(options: argparse.Namespace) -> Comparison:
    with progress_bar("comparing", 1) as advance:
        return compare(options.base, options.tuned, match=options.match, progress=advance)

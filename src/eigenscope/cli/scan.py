"""`eigenscope scan SOURCE`: the spectrum of every weight matrix of a checkpoint."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

from eigenscope.cli.writing import check_writable, write
from eigenscope.errors import InputError
from eigenscope.reports.directions_terminal import print_directions
from eigenscope.reports.scan_csv import write_csv
from eigenscope.reports.scan_html import write_html
from eigenscope.reports.scan_terminal import SORTS, print_scan
from eigenscope.reports.strict_json import write_json
from eigenscope.reports.terminal import console, error_console, progress_bar
from eigenscope.scanning.directions import named_directions
from eigenscope.scanning.findings import failing, parsed
from eigenscope.scanning.result import Scan
from eigenscope.scanning.scan import scan

EPILOG = """examples:
  eigenscope scan gpt2                            a Hugging Face id
  eigenscope scan model.safetensors --match '*attn*'
  eigenscope scan ./model --html report.html      a folder with one checkpoint
  eigenscope scan model.pt --fail-on 'spectrum_shape==noise'   exit status 1
  eigenscope scan model.gguf --top 5 token_embd.weight
"""


def add_parser(commands: Any) -> None:
    """Add the command to `eigenscope`."""
    parser = commands.add_parser(
        "scan",
        help="the spectrum of every weight matrix of a checkpoint",
        description="Measure the singular values of every weight matrix, and say what they mean.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="a checkpoint file or folder, or a Hugging Face id")
    parser.add_argument("--match", action="append", metavar="GLOB", help="only tensors of such names (repeatable)")
    parser.add_argument("--exclude", action="append", metavar="GLOB", help="not those of such names (repeatable)")
    parser.add_argument("--per-head", "--heads", action="store_true", help="attention heads one by one too")
    parser.add_argument("--input-size", metavar="HxW", help="of the images that convolutions meet, as 32x32 (stride 1)")
    parser.add_argument(
        "--sort", choices=SORTS, metavar="ORDER", default="name",
        help=f"of the table: {', '.join(SORTS)} (default: name, as stored)",
    )  # fmt: skip
    parser.add_argument("--words", action="store_true", help="a sentence for each matrix")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON; - for standard output")
    parser.add_argument("--html", metavar="FILE", help="write a report that needs nothing else")
    parser.add_argument("--csv", metavar="FILE", help="write the table; - for standard output")
    parser.add_argument("--top", nargs=2, metavar=("N", "LAYER"), help="the strongest directions of one matrix")
    parser.add_argument("--fail-on", action="append", metavar="RULE", help="exit 1 where a row meets it: 'alpha>8'")
    parser.add_argument("--workers", type=int, metavar="N", default=1, help="processes (default 1)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: cuda where there is one)")
    parser.add_argument("--ray", action="store_true", help="spread over a Ray cluster")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Scan, print or write, judge."""
    paths = {"--json": options.json, "--csv": options.csv, "--html": options.html}
    check_writable(paths)
    if options.top:
        return _directions(options)
    for rule in options.fail_on or ():
        if parsed(rule).name == "operator_norm" and options.input_size is None:
            raise InputError(f"{rule!r}: no operator_norm is measured without --input-size, as --input-size 32x32")
    with contextlib.redirect_stdout(sys.stderr):  # what a reader of checkpoints prints is not the scan
        found = _scanned(options)
    faults = [line for rule in options.fail_on or () for line in failing(found, rule)]
    write(options.json, lambda file: write_json(file, found.to_dict()))
    write(options.csv, lambda file: write_csv(file, found))
    write(options.html, lambda file: write_html(file, found))
    if "-" not in paths.values():
        print_scan(console(), found, sort=options.sort, words=options.words)
    for line in dict.fromkeys(faults):
        error_console().print(line, soft_wrap=True, markup=False)
    return 1 if faults else 0


def _directions(options: argparse.Namespace) -> int:
    """The strongest directions of one matrix, as a table or as JSON; everything else speaks of a scan."""
    for option in ("match", "exclude", "per_head", "input_size", "words", "html", "csv", "fail_on", "device", "ray"):
        if getattr(options, option):
            raise InputError(
                f"--top lists directions and doesn't scan: it goes with --json alone, not with {_flag(option)}"
            )
    title, found = named_directions(options.source, options.top[1], _count(options.top[0]))
    plain = {"matrix": title, "directions": [direction.to_dict() for direction in found]}
    write(options.json, lambda file: write_json(file, plain))
    if options.json != "-":
        print_directions(console(), title, found)
    return 0


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _scanned(options: argparse.Namespace) -> Scan:
    with progress_bar("scanning", 1) as advance:
        return scan(
            options.source,
            match=options.match,
            exclude=options.exclude,
            per_head=options.per_head,
            input_size=_size(options.input_size),
            workers=options.workers,
            backend="ray" if options.ray else "processes",
            device=options.device,
            progress=advance,
        )


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"--top {text}: a number of directions is needed, such as --top 5 LAYER")
    return int(text)


def _size(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    sides = text.lower().split("x")
    if not all(side.isdigit() and int(side) > 0 for side in sides):
        raise InputError(f"--input-size {text}: a size such as 32x32 is needed")
    return tuple(map(int, sides))

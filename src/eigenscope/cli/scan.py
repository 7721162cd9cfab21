"""`eigenscope scan SOURCE`: the spectrum of every weight matrix of a checkpoint."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from eigenscope.errors import InputError
from eigenscope.reports.scan_csv import write_csv
from eigenscope.reports.scan_html import write_html
from eigenscope.reports.scan_terminal import SORTS, print_scan
from eigenscope.reports.terminal import console, error_console, progress_bar
from eigenscope.scanning.directions import print_directions
from eigenscope.scanning.findings import failing
from eigenscope.scanning.result import Scan
from eigenscope.scanning.scan import scan

EPILOG = """examples:
  eigenscope scan gpt2                            a Hugging Face id
  eigenscope scan model.safetensors --match '*attn*'
  eigenscope scan checkpoints/ --html report.html
  eigenscope scan model.pt --json - --fail-on 'condition_number>1e6'
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
    parser.add_argument("--heads", action="store_true", help="attention heads one by one too")
    parser.add_argument("--input-size", metavar="HxW", help="of the images that convolutions meet, as 32x32")
    parser.add_argument("--sort", choices=SORTS, default="name", help="order of the table (default: as stored)")
    parser.add_argument("--words", action="store_true", help="a sentence for each matrix")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON; - for standard output")
    parser.add_argument("--html", metavar="FILE", help="write a report that needs nothing else")
    parser.add_argument("--csv", metavar="FILE", help="write the table; - for standard output")
    parser.add_argument("--top", nargs=2, metavar=("N", "LAYER"), help="the strongest directions of one matrix")
    parser.add_argument("--fail-on", action="append", metavar="RULE", help="exit 1 where a row meets it: 'alpha>8'")
    parser.add_argument("--workers", type=int, metavar="N", default=1, help="processes (default 1)")
    parser.add_argument("--ray", action="store_true", help="spread over a Ray cluster")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Scan, print or write, judge."""
    if options.top:
        print_directions(console(), options.source, options.top[1], _count(options.top[0]))
        return 0
    for path in (options.json, options.html, options.csv):
        _check_writable(path)
    found = _scanned(options)
    quiet = False
    writers: tuple[tuple[str | None, Callable[[TextIO, Scan], None]], ...] = (
        (options.json, _write_json), (options.csv, write_csv), (options.html, write_html),
    )  # fmt: skip
    for path, writer in writers:
        quiet |= path == "-"
        _write(path, found, writer)
    if not quiet:
        print_scan(console(), found, sort=options.sort, words=options.words)
    faults = [line for rule in options.fail_on or () for line in failing(found, rule)]
    for line in faults:
        error_console().print(line, soft_wrap=True)
    return 1 if faults else 0


def _scanned(options: argparse.Namespace) -> Scan:
    with progress_bar("scanning", 1) as advance:
        return scan(
            options.source,
            match=options.match,
            exclude=options.exclude,
            per_head=options.heads,
            input_size=_size(options.input_size),
            workers=options.workers,
            backend="ray" if options.ray else "processes",
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


def _check_writable(path: str | None) -> None:
    """Told before the work, not after it."""
    if path in (None, "-"):
        return
    place = Path(str(path))
    if place.is_dir():
        raise InputError(f"{path!r} is a folder: give a file to write")
    if not place.parent.is_dir():
        raise InputError(f"{path!r} can't be written: there is no folder {str(place.parent)!r}")


def _write(path: str | None, found: Scan, writer: Callable[[TextIO, Scan], None]) -> None:
    if path is None:
        return
    if path == "-":
        writer(sys.stdout, found)
        return
    try:
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer(file, found)
    except OSError as error:
        raise InputError(f"{path!r} can't be written: {error.strerror}") from None


def _write_json(file: TextIO, found: Scan) -> None:
    json.dump(found.to_dict(), file, allow_nan=False, ensure_ascii=False, indent=1)
    file.write("\n")

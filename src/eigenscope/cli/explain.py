"""`eigenscope explain`: the singular value decomposition of a small matrix, step by step."""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import Any

from eigenscope.cli.writing import check_writable, write
from eigenscope.errors import InputError
from eigenscope.explain import html, markdown, text
from eigenscope.explain.derivation import Derivation, derive
from eigenscope.explain.examples import EXAMPLES
from eigenscope.explain.parsing import Rows, read, shown, typed
from eigenscope.reports.strict_json import write_json
from eigenscope.words import did_you_mean

EPILOG = """examples:
  eigenscope explain "[[3, 2], [2, 3]]"
  eigenscope explain --examples                    matrices that teach something
  eigenscope explain counting -o counting.html     a page to read or to hand out
  eigenscope explain weights.csv --format markdown

Entries are whole numbers, decimals (0.1 is exactly 1/10) or fractions as 1/3.
Up to 6 × 6 the arithmetic is exact where it can be; 12 × 12 is the largest.
"""
FORMATS = {"text": text.document, "markdown": markdown.document, "html": html.document}
_ENDINGS = {".txt": "text", ".md": "markdown", ".html": "html", ".htm": "html"}


def add_parser(commands: Any) -> None:
    """Add the command to `eigenscope`."""
    parser = commands.add_parser(
        "explain",
        help="work a small matrix out by hand, step by step",
        description="The singular value decomposition of a small matrix, with every step to it:\n"
        "Gram matrix, characteristic polynomial, eigenvalues, singular vectors, check.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "matrix", metavar="MATRIX", nargs="?", help='"[[3, 2], [2, 3]]", a .csv or .npy file, or the name of an example'
    )
    parser.add_argument("--examples", action="store_true", help="list the examples")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--format", choices=FORMATS, help="default: by the ending of FILE, else text")
    formats.add_argument("--json", action="store_true", help="the derivation for machines, as JSON")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a file instead of standard output")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Derive, render, write."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # roots and brackets, whatever the locale
    if options.examples:
        _list_examples()
        return 0
    if options.matrix is None:
        raise InputError('give a matrix, as eigenscope explain "[[3, 2], [2, 3]]", or --examples')
    output = options.output or "-"
    kind = "json" if options.json else options.format or _kind(output)
    check_writable({"--output": output})
    derivation = _derived(options.matrix)
    if kind == "json":
        write(output, lambda file: write_json(file, derivation.to_dict()))
        return 0
    write(output, lambda file: print(FORMATS[kind](derivation.title, derivation.steps), end="", file=file))
    return 0


def _kind(output: str) -> str:
    """The format that a file's ending asks for."""
    ending = Path(output).suffix.lower()
    if output == "-" or not ending:
        return "text"
    if ending not in _ENDINGS:
        raise InputError(f"-o {output}: no format ends in {ending}; give .txt, .md or .html, or say --format or --json")
    return _ENDINGS[ending]


def _list_examples() -> None:
    width = max(map(len, EXAMPLES))
    for name, example in EXAMPLES.items():
        print(f"{name:{width}}  {example.shows}; σ = {example.singular_values}")


def _derived(given: str) -> Derivation:
    if given in EXAMPLES:
        return derive(EXAMPLES[given].rows, name=given)
    rows, name = _rows(given)
    return derive(rows, name=name)


def _rows(given: str) -> tuple[Rows, str]:
    if given.lstrip().startswith("["):
        return typed(given), ""
    if not given.strip() or ("." not in given and not os.path.exists(given)):
        near = did_you_mean(given, EXAMPLES)
        raise InputError(f'{shown(given)} is no matrix as "[[3, 2], [2, 3]]", no .csv or .npy file, no example{near}')
    return read(Path(given)), Path(given).name

"""`eigenscope lora`: extract, inspect, resize and merge LoRA adapters in PEFT's format."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rich.console import Console

from eigenscope.adapters.adapter import ADAPTER, Adapter
from eigenscope.adapters.extracting import DTYPES, extract_lora
from eigenscope.adapters.inspecting import inspect_lora
from eigenscope.adapters.merging import MERGED, merge_lora
from eigenscope.adapters.resizing import resize_lora
from eigenscope.cli.writing import check_writable, write
from eigenscope.errors import InputError
from eigenscope.folders import Contents, check_folder
from eigenscope.reports.lora_terminal import print_extraction, print_inspection, print_merge, print_resize
from eigenscope.reports.strict_json import write_json
from eigenscope.reports.terminal import console, progress_bar

EPILOG = """examples:
  eigenscope lora gpt2 ./gpt2-tuned -o adapter      what fine-tuning added
  eigenscope lora base.pt tuned.pt --rank 16 -o adapter
  eigenscope lora --inspect ./adapter               what it uses of its rank
  eigenscope lora --inspect ./adapter gpt2          and which directions are new
  eigenscope lora --resize 8 ./adapter -o smaller
  eigenscope lora --merge gpt2 ./adapter -o merged

At rank 8 an adapter of a 4096 × 4096 matrix is 65,536 numbers of 16,777,216.
"""
_ENERGY = 0.95


class _Report(Protocol):
    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""


def add_parser(commands: Any) -> None:
    """Add the command to `eigenscope`."""
    parser = commands.add_parser(
        "lora",
        help="extract, inspect, resize and merge LoRA adapters",
        description="Extract what fine-tuning added to each weight as a LoRA adapter for PEFT,\n"
        "look at what an adapter uses of its rank, change that rank, or merge it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources", metavar="BASE TUNED", nargs="*",
        help="two checkpoints of one architecture; with --inspect ADAPTER [BASE], with --resize ADAPTER, "
        "with --merge BASE ADAPTER",
    )  # fmt: skip
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--inspect", action="store_true", help="the spectrum of each update, and the rank that would do")
    what.add_argument("--resize", metavar="RANK", help="truncate to a rank, or by --energy with 'auto'")
    what.add_argument("--merge", action="store_true", help="add the adapter to its base for good")
    parser.add_argument("-o", "--output", metavar="OUT", help="the folder to write")
    parser.add_argument("--rank", metavar="N", help="of the factors; default: all of a low rank, else by --energy")
    parser.add_argument(
        "--energy", type=float, metavar="SHARE", help=f"of ‖ΔW‖² that each layer keeps (default {_ENERGY})"
    )
    parser.add_argument(
        "--dtype", choices=tuple(DTYPES), metavar="TYPE",
        help=f"of the factors: {', '.join(DTYPES)} (default float32)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace what is in OUT; files of others stay")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - for standard output")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do one of the four, print or write its report."""
    _check_options(options)
    check_writable({"--json": options.json})
    with contextlib.redirect_stdout(sys.stderr):  # what a reader of checkpoints prints is not the report
        found, show = _done(options)
    write(options.json, lambda file: write_json(file, found.to_dict()))
    if options.json != "-":
        show(console())
    return 0


def _check_options(options: argparse.Namespace) -> None:
    """Nothing that was asked for is passed over in silence."""
    if options.inspect and options.output:
        raise InputError("--inspect writes no folder: leave -o out, or give --json FILE")
    chosen = {"--inspect": options.inspect, "--resize": options.resize is not None, "--merge": options.merge}
    what = next((option for option, given in chosen.items() if given), "")
    unused = {"--inspect": ("rank", "dtype", "force"), "--resize": ("rank", "dtype")}
    unused["--merge"] = ("rank", "energy", "dtype")
    for name in unused.get(what, ()):
        if getattr(options, name) not in (None, False):
            raise InputError(f"{what} makes no use of --{name}: leave it out")
    decided = options.resize if options.resize is not None else options.rank
    if options.energy is not None and decided not in (None, "auto"):
        raise InputError(f"a rank of {decided} and --energy can't both decide: leave one out")
    if options.force and options.output is None:
        raise InputError("--force replaces what is in OUT: add -o OUT")


def _done(options: argparse.Namespace) -> tuple[_Report, Callable[[Console], None]]:
    if options.inspect:
        return _inspected(options)
    if options.resize is not None:
        return _resized(options)
    if options.merge:
        return _merged(options)
    return _extracted(options)


def _extracted(options: argparse.Namespace) -> tuple[_Report, Callable[[Console], None]]:
    base, tuned = _sources(options, "eigenscope lora BASE TUNED -o OUT", 2)
    _check(options, needs_output=False)
    rank = _rank("--rank", options.rank)
    if rank == "auto" and options.energy is not None:
        rank = None  # who names a share wants that share
    energy = _ENERGY if options.energy is None else options.energy
    with progress_bar("extracting", 1) as advance:
        dtype = options.dtype or "float32"
        adapter = extract_lora(base, tuned, rank=rank, energy=energy, dtype=dtype, progress=advance)
    report = adapter.report
    _save(adapter, options)
    return report, lambda out: print_extraction(out, report, options.output)  # type: ignore[arg-type]


def _inspected(options: argparse.Namespace) -> tuple[_Report, Callable[[Console], None]]:
    sources = _sources(options, "eigenscope lora --inspect ADAPTER [BASE]", 1, 2)
    energy = _ENERGY if options.energy is None else options.energy
    with progress_bar("inspecting", 1) as advance:
        found = inspect_lora(sources[0], sources[1] if len(sources) > 1 else None, energy=energy, progress=advance)
    return found, lambda out: print_inspection(out, found)


def _resized(options: argparse.Namespace) -> tuple[_Report, Callable[[Console], None]]:
    (source,) = _sources(options, "eigenscope lora --resize RANK ADAPTER -o OUT", 1)
    _check(options)
    energy = _ENERGY if options.energy is None else options.energy
    adapter = resize_lora(source, _rank("--resize", options.resize), energy=energy)
    report = adapter.report
    _save(adapter, options)
    return report, lambda out: print_resize(out, report, options.output)  # type: ignore[arg-type]


def _merged(options: argparse.Namespace) -> tuple[_Report, Callable[[Console], None]]:
    base, source = _sources(options, "eigenscope lora --merge BASE ADAPTER -o OUT", 2)
    _check(options, MERGED)
    with progress_bar("merging", 1) as advance:
        found = merge_lora(base, source, options.output, force=options.force, progress=advance)
    return found, lambda out: print_merge(out, found)


def _sources(options: argparse.Namespace, usage: str, *counts: int) -> Sequence[str]:
    found: Sequence[str] = options.sources
    if len(found) not in counts:
        raise InputError(f"{len(found)} sources were given: use {usage}")
    return found


def _check(options: argparse.Namespace, contents: Contents = ADAPTER, *, needs_output: bool = True) -> None:
    """The folder can be written, before any work."""
    if options.output is not None:
        check_folder(options.output, contents, force=options.force, sources=options.sources)
    elif needs_output:
        raise InputError("no folder to write was given: add -o OUT")


def _rank(option: str, text: str | None) -> Any:
    if text is None or text == "auto":
        return "auto"
    if not text.isdigit():
        raise InputError(f"{option} {text}: a rank is needed, such as {option} 8, or 'auto'")
    return int(text)


def _save(adapter: Adapter, options: argparse.Namespace) -> None:
    if options.output is not None:
        adapter.save(options.output, force=options.force)

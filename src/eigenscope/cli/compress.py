"""`eigenscope compress CHECKPOINT`: layers replaced by two thin ones each, and what that cost."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from rich.console import Console
from torch import nn

from eigenscope.cli.architecture import model_of
from eigenscope.cli.target import load_function, load_target, told
from eigenscope.cli.writing import check_writable, write
from eigenscope.compression.compressing import compressed
from eigenscope.compression.preparing import Prepared, Target, prepare, target
from eigenscope.compression.pricing import priced
from eigenscope.compression.saving import COMPRESSED, save_compressed
from eigenscope.errors import InputError
from eigenscope.folders import check_folder
from eigenscope.operators.probe import as_batches
from eigenscope.reports.compress_html import write_compression_html, write_trade_off_html
from eigenscope.reports.compress_terminal import print_compression, print_trade_off
from eigenscope.reports.stages import staged_bar
from eigenscope.reports.strict_json import write_json
from eigenscope.reports.terminal import console, error_console, titled
from eigenscope.scanning.scan import scan
from eigenscope.weights.reading import WeightReading

EPILOG = """examples:
  eigenscope compress ./model --keep 0.8 -o small
  eigenscope compress ./model --calibrate data.py:factory --keep 0.8 -o small
  eigenscope compress ./model --calibrate data.py:factory --dry-run
  eigenscope compress weights.pt --calibrate train.py:factory --rank 32 -o small

CHECKPOINT is a Hugging Face folder or id, whose config.json says what the model
is, or a file of weights that fit the model of --calibrate. NAME returns
(model, loss_fn, batches), as for `eigenscope measure`: layers are compressed
for the inputs that they meet on those batches. Load the result with
es.load_compressed("small").
"""
_BESIDE = (
    "tokenizer*", "vocab.*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "*.model", "chat_template*",
    "*processor_config.json",
)  # fmt: skip


def add_parser(commands: Any) -> None:
    """Add the command to `eigenscope`."""
    parser = commands.add_parser(
        "compress",
        help="replace layers by two thin ones, and measure what was lost",
        description="Replace the layers of a model by two thin ones each, with ranks chosen by their\n"
        "effect on the output, and measure what that saves and what it costs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a Hugging Face folder or id, or a file of weights")
    _add_budget(parser)
    parser.add_argument("-o", "--output", metavar="OUT", help="the folder to write")
    parser.add_argument("--calibrate", metavar="MODULE:NAME", help="a function that returns (model, loss_fn, batches)")
    parser.add_argument(
        "--evaluate", metavar="MODULE:NAME",
        help="a function of a model that returns a number (default: the loss on the calibration batches)",
    )  # fmt: skip
    parser.add_argument(
        "--method", choices=("activation", "plain"), help="default activation where --calibrate is given, else plain"
    )
    parser.add_argument("--refit", action="store_true", help="fit each layer again on the already compressed inputs")
    parser.add_argument("--only", action="append", metavar="GLOB", help="only layers of such names (repeatable)")
    parser.add_argument("--skip", action="append", metavar="GLOB", help="not those of such names (repeatable)")
    parser.add_argument("--force", action="store_true", help="replace OUT where it exists")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON; - for standard output")
    parser.add_argument(
        "--html",
        metavar="FILE",
        help="write a report that needs nothing else, with the prices of other budgets",
    )
    parser.set_defaults(run=run)


def _add_budget(parser: argparse.ArgumentParser) -> None:
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--keep", type=float, metavar="S", help="share of the compressible parameters to keep: 0.8")
    budget.add_argument("--energy", type=float, metavar="S", help="share of the variance to keep in every layer: 0.95")
    budget.add_argument("--rank", type=int, metavar="N", help="the rank of every layer")
    budget.add_argument("--dry-run", action="store_true", help="price a grid of budgets, and write no model")


@dataclass(frozen=True)
class _Task:
    """A model and what to compress it with, in the words of the library."""

    model: nn.Module
    calibration: Any
    options: Mapping[str, Any]
    metric: str
    notes: list[str]


@dataclass(frozen=True)
class _Found:
    """A result in its three forms."""

    document: Mapping[str, object]
    html: Callable[[TextIO], None]
    show: Callable[[Console], None]


def run(options: argparse.Namespace) -> int:
    """Check, load, compress or price, write, print."""
    _check(options)
    paths = {"--json": options.json, "--html": options.html}
    check_writable(paths)
    with contextlib.redirect_stdout(sys.stderr), staged_bar() as progress:  # what the model's code prints is no result
        task = _task(options)
        prepared = prepare(task.model, task.calibration, progress=progress, **task.options)
        found = (_priced if options.dry_run else _compressed)(options, task, prepared, progress)
    metric = task.metric if "evaluate" in task.options else None
    known = {"checkpoint": _name(options), "metric_name": metric}
    write(options.json, lambda file: write_json(file, {**known, **found.document}))
    write(options.html, found.html)
    for note in task.notes:
        error_console().print(titled("note", note, "yellow"))
    if "-" not in paths.values():
        found.show(console())
    return 0


def _check(options: argparse.Namespace) -> None:
    """All that can be told before the work."""
    if options.dry_run:
        if options.output or options.refit:
            raise InputError(f"--dry-run writes no model: leave out {'-o' if options.output else '--refit'}")
        return
    if options.keep is None and options.energy is None and options.rank is None:
        raise InputError(
            "how much to keep? give one of --keep 0.8, --energy 0.95, --rank 32, or --dry-run to see prices"
        )
    if options.output is None:
        raise InputError("where to? give a folder to write with -o OUT, or --dry-run to write none")
    if options.calibrate is None and (options.refit or options.method == "activation"):
        asked = "--refit" if options.refit else "--method activation"
        raise InputError(f"{asked} needs the inputs that layers meet: add --calibrate MODULE:NAME")
    _target(options)
    check_folder(options.output, COMPRESSED, force=options.force, sources=[options.checkpoint])


def _task(options: argparse.Namespace) -> _Task:
    own, loss_fn, batches = load_target(options.calibrate) if options.calibrate else (None, None, None)
    calibration = as_batches(batches) if options.calibrate else None
    judge = load_function(options.evaluate) if options.evaluate else None
    model, notes = model_of(options.checkpoint, own)
    given: dict[str, Any] = {"method": options.method, "only": options.only, "skip": options.skip}
    if loss_fn is not None:
        given["forward"] = _outputs(told(loss_fn))
        given["evaluate"] = _mean_loss(told(loss_fn), calibration)
    if judge is not None:
        given["evaluate"] = judge
    metric = options.evaluate.rpartition(":")[2] if judge else "calibration loss"
    return _Task(model, calibration, given, metric, notes)


def _outputs(loss_fn: Callable[[Any, Any], Any]) -> Callable[[nn.Module, Any], Any]:
    """What the model itself gives while `loss_fn` runs it: it says far more of a layer's effect than the loss alone."""

    def outputs(model: nn.Module, batch: Any) -> Any:
        seen: list[Any] = []
        handle = model.register_forward_hook(lambda module, inputs, output: seen.append(output))
        try:
            loss = loss_fn(model, batch)
        finally:
            handle.remove()
        return seen or loss

    return outputs


def _mean_loss(loss_fn: Callable[[Any, Any], Any], batches: Any) -> Callable[[nn.Module], float]:
    def mean_loss(model: nn.Module) -> float:
        with torch.no_grad():
            return sum(float(loss_fn(model, batch)) for batch in batches) / len(batches)

    return mean_loss


def _priced(options: argparse.Namespace, task: _Task, prepared: Prepared, progress: Any) -> _Found:
    found, name = priced(prepared, progress=progress), _name(options)
    return _Found(
        found.to_dict(),
        lambda file: write_trade_off_html(file, found, name, metric=task.metric),
        lambda out: print_trade_off(out, found, name, task.metric),
    )


def _compressed(options: argparse.Namespace, task: _Task, prepared: Prepared, progress: Any) -> _Found:
    found = compressed(prepared, _target(options), refit=options.refit, progress=progress)
    save_compressed(found.model, options.output, force=options.force, beside=_beside(options.checkpoint))
    name, report = _name(options), found.report
    beside: dict[str, Any] = {}
    if options.html:  # the spectra of the original weights, and what other budgets would have cost
        beside = {
            "spectra": _spectra(task.model, [layer.name for layer in report.layers]),
            "trade_off": priced(prepared, progress=progress),
        }

    def show(out: Console) -> None:
        print_compression(out, report, name, task.metric)
        out.print(f"written to {options.output}", markup=False)

    return _Found(
        {**report.to_dict(), "output": options.output},
        lambda file: write_compression_html(file, report, name, metric=task.metric, **beside),
        show,
    )


def _target(options: argparse.Namespace) -> Target:
    return target(options.keep, options.energy, options.rank, min_rank=1)


def _beside(checkpoint: str) -> list[Path]:
    """Tokenizers and the like: what a folder of Hugging Face has next to its weights."""
    folder = Path(checkpoint).expanduser()
    if not folder.exists():
        from transformers.utils.hub import cached_file

        folder = Path(str(cached_file(checkpoint, "config.json", local_files_only=True))).parent
    return sorted(path for path in folder.glob("*") if any(path.match(pattern) for pattern in _BESIDE))


def _spectra(model: nn.Module, names: list[str]) -> dict[str, WeightReading]:
    """Of each layer's weight as a matrix: a convolution's kernel as output channels × all else."""
    weights = {name: model.get_submodule(name).weight for name in names}
    matrices = {name: weight.detach().flatten(1) for name, weight in weights.items()}  # type: ignore[operator]
    rows = scan(matrices).matrices if matrices else ()
    return {row.name: row.reading for row in rows if row.reading is not None and not row.part}


def _name(options: argparse.Namespace) -> str:
    return Path(options.checkpoint).name or str(options.checkpoint)

"""`eigenscope measure`: the three numbers of a model, once."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from eigenscope.diagnostics.reading import CurvatureReading
from eigenscope.errors import EigenscopeError, InputError
from eigenscope.look import curvature
from eigenscope.operators.loss_operator import METHODS
from eigenscope.reports.terminal import console, print_reading, progress_bar
from eigenscope.settings import MATRICES, Settings

EPILOG = """examples:
  eigenscope measure examples/measure_me.py:factory
  eigenscope measure package.module:factory --json > reading.json
  eigenscope measure train.py:factory --matrix gauss_newton --max-matvecs 120

The function is called without arguments and returns (model, loss_fn, batches):
loss_fn(model, batch) gives the mean loss of a batch, and batches is one batch
or a list of them.
"""


def add_parser(commands: Any) -> None:
    """Add the command to `eigenscope`."""
    parser = commands.add_parser(
        "measure",
        help="measure the curvature of a model's loss, once",
        description="Measure the loss Hessian at a model's parameters: condition number, sharpness,\n"
        "negative eigenvalues, density and trace, each with its error.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "target",
        metavar="MODULE:NAME",
        help="a dotted module or a .py file, and a function in it that returns (model, loss_fn, batches)",
    )
    defaults = Settings()
    parser.add_argument("--json", action="store_true", help="print the reading as JSON on standard output, alone")
    parser.add_argument("--matrix", choices=sorted(MATRICES), default=defaults.matrix, help="default hessian")
    ways = ", ".join(METHODS)
    parser.add_argument(
        "--method", choices=METHODS, metavar="WAY", default=defaults.method, help=f"of products: {ways}"
    )
    parser.add_argument(
        "--max-matvecs", type=int, metavar="N", default=defaults.max_matvecs, help="products at most (default 60)"
    )
    parser.add_argument(
        "--tolerance", type=float, metavar="T", default=defaults.tolerance, help="relative error to reach (1e-3)"
    )
    parser.add_argument(
        "--top", type=int, metavar="N", default=defaults.top, help="eigenvalues from the top (default 10)"
    )
    parser.add_argument("--memory-limit", type=float, metavar="GB", help="for graphs and Krylov vectors together")
    parser.add_argument("--train-mode", action="store_true", help="measure in training mode (default: evaluation)")
    parser.add_argument("--seed", type=int, metavar="N", default=defaults.seed, help="of the start vector (default 0)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Call the factory, measure, print."""
    with contextlib.redirect_stdout(sys.stderr):  # what the model's code prints is not the reading
        reading = _measured(options)
    if options.json:
        print(json.dumps(reading.to_dict(), allow_nan=False, ensure_ascii=False, indent=2))
    else:
        print_reading(console(), reading)
    return 0


def _measured(options: argparse.Namespace) -> CurvatureReading:
    model, loss_fn, batches = load_target(options.target)
    with progress_bar("measuring", options.max_matvecs) as advance:
        return curvature(
            model,
            _told(loss_fn),
            batches,
            progress=advance,
            matrix=options.matrix,
            method=options.method,
            max_matvecs=options.max_matvecs,
            tolerance=options.tolerance,
            top=options.top,
            memory_limit=None if options.memory_limit is None else options.memory_limit * 2**30,
            train_mode=options.train_mode,
            seed=options.seed,
        )


def _told(loss_fn: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    """`loss_fn`, whose own errors are told in one line with their place in the user's code."""

    def told(model: Any, batch: Any) -> Tensor:
        try:
            return loss_fn(model, batch)
        except (EigenscopeError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            *_, place = traceback.extract_tb(error.__traceback__)[:2]
            raise InputError(f"loss_fn failed at {place.filename}:{place.lineno}: {_words(error)}") from error

    return told


def load_target(target: str) -> tuple[nn.Module, Any, Any]:
    """Import MODULE, call NAME, and check what it returned."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise InputError(f"{target!r} is not MODULE:NAME: give for example train.py:factory or package.module:factory")
    module = _module(place)
    factory = getattr(module, name, None)
    if not callable(factory):
        near = ", ".join(k for k, v in vars(module).items() if callable(v) and not k.startswith("_")) or "nothing"
        raise InputError(f"{place!r} has no function {name!r} (it has {near[:200]})")
    try:
        made = factory()
    except (Exception, SystemExit) as error:
        raise InputError(f"{target} failed: {_words(error)}") from error
    if not isinstance(made, tuple) or len(made) != 3 or not isinstance(made[0], nn.Module) or not callable(made[1]):
        shape = f"a tuple of {len(made)}" if isinstance(made, tuple) else f"a value of type {type(made).__name__}"
        raise InputError(f"{target} returned {shape}: it must return (model, loss_fn, batches)")
    return made


def _module(place: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except InputError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(f"{error.name}.")):
            known = "give a dotted module or a path to a .py file"
            raise InputError(f"there is no module {error.name!r}: {known}") from None
        raise InputError(f"importing {place!r} failed: {_words(error)}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"importing {place!r} failed: {_words(error)}") from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}: give a path to a .py file or a dotted module")
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]

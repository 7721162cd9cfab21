"""`eigenscope measure`: the three numbers of a model, once."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from eigenscope.curvature import MATRICES, Settings, curvature
from eigenscope.errors import InputError
from eigenscope.operators.loss_operator import METHODS
from eigenscope.reports.terminal import console, print_reading, progress_bar


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "measure",
        help="measure the curvature of a model's loss, once",
        description="Measure the loss Hessian at a model's parameters: condition number, sharpness, negative "
        "eigenvalues, density and trace, each with its error.",
        epilog="example: eigenscope measure examples/measure_me.py:factory --json > reading.json",
    )
    parser.add_argument(
        "target",
        metavar="MODULE:NAME",
        help="a dotted module or a .py file, and a function in it that returns (model, loss_fn, batches)",
    )
    defaults = Settings()
    parser.add_argument("--json", action="store_true", help="print the reading as JSON on standard output, alone")
    parser.add_argument("--matrix", choices=sorted(MATRICES), default=defaults.matrix)
    parser.add_argument("--method", choices=METHODS, default=defaults.method, help="how products are made")
    parser.add_argument("--max-matvecs", type=int, default=defaults.max_matvecs, help="products at most (default 60)")
    parser.add_argument("--tolerance", type=float, default=defaults.tolerance, help="relative error to reach (1e-3)")
    parser.add_argument("--top", type=int, default=defaults.top, help="eigenvalues from the top (default 10)")
    parser.add_argument("--memory-limit", type=float, metavar="GB", help="for graphs and Krylov vectors together")
    parser.add_argument("--train-mode", action="store_true", help="measure in training mode (default: evaluation)")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    model, loss_fn, batches = load_target(options.target)
    with progress_bar("measuring", options.max_matvecs) as advance:
        reading = curvature(
            model,
            loss_fn,
            batches,
            progress=advance,
            matrix=options.matrix,
            method=options.method,
            max_matvecs=options.max_matvecs,
            tolerance=options.tolerance,
            top=options.top,
            memory_limit=options.memory_limit * 2**30 if options.memory_limit else None,
            train_mode=options.train_mode,
            seed=options.seed,
        )
    if options.json:
        print(json.dumps(reading.to_dict(), allow_nan=False, ensure_ascii=False, indent=2))
    else:
        print_reading(console(), reading)
    return 0


def load_target(target: str) -> tuple[nn.Module, Any, Any]:
    """Import MODULE, call NAME, and check what it returned."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise InputError(f"{target!r} is not MODULE:NAME: give for example train.py:factory or package.module:factory")
    module = _module(place)
    factory = getattr(module, name, None)
    if not callable(factory):
        near = ", ".join(k for k, v in vars(module).items() if callable(v) and not k.startswith("_")) or "nothing"
        raise InputError(f"{place!r} has no function {name!r} (it has {near})")
    try:
        made = factory()
    except Exception as error:
        raise InputError(f"{target} failed: {_words(error)}") from error
    if not isinstance(made, tuple) or len(made) != 3 or not isinstance(made[0], nn.Module) or not callable(made[1]):
        shape = f"a tuple of {len(made)}" if isinstance(made, tuple) else type(made).__name__
        raise InputError(f"{target} returned {shape}: it must return (model, loss_fn, batches)")
    return made


def _module(place: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = Path(place)
        if not path.is_file():
            raise InputError(f"there is no file {place!r}")
        sys.path.insert(0, str(path.resolve().parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    except InputError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(f"{error.name}.")):
            raise InputError(f"there is no module {error.name!r}: give a dotted module or a path to a .py file") from None
        raise InputError(f"importing {place!r} failed: {_words(error)}") from error
    except Exception as error:
        raise InputError(f"importing {place!r} failed: {_words(error)}") from error
    return module


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]

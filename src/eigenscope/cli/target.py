"""MODULE:NAME on the command line: a factory in a module or a file, and errors told with their place in it."""

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
from typing import Any, Protocol, TypeVar

import torch
from rich.console import Console
from torch import Tensor, nn

from eigenscope.errors import EigenscopeError, InputError
from eigenscope.reports.terminal import console
from eigenscope.words import did_you_mean


class _Printable(Protocol):
    def to_dict(self) -> dict[str, object]: ...


_Reading = TypeVar("_Reading", bound=_Printable)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add MODULE:NAME and --json, which every command on a model takes."""
    parser.add_argument(
        "target",
        metavar="MODULE:NAME",
        help="a dotted module or a .py file, and a function in it that returns (model, loss_fn, batches)",
    )
    parser.add_argument("--json", action="store_true", help="print the reading as JSON on standard output, alone")


def answer(
    options: argparse.Namespace,
    measured: Callable[[argparse.Namespace], _Reading],
    shown: Callable[[Console, _Reading], None],
) -> int:
    """Measure, and print the reading: for people, or as JSON."""
    with contextlib.redirect_stdout(sys.stderr):  # what the model's code prints is not the reading
        reading = measured(options)
    if options.json:
        print(json.dumps(reading.to_dict(), allow_nan=False, ensure_ascii=False, indent=2))
    else:
        shown(console(), reading)
    return 0


def told(loss_fn: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    """`loss_fn`, whose own errors are told in one line with their place in the user's code."""

    def told(model: Any, batch: Any) -> Tensor:
        try:
            return loss_fn(model, batch)
        except (EigenscopeError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise InputError(f"loss_fn failed{_place(error)}: {_words(error)}") from error

    return told


def load_target(target: str) -> tuple[nn.Module, Any, Any]:
    """Import MODULE, call NAME, and check what it returned."""
    made = load_function(target)()
    if not isinstance(made, tuple) or len(made) != 3 or not isinstance(made[0], nn.Module) or not callable(made[1]):
        shape = f"a tuple of {len(made)}" if isinstance(made, tuple) else f"a value of type {type(made).__name__}"
        raise InputError(f"{target} returned {shape}: it must return (model, loss_fn, batches)")
    return made


def load_function(target: str) -> Callable[..., Any]:
    """Import MODULE and look NAME up; what it raises when it is called is told with its place in the user's code."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise InputError(f"{target!r} is not MODULE:NAME: give for example train.py:factory or package.module:factory")
    module = _module(place)
    function = getattr(module, name, None)
    if not callable(function):
        names = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        near = did_you_mean(name, names)[:200] if names else ": it has none"
        raise InputError(f"{place!r} has no function {name!r}{near}")

    def called(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (Exception, SystemExit) as error:
            raise InputError(f"{target} failed{_place(error)}: {_words(error)}") from error

    return called


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


def _place(error: BaseException) -> str:
    """Where in the user's file: the innermost line there; what it calls elsewhere is not theirs to mend."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is the call in this file
    mine = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" at {mine[-1].filename}:{mine[-1].lineno}" if mine else ""


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]

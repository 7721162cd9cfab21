"""`eigenscope measure`: the three numbers of a model, once."""

from __future__ import annotations

import argparse
from typing import Any

from eigenscope.cli.target import add_target, answer, load_target, told
from eigenscope.diagnostics.reading import CurvatureReading
from eigenscope.look import curvature
from eigenscope.operators.loss_operator import METHODS
from eigenscope.reports.terminal import print_reading, progress_bar
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
    add_target(parser)
    defaults = Settings()
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
    return answer(options, _measured, print_reading)


def _measured(options: argparse.Namespace) -> CurvatureReading:
    model, loss_fn, batches = load_target(options.target)
    with progress_bar("measuring", options.max_matvecs) as advance:
        return curvature(
            model,
            told(loss_fn),
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

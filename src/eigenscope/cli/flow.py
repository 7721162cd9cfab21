"""`eigenscope flow MODULE:NAME`: the signal flow of a model, block by block."""

from __future__ import annotations

import argparse
from typing import Any

from eigenscope.cli.target import add_target, answer, load_target, told
from eigenscope.diagnostics.flow import FlowReading
from eigenscope.flow.settings import FlowSettings
from eigenscope.flow.signal import signal_flow
from eigenscope.reports.flow import print_flow
from eigenscope.reports.terminal import progress_bar

EPILOG = """examples:
  eigenscope flow train.py:setup             every block, and the layer at fault
  eigenscope flow train.py:setup --try       with each remedy tried on a copy
  eigenscope flow my.package:factory --json  for machines

NAME is a function without arguments that returns (model, loss_fn, batches), as
for `eigenscope measure`.
"""


def add_parser(commands: Any) -> None:
    """Add the command to `eigenscope`."""
    parser = commands.add_parser(
        "flow",
        help="which layer makes the gradient explode or vanish",
        description="Measure the Jacobian of every block of a network and the gradient between them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_target(parser)
    defaults = FlowSettings()
    parser.add_argument("--try", dest="try_remedies", action="store_true", help="try each remedy on a copy")
    parser.add_argument("--blocks", nargs="+", metavar="NAME", help="modules to look at (globs allowed)")
    parser.add_argument("--sigma-min", action="store_true", help="the smallest singular value of each block too")
    parser.add_argument("--spectrum", action="store_true", help="the distribution of σ too (whole in --json)")
    parser.add_argument("--train-mode", action="store_true", help="measure in training mode (default: evaluation)")
    parser.add_argument(
        "--tolerance", type=float, metavar="T", default=defaults.tolerance, help="relative error of σ max (1e-2)"
    )
    parser.add_argument(
        "--max-matvecs", type=int, metavar="N", default=defaults.max_matvecs, help="products a block at most (40)"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=defaults.seed, help="of the start vectors (default 0)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Call the factory, measure, print."""
    return answer(options, _measured, print_flow)


def _measured(options: argparse.Namespace) -> FlowReading:
    model, loss_fn, batches = load_target(options.target)
    with progress_bar("measuring blocks", 1) as advance:
        return signal_flow(
            model,
            told(loss_fn),
            batches,
            try_remedies=options.try_remedies,
            progress=advance,
            blocks=options.blocks,
            tolerance=options.tolerance,
            max_matvecs=options.max_matvecs,
            sigma_min=options.sigma_min,
            spectrum=options.spectrum,
            train_mode=options.train_mode,
            seed=options.seed,
        )

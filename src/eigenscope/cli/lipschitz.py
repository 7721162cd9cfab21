"""`eigenscope lipschitz MODULE:NAME`: how far an input can push the output."""

from __future__ import annotations

import argparse
from typing import Any

from eigenscope.bounds.certify import lipschitz
from eigenscope.bounds.reading import LipschitzReading
from eigenscope.cli.target import add_target, answer, load_target
from eigenscope.reports.lipschitz import print_lipschitz
from eigenscope.reports.terminal import progress_bar

EPILOG = """examples:
  eigenscope lipschitz train.py:setup              bounds, layers, radii
  eigenscope lipschitz train.py:setup --no-attack  without flips
  eigenscope lipschitz train.py:setup --json       for machines

NAME is a function without arguments that returns (model, loss_fn, batches), as
for `eigenscope measure`; a batch is (inputs, labels), inputs, or a mapping.
"""


def add_parser(commands: Any) -> None:
    """Add the command to `eigenscope`."""
    parser = commands.add_parser(
        "lipschitz",
        help="how far an input can push the output",
        description="Bound a network's Lipschitz constant from below and from above, and give each\n"
        "sample the radius within which its answer is certified and the one at which\nan attack flips it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_target(parser)
    parser.add_argument("--no-attack", dest="attack", action="store_false", help="don't look for changes that flip")
    parser.add_argument(
        "--ascent-steps", type=int, metavar="N", default=40, help="passes of the climb to the steepest input (40)"
    )
    parser.add_argument("--max-samples", type=int, metavar="N", default=32, help="samples of the probe (32)")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the start vectors (default 0)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Call the factory, measure, print."""
    return answer(options, _measured, print_lipschitz)


def _measured(options: argparse.Namespace) -> LipschitzReading:
    model, _, batches = load_target(options.target)
    with progress_bar("bounding", options.ascent_steps + 1) as advance:
        return lipschitz(
            model,
            batches,
            ascent_steps=options.ascent_steps,
            attack=options.attack,
            max_samples=options.max_samples,
            seed=options.seed,
            progress=advance,
        )

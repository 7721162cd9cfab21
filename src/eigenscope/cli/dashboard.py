"""`eigenscope dashboard RUNS`: the panel over recorded or live runs."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

EPILOG = """examples:
  eigenscope dashboard runs                          a folder: a new run appears
  eigenscope dashboard runs/first.eigenscope         one run, live or finished
  eigenscope dashboard runs --port 0 --no-browser    open the printed address

The server listens on this machine alone. From another one:
ssh -L 8765:localhost:8765 HOST
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command to `eigenscope`."""
    parser = subparsers.add_parser(
        "dashboard",
        help="open the panel on recorded or live runs",
        description="Serve the instrument panel over run files, until Ctrl+C.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUNS", help="a run file, or a folder of them")
    parser.add_argument(
        "--port", type=int, metavar="N", help="port on 127.0.0.1 (default: 8765 or the next free one; 0: any)"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl+C; raises `InputError` for a bad port or path."""
    from eigenscope.dashboard.server import serve  # the other commands start without a web server

    serve(args.runs, args.port, open_browser=not args.no_browser)
    return 0

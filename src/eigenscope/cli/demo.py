"""`eigenscope demo`: train a real network on real data, watched live."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from eigenscope.errors import InputError
from eigenscope.monitor import Monitor
from eigenscope.monitor.policy import POLICIES
from eigenscope.reports.actions_terminal import print_change
from eigenscope.reports.summary import print_alert, print_summary
from eigenscope.reports.terminal import console, error_console, titled
from eigenscope.scenarios import SCENARIOS, Scenario, scenario

if TYPE_CHECKING:
    from eigenscope.dashboard.server import Server

EPILOG = """examples:
  eigenscope demo                            a sound run, in the browser
  eigenscope demo --scenario saddle          a start where the gradient vanishes
  eigenscope demo --steps 300 --no-serve     ends by itself with a summary
  eigenscope demo --budget 0.02              measures as a training script would
  eigenscope demo --scenario edge --act ask  what is advised waits for Apply

A step of this small network takes less than a millisecond and a check about a
tenth of a second, so that checking every 20 steps takes most of the time.
"""


def add_parser(commands: Any) -> None:
    """Add the command to `eigenscope`."""
    parser = commands.add_parser(
        "demo",
        help="train a real network on real data, watched live",
        description="Train a small network on scikit-learn's digits with the monitor attached, and\nwatch it in the "
        "browser.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(SCENARIOS)
    parser.add_argument(
        "--scenario", choices=SCENARIOS, metavar="NAME", default="healthy", help=f"the condition to show: {names}"
    )
    parser.add_argument("--steps", type=int, metavar="N", default=1500, help="training steps (default 1500)")
    parser.add_argument("--every", type=int, metavar="N", default=20, help="steps between two checks (default 20)")
    parser.add_argument(
        "--budget", type=float, metavar="SHARE", help="instead of --every: the share of the time to measure in, as 0.02"
    )
    parser.add_argument(
        "--act",
        choices=POLICIES,
        metavar="POLICY",
        default="advise",
        help=f"what an alert leads to: {', '.join(POLICIES)}",
    )
    parser.add_argument("--rules", metavar="TOML", help="thresholds of the alerts")
    parser.add_argument("--run", dest="path", metavar="PATH", help="where to write the run (default runs/SCENARIO)")
    parser.add_argument("--port", type=int, metavar="N", help="of the dashboard (default 8765 or the next free one)")
    parser.add_argument("--no-serve", action="store_true", help="no dashboard: end with a summary")
    parser.add_argument("--no-browser", action="store_true", help="print the dashboard's address, open nothing")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the weights and the batches (default 0)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, tell what was seen, and serve until Ctrl+C."""
    if options.steps < 1:
        raise InputError(f"--steps {options.steps}: at least one step is needed")
    logging.getLogger("eigenscope").addHandler(logging.NullHandler())  # alerts are printed here, in their own way
    torch.set_num_threads(1)  # a network this small is slower on more
    chosen = scenario(options.scenario, options.seed)
    monitor = _monitor(chosen, options)
    server = None if options.no_serve else _serve(monitor, options)
    out = console()
    out.print(titled(chosen.name, chosen.shows))
    with monitor:
        zigzag = train(chosen, monitor, options.steps, options.seed)
    out.print()
    print_summary(out, monitor, zigzag)
    if server is not None:
        _wait(server)
    return 0


def _monitor(chosen: Scenario, options: argparse.Namespace) -> Monitor:
    monitor = Monitor(
        chosen.model,
        chosen.loss_fn,
        probe=chosen.probe,
        optimizer=chosen.optimizer,
        run=options.path or f"runs/{chosen.name}",
        every=options.every if options.budget is None else None,
        budget=0.02 if options.budget is None else options.budget,
        rules=options.rules,
        act=options.act,
        actions=chosen.actions if options.act in ("ask", "auto") else None,
        replace_optimizer=lambda _: None,  # the loop asks the monitor for its optimizer
        config={"scenario": chosen.name, "shows": chosen.shows, "seed": options.seed},
        **chosen.settings,
    )
    if monitor.run_path is None:  # what a training script would survive, someone at a terminal wants to know
        raise InputError(list(monitor.history)[-1].message)
    return monitor


def _serve(monitor: Monitor, options: argparse.Namespace) -> Server:
    from eigenscope.dashboard.server import serve

    assert monitor.run_path is not None
    try:
        return serve(monitor.run_path, options.port, open_browser=not options.no_browser, background=True)
    except InputError:  # the port: leave no empty run behind
        monitor.close("failed")
        Path(monitor.run_path).unlink()
        raise


def _wait(server: Server) -> None:
    print("still serving; Ctrl+C ends it")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        server.stop()


def train(chosen: Scenario, monitor: Monitor, steps: int, seed: int) -> float:
    """The loop that anyone would write, with one line more. Returns the mean cosine of successive gradients."""
    columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
    err, out, told, states = error_console(), console(), 0, dict[int, str]()
    before, turns = None, []
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=steps)
        for batch in chosen.batches(steps, seed):
            loss = chosen.loss_fn(chosen.model, batch)
            optimizer = monitor.optimizer  # an action may have switched to another
            assert optimizer is not None
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            gradient = torch.cat([p.grad.flatten() for p in chosen.model.parameters() if p.grad is not None])
            if before is not None:
                turns.append(float(torch.cosine_similarity(gradient, before, dim=0)))
            before = gradient
            if chosen.clip is not None:
                torch.nn.utils.clip_grad_norm_(chosen.model.parameters(), chosen.clip)
            optimizer.step()
            reading = monitor.step(loss)
            if reading is not None:
                words = f"loss {reading.loss:.3g}  λmax {reading.lambda_max.value:.3g}  {reading.verdict}"
                bar.update(task, description=words)
            for alert in list(monitor.history)[told:]:
                print_alert(out, alert)
            told = len(monitor.history)
            print_actions(out, monitor, states)
            bar.advance(task)
    return sum(turns) / max(len(turns), 1)


def print_actions(out: Console, monitor: Monitor, told: dict[int, str]) -> None:
    """Each action whose state is another than was told, and how a proposal is answered."""
    for record in monitor.actions:
        if told.get(record.key) != record.state:
            told[record.key] = record.state
            answer = f"eigenscope actions {monitor.run_path} --apply {record.key}"
            hint = f"\n{answer}, or --dismiss, or in the dashboard" if record.state == "proposed" else ""
            print_change(out, record.to_dict(), hint)

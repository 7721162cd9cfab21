"""`eigenscope demo`: train a real network on real data, watched live."""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from eigenscope.errors import InputError
from eigenscope.monitor import Monitor
from eigenscope.reports.terminal import console, print_summary
from eigenscope.scenarios import SCENARIOS, Scenario, scenario


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="train a real network on real data, watched live",
        description="Train a small network on scikit-learn's digits with the monitor attached, and watch it in the "
        "browser.",
        epilog="example: eigenscope demo --scenario saddle --steps 300 --no-serve",
    )
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="healthy", help="the condition to show")
    parser.add_argument("--steps", type=int, default=1500, help="training steps (default 1500)")
    parser.add_argument("--every", type=int, default=20, help="steps between two checks (default 20)")
    parser.add_argument("--budget", type=float, help="instead of --every: the share of the time to measure in, as 0.02")
    parser.add_argument("--rules", metavar="TOML", help="thresholds of the alerts")
    parser.add_argument("--run", dest="path", metavar="PATH", help="where to write the run (default runs/SCENARIO)")
    parser.add_argument("--port", type=int, help="of the dashboard (default 8765 or the next free one)")
    parser.add_argument("--no-serve", action="store_true", help="no dashboard: end with a summary")
    parser.add_argument("--no-browser", action="store_true", help="print the dashboard's address, open nothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.steps < 1:
        raise InputError(f"--steps {options.steps}: at least one step is needed")
    chosen = scenario(options.scenario, options.seed)
    out = console()
    out.print(f"[bold]{chosen.name}[/]  {chosen.shows}")
    torch.set_num_threads(1)  # a network this small is slower on more
    monitor = Monitor(
        chosen.model,
        chosen.loss_fn,
        probe=chosen.probe,
        optimizer=chosen.optimizer,
        run=options.path or f"runs/{chosen.name}",
        every=None if options.budget else options.every,
        budget=options.budget or 0.02,
        rules=options.rules,
        config={"scenario": chosen.name, "shows": chosen.shows, "seed": options.seed},
        **chosen.settings,
    )
    if monitor.run_path is None:  # what a training script would survive, someone at a terminal wants to know
        raise InputError(monitor.history[-1].message)
    server = None
    if not options.no_serve:
        from eigenscope.dashboard.server import serve

        server = serve(monitor.run_path, options.port, open_browser=not options.no_browser, background=True)
    with monitor:
        zigzag = train(chosen, monitor, options.steps, options.seed)
    print_summary(out, monitor, zigzag)
    if server is not None:
        out.print(f"still serving at {server.url} (Ctrl+C ends it)")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            server.stop()
    return 0


def train(chosen: Scenario, monitor: Monitor, steps: int, seed: int) -> float:
    """The loop that anyone would write, with one line more. Returns the mean cosine of successive gradients."""
    columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
    before, turns = None, []
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=steps)
        for batch in chosen.batches(steps, seed):
            loss = chosen.loss_fn(chosen.model, batch)
            chosen.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            gradient = torch.cat([p.grad.flatten() for p in chosen.model.parameters() if p.grad is not None])
            if before is not None:
                turns.append(float(torch.cosine_similarity(gradient, before, dim=0)))
            before = gradient
            chosen.optimizer.step()
            reading = monitor.step(loss)
            if reading is not None:
                words = f"loss {reading.loss:.3g}  λmax {reading.lambda_max.value:.3g}  {reading.verdict}"
                bar.update(task, description=words)
            bar.advance(task)
    return sum(turns) / max(len(turns), 1)

"""What a run file costs the training loop, and how soon a reading is in the page.

    python benchmarks/run_file.py [--json benchmarks/results/run_file.json]

Writing: what a call costs the training loop, and records a second that reach the file. Reading: a million
values opened and decimated to 1,500 points, then windows of 100 to a million steps. Live: from
`RunWriter.reading` in one process to the message in ten WebSocket clients in a second, through the dashboard
in a third.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect

from eigenscope.runs import RunWriter, load_run

CLIENTS = 10
LIVE_READINGS = 200
MILLION = 1_000_000
WINDOWS = 50

Figures = dict[str, float]


def reading(step: int) -> dict[str, Any]:
    """A reading of the usual size: about 40 numbers and a density of 400 points."""
    values = [{"value": random.random(), "error": 1e-3} for _ in range(20)]
    density = {
        "grid": np.linspace(-1, 9, 400).tolist(),
        "values": np.sin(np.arange(400)).tolist(),
        "step": step,
    }
    return {"step": step, "top_eigenvalues": values, "density": density}


def write_scalars(folder: Path) -> Figures:
    """A burst of 100,000 scalars: what a call costs, and how fast they reach the file."""
    writer = RunWriter(folder / "scalars")
    count = 100_000
    start = time.perf_counter()
    for step in range(count):
        writer.scalar("loss", step, 0.5)
    called = time.perf_counter() - start
    writer.flush(60)
    stored = time.perf_counter() - start
    writer.close()
    assert writer.dropped == 0
    return {"scalar_call_us": called / count * 1e6, "scalars_stored_per_s": count / stored}


def write_readings(folder: Path) -> Figures:
    """Whole readings with their densities, as fast as they are accepted."""
    writer = RunWriter(folder / "readings")
    readings = [reading(step) for step in range(1_000)]
    start = time.perf_counter()
    for step, given in enumerate(readings):
        writer.reading(step, given)
    called = time.perf_counter() - start
    writer.flush(60)
    stored = time.perf_counter() - start
    writer.close()
    assert writer.dropped == 0
    return {"reading_call_us": called / 1_000 * 1e6, "readings_stored_per_s": 1_000 / stored}


def open_a_million(folder: Path) -> Figures:
    """A million values: write them, open and decimate the whole, then pan over windows of every width."""
    writer = RunWriter(folder / "million")
    for step in range(MILLION):
        writer.scalar("loss", step, random.random(), 0.1)
        if step % 100_000 == 99_999:
            writer.flush(60)
    writer.close()
    assert writer.dropped == 0
    start = time.perf_counter()
    with load_run(writer.path) as run:
        run.decimated("loss", points=1500)
        opened = time.perf_counter() - start
        pans = []
        for _ in range(WINDOWS):
            width = int(10 ** random.uniform(2, 6))
            first = random.randrange(MILLION - width + 1)
            start = time.perf_counter()
            run.decimated("loss", first=first, last=first + width, points=1500)
            pans.append(time.perf_counter() - start)
    p50, p99 = np.percentile(pans, [50, 99]) * 1e3
    size = writer.path.stat().st_size / MILLION
    return {"open_million_ms": opened * 1e3, "pan_p50_ms": p50, "pan_p99_ms": p99, "bytes_per_value": size}


async def listen(port: int, ready: asyncio.Semaphore, delays: list[float]) -> None:
    """One page: note how old each reading is when it comes."""
    origin = f"http://127.0.0.1:{port}"
    address = f"ws://127.0.0.1:{port}/api/live?run=live"
    async with connect(address, origin=origin, compression=None, max_size=None) as page:
        ready.release()
        while len(delays) < CLIENTS * LIVE_READINGS:
            message = json.loads(await page.recv())
            if message["type"] == "reading":
                delays.append(time.time() - message["reading"]["said"])


async def listen_all(port: int) -> list[float]:
    """Ten pages in one process; prints a line once all of them listen."""
    ready, delays = asyncio.Semaphore(0), list[float]()
    pages = [asyncio.create_task(listen(port, ready, delays)) for _ in range(CLIENTS)]
    for _ in pages:
        await ready.acquire()
    print("ready", flush=True)
    await asyncio.wait(pages, return_when=asyncio.FIRST_COMPLETED, timeout=120)
    return delays


def live_latency(folder: Path) -> Figures:
    """Readings at uneven moments, so that they meet every phase of the writer's and the server's clocks."""
    writer = RunWriter(folder / "live")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = f"from eigenscope.dashboard import serve; serve({str(folder)!r}, {port}, open_browser=False)"
    with (
        subprocess.Popen([sys.executable, "-c", serve], stdout=subprocess.PIPE, text=True) as server,
        subprocess.Popen([sys.executable, "-c", _CLIENTS, str(port)], stdout=subprocess.PIPE, text=True) as pages,
    ):
        assert pages.stdout is not None
        pages.stdout.readline()
        clock = threading.Event()
        for step in range(LIVE_READINGS):
            writer.scalars(step, {"loss": 0.5, "lambda_max": (1.0, 0.1)})
            writer.reading(step, {**reading(step), "said": time.time()})
            clock.wait(random.uniform(0.02, 0.12))
        delays = json.loads(pages.stdout.readline())
        server.terminate()
    writer.close()
    p50, p99 = np.percentile(delays, [50, 99]) * 1e3
    return {"live_p50_ms": p50, "live_p99_ms": p99, "live_max_ms": max(delays) * 1e3}


_CLIENTS = f"""
import asyncio, json, socket, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from run_file import listen_all
while socket.socket().connect_ex(("127.0.0.1", int(sys.argv[1]))):
    time.sleep(0.1)
print(json.dumps(asyncio.run(listen_all(int(sys.argv[1])))), flush=True)
"""


def environment() -> dict[str, object]:
    """The machine and the versions that gave the figures."""
    return {
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "numpy": np.__version__,
    }


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures and their environment")
    args = parser.parse_args()
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for measure in (write_scalars, write_readings, open_a_million, live_latency):
            for name, value in measure(Path(folder)).items():
                figures[name] = round(value, 2)
                print(f"{name:<24}{value:>14,.1f}", flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"environment": environment(), "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Reads damaged copies of a file in a process of its own: ``reading.py FILE FROM TO``; prints what happened as JSON."""

import json
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import NoReturn

from damage import damaged

from eigenscope.checkpoints import open_checkpoint
from eigenscope.errors import CheckpointError
from eigenscope.scanning.scan import scan

SECONDS = 30  # for one file
GIGABYTE = 2**30


def too_long(*_: object) -> NoReturn:
    raise BaseException(f"over {SECONDS} s")


def outcome(source: Path) -> str:
    """Read all of a checkpoint and scan it: "read" or "refused"; whatever else is raised comes out."""
    try:
        with open_checkpoint(source) as checkpoint:
            for entry in checkpoint.entries:
                try:
                    assert tuple(checkpoint.load(entry.name).shape) == entry.shape
                except CheckpointError as error:
                    check(error)
        assert all("could not be analysed" not in item.reason for item in scan(source).skipped)
    except CheckpointError as error:
        check(error)
        return "refused"
    return "read"


def check(error: CheckpointError) -> None:
    assert len(str(error).splitlines()) == 1, repr(str(error))


def read_damaged(path: Path, source: Path, seeds: range) -> Counter[str]:
    """Damage `path`, which belongs to the checkpoint `source`, in a way for each seed."""
    content, outcomes = path.read_bytes(), Counter[str]()
    for seed in seeds:
        path.write_bytes(damaged(content, seed))
        signal.alarm(SECONDS)
        try:
            outcomes[outcome(source)] += 1
        except BaseException as error:
            outcomes[f"seed {seed}: {''.join(traceback.format_exception(error)[-4:])}"] += 1
        finally:
            signal.alarm(0)
    path.write_bytes(content)
    return outcomes


def main() -> None:
    source, target, first, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    signal.signal(signal.SIGALRM, too_long)
    assert outcome(source) == "read"  # also loads what is loaded once
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2 * GIGABYTE, now + 2 * GIGABYTE))
    outcomes = read_damaged(target, source, range(first, last))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(json.dumps({"outcomes": outcomes, "grown": max(grown, children), "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main()

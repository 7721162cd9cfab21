"""Whether a run goes on, and how it ended."""

import time
from collections.abc import Mapping
from typing import Any, Literal

Status = Literal["live", "finished", "failed", "interrupted", "stopped"]
ENDED = ("finished", "failed", "interrupted")  # what a run says of itself at its end

HEARTBEAT_TIMEOUT_SECONDS = 5.0


def run_status(meta: Mapping[str, Any]) -> Status:
    """What a run's "status" and "heartbeat" amount to at this moment."""
    status = meta.get("status")
    if status in ENDED:
        return status  # type: ignore[no-any-return]
    return "live" if time.time() - meta.get("heartbeat", 0.0) < HEARTBEAT_TIMEOUT_SECONDS else "stopped"

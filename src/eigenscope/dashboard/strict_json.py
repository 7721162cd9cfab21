"""JSON that browsers parse: NaN and infinities travel as the strings "NaN", "Infinity" and "-Infinity"."""

import json
import math
from typing import Any

from starlette.responses import Response


def dumps(value: Any) -> str:
    """`value` as strict JSON; the usual case, all finite, takes one pass in C."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_spelt(value), allow_nan=False, separators=(",", ":"))


def _spelt(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _spelt(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelt(item) for item in value]
    return value


class StrictJSON(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body."""
        return dumps(content).encode()

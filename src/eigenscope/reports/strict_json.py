"""JSON that every parser takes: what is not finite becomes null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TextIO


def write_json(file: TextIO, document: Mapping[str, object]) -> None:
    """Write the document and a line's end."""
    json.dump(strict(document), file, allow_nan=False, ensure_ascii=False, indent=1)
    file.write("\n")


def strict(value: object) -> object:
    """The same with null for NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return value

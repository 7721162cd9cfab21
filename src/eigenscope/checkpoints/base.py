"""What a checkpoint is: named tensors, known from their headers and read one at a time."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import ClassVar, Self

from torch import Tensor

from eigenscope.checkpoints.entry import Entry, dtype_name
from eigenscope.checkpoints.scales import scaled, with_scales
from eigenscope.errors import CheckpointError, first_line

__all__ = ["Checkpoint", "Entry", "damaged", "dtype_name", "reading"]


class Checkpoint(ABC):
    """Named tensors of one model, opened for reading. A context manager; `close()` ends what it holds open."""

    format: ClassVar[str]

    def __init__(
        self,
        name: str,
        entries: Sequence[Entry],
        *,
        config: Mapping[str, object] | None = None,
        tied: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.name = name  # what people call it: a file's name, a Hugging Face id, a class
        self.entries, self._scale_of = with_scales(entries)
        self.config: Mapping[str, object] = config or {}
        self.tied: Mapping[str, str] = tied or {}  # entry → the earlier entry that it shares its values with
        self.notes = tuple(notes)
        self._by_name = {entry.name: entry for entry in self.entries}
        if len(self._by_name) < len(self.entries):
            raise CheckpointError(f"{name} is damaged: two tensors have the same name; get a fresh copy")

    def load(self, name: str) -> Tensor:
        """One tensor, on the CPU: float types as stored, quantized ones and 8-bit floats as float32, scales applied.

        Raises `CheckpointError`, in one line, where there is none of that name or it can't be read.
        """
        entry = self._by_name.get(name)
        if entry is None:
            close = difflib.get_close_matches(name, self._by_name, 3)
            hint = f": did you mean {' or '.join(close)}" if close else ""
            raise CheckpointError(f"{self.name} has no tensor {name!r}{hint}")
        if not entry.readable:
            raise CheckpointError(f"{self.name}: {name} can't be read: {entry.aside}")
        with reading(f"{self.name}: {name}"):
            values, scale = self._load(entry), self._scale_of.get(name)
            if scale is not None:
                return scaled(values, self._load(self._by_name[scale]))
            return values.float() if values.is_floating_point() and values.dtype.itemsize == 1 else values

    def stored(self, name: str) -> Tensor:
        """One tensor as it is stored, without its scale."""
        return self._load(self._by_name[name])

    @abstractmethod
    def _load(self, entry: Entry) -> Tensor:
        """The values of `entry`; whatever it raises is reported as damage."""

    def labels(self, name: str, axis: int) -> Sequence[str] | None:
        """What the indices of an axis stand for, such as the tokens of an embedding; None where it isn't stored."""
        return None

    def close(self) -> None:
        """Let go of processes and files; nothing can be loaded afterwards."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.format} checkpoint {self.name}: {len(self.entries)} tensors>"


@contextmanager
def reading(what: object) -> Iterator[None]:
    """Untrusted bytes: whatever a parser stumbles over inside is the file's fault, and becomes one line."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise CheckpointError(f"{what} can't be read ({reason}): check the path and its permissions") from error
    except MemoryError as error:
        raise CheckpointError(f"{what} needs more memory than there is: free some, or scan a smaller part") from error
    except Exception as error:
        raise damaged(what, first_line(error)) from error


def damaged(what: object, reason: str) -> CheckpointError:
    """The error for a file that contradicts itself."""
    return CheckpointError(f"{what} is damaged or truncated ({reason}): get a fresh copy")

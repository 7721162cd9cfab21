"""Named tensors from files, one at a time. Files are never trusted: nothing in them runs, no length is believed."""

from eigenscope.checkpoints.base import Checkpoint, Entry
from eigenscope.checkpoints.opening import open_checkpoint

__all__ = ["Checkpoint", "Entry", "open_checkpoint"]

"""Activation checkpointing, switched off while a model is traced.

What a checkpoint hides is not in the graph: with `use_reentrant` the blocks inside have no gradient, without it every
product would run them again. The graph of one batch is kept whole instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils import checkpoint


@contextmanager
def no_checkpoints() -> Iterator[None]:
    """Within: `torch.utils.checkpoint.checkpoint(f, x)` is f(x)."""
    function: Any = checkpoint.CheckpointFunction
    generator = checkpoint._checkpoint_without_reentrant_generator
    function.apply = staticmethod(_plain)
    checkpoint._checkpoint_without_reentrant_generator = _nothing_around
    try:
        yield
    finally:
        del function.apply  # the class's own, inherited, is there again
        checkpoint._checkpoint_without_reentrant_generator = generator


def _plain(function: Callable[..., Any], _preserve: bool, *args: Any) -> Any:
    return function(*args)


def _nothing_around(*_args: Any, **_kwargs: Any) -> Iterator[None]:
    yield

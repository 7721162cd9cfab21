"""The model that a checkpoint belongs to: built from its config.json, or the user's own with its weights put in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eigenscope.checkpoints.base import Checkpoint
from eigenscope.checkpoints.opening import open_checkpoint
from eigenscope.compression.saving import SPECIFICATION
from eigenscope.errors import CheckpointError, InputError, first_line
from eigenscope.words import counted, few

_COUNTERS = "num_batches_tracked"  # of batch norm: files from before torch 0.4.1 lack it, and nothing depends on it


def model_of(source: str, own: nn.Module | None = None) -> tuple[nn.Module, list[str]]:
    """The model of `source`, in evaluation mode, and what is to be known of it.

    A Hugging Face folder or id is built by transformers: as the class that its config.json names, or as that of `own`.
    Any other checkpoint is put into `own`, tensor by tensor, and has to fit. Raises `InputError` in one line: no
    architecture, a layer that is missing, shapes that differ, NaN.
    """
    folder = Path(source).expanduser()
    if (folder / SPECIFICATION).is_file():
        raise InputError(f"{source!r} is compressed already (it has an {SPECIFICATION}): compress the original")
    with open_checkpoint(source) as checkpoint:  # what can't be read is told in one line before transformers is asked
        described = (folder / "config.json").is_file() or not folder.exists()
        if described and (own is None or hasattr(own, "from_pretrained")):
            model, notes = _built(source, checkpoint.config, own)
        elif own is not None:
            model, notes = _filled(own, checkpoint, source)
        else:
            raise InputError(
                f"{source!r} holds weights without an architecture: add --calibrate MODULE:NAME, whose model they are "
                "put in, or name a folder with a config.json"
            )
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            nan, bad = int(torch.isnan(tensor).sum()), int((~torch.isfinite(tensor)).sum())
            found = f"{nan:,} NaN and {bad - nan:,} infinite entries of {tensor.numel():,}"
            raise InputError(f"{source!r}: {name} has {found}: nothing can be computed from it; get a sound checkpoint")
    return model.eval(), notes


def _built(source: str, config: Mapping[str, object], own: nn.Module | None) -> tuple[nn.Module, list[str]]:
    """By transformers, which knows old names and tied weights."""
    kind: Any = type(own) if own is not None else _class_of(source, config)
    try:
        with _quiet():
            model, info = kind.from_pretrained(
                str(Path(source).expanduser()), local_files_only=True, output_loading_info=True,
                ignore_mismatched_sizes=True, dtype="auto",
            )  # fmt: skip
    except Exception as error:  # whatever a config.json makes of a class
        raise CheckpointError(
            f"transformers can't build {source!r} ({first_line(error)}): check its config.json"
        ) from error
    differing = sorted(info.get("mismatched_keys", []), key=str)
    if differing:
        name, stored, wanted = differing[0]
        raise InputError(_differs(source, str(name), stored, wanted, kind.__name__))
    if info["missing_keys"]:
        raise InputError(_lacks(source, sorted(info["missing_keys"]), kind.__name__))
    unused = sorted(info["unexpected_keys"])
    return model, [_unused(unused, kind.__name__)] if unused else []


def _class_of(source: str, config: Mapping[str, object]) -> Any:
    try:
        import transformers
    except ImportError:
        raise InputError(f"{source!r} is built by transformers: pip install transformers") from None
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    found = getattr(transformers, name, None) if isinstance(name, str) else None
    if name is not None and not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise InputError(f"{source!r}: transformers has no model {name!r}, which its config.json names: upgrade it")
    if found is None and not config.get("model_type"):
        raise InputError(f"{source!r}: its config.json names neither architectures nor model_type: add one of them")
    return found or transformers.AutoModel


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without bars and tables of transformers' own: what matters of them is said here."""
    from transformers.utils import logging as their

    logging: Any = their  # untyped
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _filled(own: nn.Module, checkpoint: Checkpoint, source: str) -> tuple[nn.Module, list[str]]:
    """The user's model with the weights of the checkpoint, in the model's own types."""
    kind, wanted = type(own).__name__, own.state_dict(keep_vars=True)
    stored = {entry.name: entry for entry in checkpoint.entries if entry.aside is None}
    names = _without_prefix(stored, wanted)
    known = {_address(wanted[name]) for name in names if name in wanted}
    missing = [
        name for name, tensor in wanted.items()
        if name not in names and _address(tensor) not in known and not name.endswith(_COUNTERS)
    ]  # fmt: skip
    if missing:
        raise InputError(_lacks(source, missing, kind))
    for name in filter(names.__contains__, wanted):
        if stored[names[name]].shape != tuple(wanted[name].shape):
            raise InputError(_differs(source, name, stored[names[name]].shape, wanted[name].shape, kind))
    left = [stored_as for name, stored_as in names.items() if name not in wanted]
    unused = [name for name in left if not _is_mask(checkpoint.load(name))]
    if unused:
        more = f"{source!r} has {counted(len(unused), 'tensor')} that {kind} has no place for: {few(unused)}"
        raise InputError(f"{more}; let --calibrate return the model that was saved")
    with torch.no_grad():
        for name in filter(names.__contains__, wanted):
            wanted[name].copy_(checkpoint.load(names[name]))
    return own, [*checkpoint.notes, *([_unused(left, kind)] if left else [])]


def _is_mask(tensor: Tensor) -> bool:
    """A causal mask, or positions: what models compute for themselves, and some save."""
    return not tensor.is_floating_point() or (tensor.ndim > 1 and bool(((tensor == 0) | (tensor == 1)).all()))


def _without_prefix(stored: Mapping[str, object], wanted: Mapping[str, Tensor]) -> dict[str, str]:
    """The model's names → the stored ones; `module.` of a wrapped model goes where that makes them fit."""
    for prefix in ("", "module.", "_orig_mod."):
        names = {name.removeprefix(prefix): name for name in stored}
        if names.keys() & wanted.keys():
            return names
    return {name: name for name in stored}


def _address(tensor: Tensor) -> object:
    return (tensor.data_ptr(), tensor.shape) if tensor.numel() else id(tensor)


def _lacks(source: str, names: list[str], kind: str) -> str:
    return f"{source!r} lacks {counted(len(names), 'tensor')} of {kind}: {few(names)}; get the whole checkpoint"


def _differs(source: str, name: str, stored: Any, wanted: Any, kind: str) -> str:
    sizes = ["×".join(map(str, shape)) for shape in (stored, wanted)]
    return f"{source!r}: {name} is {sizes[0]}, and {kind} needs {sizes[1]}: they are of different architectures"


def _unused(names: list[str], kind: str) -> str:
    return f"{counted(len(names), 'tensor')} of the checkpoint left out, for which {kind} has no place: {few(names)}"

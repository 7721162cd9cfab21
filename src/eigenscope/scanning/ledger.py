"""Every tensor of a checkpoint is looked at, or listed with the reason why not."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

import torch

from eigenscope.checkpoints import Checkpoint, Entry
from eigenscope.diagnostics.words import did_you_mean
from eigenscope.errors import CheckpointError, InputError, printable
from eigenscope.scanning.layouts import Layout, views, why_not
from eigenscope.scanning.result import Skipped

_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|token_embd|shared)\.weight$")


def sorted_out(
    checkpoint: Checkpoint, layout: Layout, match: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[list[Entry], list[Skipped]]:
    """What is to be analysed, and the ledger of what is not."""
    check_patterns(match, [entry.name for entry in checkpoint.entries])
    unwanted = {entry.name: why for entry in checkpoint.entries if (why := left_out(entry.name, match, exclude))}
    tied = {**checkpoint.tied, **equal_head(checkpoint, unwanted)}
    tasks, skipped = [], []
    for entry in checkpoint.entries:
        why = unwanted.get(entry.name) or reason(entry, tied, layout)
        if why is None:
            tasks.append(entry)
        else:
            skipped.append(Skipped(entry.name, entry.shape, entry.dtype, why))
    return _with_groups(tasks, layout), skipped


def reason(entry: Entry, tied: Mapping[str, str], layout: Layout) -> str | None:
    """Why a tensor is no matrix of the model, whoever asks; None where it is one."""
    if entry.aside:
        return printable(entry.aside)
    if entry.name in tied:
        return f"tied to {printable(tied[entry.name])}: counted there"
    return why_not(entry.name, entry.shape, entry.kind, layout)


def patterns(given: str | Sequence[str] | None, option: str) -> Sequence[str]:
    """The globs of an option; raises `InputError` where they are none."""
    found = () if given is None else (given,) if isinstance(given, str) else given
    if not isinstance(found, Sequence) or not all(isinstance(pattern, str) for pattern in found):
        raise InputError(f"{option}={given!r} is no name: give a glob such as '*attn*', or a list of them")
    return tuple(found)


def check_patterns(match: Sequence[str], names: Sequence[str]) -> None:
    """Complain, with what was probably meant, of a pattern that no name fits."""
    for pattern in match:
        if fnmatch.filter(names, pattern):
            continue
        within = fnmatch.filter(names, f"*{pattern}*")
        near = f": try '*{pattern}*'" if within else did_you_mean(pattern, names, most=8)
        raise InputError(printable(f"no tensor matches {pattern!r}{near}"))


def left_out(name: str, match: Sequence[str], exclude: Sequence[str] = ()) -> str | None:
    """Why the user's options leave a tensor out; None where they don't."""
    if match and not any(fnmatch.fnmatchcase(name, pattern) for pattern in match):
        return "left out: --match names others"
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude):
        return "left out: excluded"
    return None


def equal_head(checkpoint: Checkpoint, unwanted: Container[str] = ()) -> dict[str, str]:
    """A head that is stored beside the embedding it is tied to: the configuration says so, and their values agree."""
    if checkpoint.config.get("tie_word_embeddings") is not True:
        return {}
    heads = [entry for entry in checkpoint.entries if _HEAD.search(entry.name) and entry.name not in unwanted]
    embeddings = [entry for entry in checkpoint.entries if _EMBEDDING.search(entry.name)]
    for head in heads:
        for embedding in embeddings:
            alike = (head.shape, head.dtype) == (embedding.shape, embedding.dtype)
            if alike and head.name not in checkpoint.tied and _equal(checkpoint, head.name, embedding.name):
                return {head.name: embedding.name}
    return {}


def _equal(checkpoint: Checkpoint, name: str, other: str) -> bool:
    try:
        return torch.equal(checkpoint.load(name), checkpoint.load(other))
    except CheckpointError:
        return False  # which of them can't be read, the ledger says


def _with_groups(tasks: list[Entry], layout: Layout) -> list[Entry]:
    """Each convolution's groups, where its file doesn't say them.

    Filters of one input channel are depthwise, but for the first of several convolutions: that one sees grey images.
    """
    kernels = [task for task in tasks if len(task.shape) > 2 and next(views(task.name, task.shape, layout)).kernel]
    grey = kernels[0] if len(kernels) > 1 else None
    depthwise = [task for task in kernels if task.shape[1] == 1 and task is not grey and not task.groups]
    chosen = {task.name: task.shape[0] for task in depthwise}
    return [replace(task, groups=chosen[task.name]) if task.name in chosen else task for task in tasks]

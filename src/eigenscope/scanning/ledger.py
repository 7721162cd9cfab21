"""Every tensor of a checkpoint is looked at, or listed with the reason why not."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

import torch

from eigenscope.checkpoints import Checkpoint, Entry
from eigenscope.errors import CheckpointError, InputError, printable
from eigenscope.scanning.layouts import Layout, views, why_not
from eigenscope.scanning.result import Skipped
from eigenscope.words import did_you_mean

_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output|decoder)\.weight$")
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|token_embd|shared)\.weight$")


def sorted_out(
    checkpoint: Checkpoint, layout: Layout, match: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[list[Entry], list[Skipped]]:
    """What is to be analysed, and the ledger of what is not."""
    check_patterns(match, [entry.name for entry in checkpoint.entries])
    unwanted = {entry.name: why for entry in checkpoint.entries if (why := left_out(entry.name, match, exclude))}
    tied = {**checkpoint.tied, **equal_heads(checkpoint, unwanted)}
    tasks, skipped = [], []
    for entry in checkpoint.entries:
        why = unwanted.get(entry.name) or reason(entry, tied, layout)
        if why is None:
            tasks.append(entry)
        else:
            skipped.append(Skipped(entry.name, entry.shape, entry.dtype, why))
    every = [entry for entry in checkpoint.entries if not entry.aside and entry.name not in tied]
    return _with_groups(tasks, every, layout), skipped


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


def equal_heads(checkpoint: Checkpoint, unwanted: Container[str] = ()) -> dict[str, str]:
    """Heads and embeddings stored beside the embedding they are tied to: their values agree to the bit.

    A configuration that says they are not tied is believed, and without one nothing is compared.
    """
    if not checkpoint.config or checkpoint.config.get("tie_word_embeddings") is False:
        return {}
    embeddings = [entry for entry in checkpoint.entries if _EMBEDDING.search(entry.name)]
    heads = [entry for entry in checkpoint.entries if _HEAD.search(entry.name)]
    found: dict[str, str] = {}
    for index, embedding in enumerate(embeddings):
        for other in [*embeddings[index + 1 :], *heads]:
            alike = (other.shape, other.dtype) == (embedding.shape, embedding.dtype)
            known = {*checkpoint.tied, *found}
            if alike and other.name not in unwanted and not {other.name, embedding.name} & known:
                found |= {other.name: embedding.name} if _equal(checkpoint, other.name, embedding.name) else {}
    return found


def _equal(checkpoint: Checkpoint, name: str, other: str) -> bool:
    try:
        return torch.equal(checkpoint.load(name), checkpoint.load(other))
    except CheckpointError:
        return False  # which of them can't be read, the ledger says


def _with_groups(tasks: list[Entry], every: list[Entry], layout: Layout) -> list[Entry]:
    """Each convolution's groups, where its file doesn't say them.

    Filters of one input channel are depthwise, but for the first of several convolutions among `every` tensor there is,
    asked for or not: that one sees grey images.
    """
    kernels = [entry for entry in every if len(entry.shape) > 2 and next(views(entry.name, entry.shape, layout)).kernel]
    layers = list(dict.fromkeys(_layer(kernel.name) for kernel in kernels))
    grey = layers[0] if len(layers) > 1 else None
    depthwise = [k for k in kernels if k.shape[1] == 1 and _layer(k.name) != grey and not k.groups]
    chosen = {task.name: task.shape[0] for task in depthwise}
    return [replace(task, groups=chosen[task.name]) if task.name in chosen else task for task in tasks]


def _layer(name: str) -> str:
    """Whose weight it is: a normalized one is stored beside what it is made from."""
    return name.removesuffix("_orig").removesuffix("_v")

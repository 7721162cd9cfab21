"""A PEFT adapter opened for work on its factors: what each module has, and what the file holds besides."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eigenscope.checkpoints import Entry, open_checkpoint
from eigenscope.checkpoints.formats.peft import PREFIX, Peft, Update
from eigenscope.errors import CheckpointError, InputError
from eigenscope.words import few

_SAVED = re.compile(r"\.modules_to_save\.(?:[^.]+\.(?=[^.]+$))?")  # PEFT's wrapper, with or without the adapter's name
_FOREIGN = {  # variants whose ΔW is not scaling · B·A
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "arrow_config": "Arrow",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "layer replication",
    "target_parameters": "factors of bare parameters (target_parameters)",
    "trainable_token_indices": "trainable tokens",
    "megatron_config": "Megatron's layers",
}
_AT_START = ("pissa", "corda", "olora", "loftq", "lora_ga")  # initializations that also change the base


@dataclass(frozen=True)
class Opened:
    """An adapter with a single set of factors."""

    peft: Peft
    updates: Mapping[str, Update]  # by module
    dora: bool

    def factors(self, module: str) -> tuple[Tensor, Tensor]:
        """A and B as stored; raises `CheckpointError` where they hold NaN or infinity."""
        found = self.peft.factors(self.updates[module])
        if not all(bool(torch.isfinite(factor).all()) for factor in found):
            raise CheckpointError(f"{self.peft.name}: the factors of {module} hold NaN or infinity: get a fresh copy")
        return found

    def others(self) -> Iterator[Entry]:
        """What the file holds besides the factors: whole weights, biases, magnitudes."""
        yield from (entry for entry in self.peft.entries if entry.aside is not None)

    def magnitude(self, module: str) -> Tensor | None:
        """DoRA's, by module."""
        pattern = re.compile(rf"({re.escape(PREFIX)})?{re.escape(module)}\.lora_magnitude_vector(\.\w+)*")
        return next((self.peft.load(e.name) for e in self.others() if pattern.fullmatch(e.name)), None)

    def lora_bias(self, module: str) -> Tensor | None:
        """The bias of B."""
        pattern = re.compile(rf"({re.escape(PREFIX)})?{re.escape(module)}\.lora_B(\.\w+)?\.bias")
        return next((self.peft.load(e.name) for e in self.others() if pattern.fullmatch(e.name)), None)

    def whole(self) -> Iterator[tuple[str, Entry]]:
        """Tensors that take the place of the base's, by the names that these have there."""
        for entry in self.others():
            name = entry.name.removeprefix(PREFIX)
            if ".lora_" not in name and ".original_module." not in name:
                yield _SAVED.sub(".", name.replace(".base_layer.", ".")), entry

    def copies(self, name: str) -> bool:
        """Whether PEFT keeps a tensor of this name beside the base's (`modules_to_save`), not in the base itself."""
        listed = self.peft.config.get("modules_to_save")
        ends = tuple(map(str, listed)) if isinstance(listed, list) else ()
        parts = name.split(".")[:-1]
        return any(".".join(parts[: count + 1]).endswith(ends) for count in range(len(parts)))

    def close(self) -> None:
        """Close the file."""
        self.peft.close()


def open_adapter(adapter: str | os.PathLike[str]) -> Opened:
    """Open a folder or a Hugging Face id; raises one line for what is no LoRA adapter, or one of a kind not known."""
    if not isinstance(adapter, str | os.PathLike):
        raise InputError(f"{adapter!r:.80} is no adapter: give its folder, or a Hugging Face id")
    found = open_checkpoint(adapter)
    if not isinstance(found, Peft):
        found.close()
        raise InputError(f"{os.fspath(adapter)} is no PEFT adapter: it has no adapter_config.json")
    config: Mapping[str, Any] = found.config
    foreign = [words for key, words in _FOREIGN.items() if config.get(key)]
    if foreign:
        raise InputError(f"{found.name} uses {few(foreign)}, which eigenscope does not know: merge it with PEFT first")
    several = [name for name in found.updates if not name.endswith(".weight")]
    if several:
        raise InputError(f"{found.name} holds several adapters ({few(several)}): save the one that you mean by itself")
    updates = {name.removesuffix(".weight"): update for name, update in found.updates.items()}
    return Opened(found, updates, bool(config.get("use_dora")))


def changes_the_base(config: Mapping[str, Any]) -> str | None:
    """The initialization that took something out of the base's weights, if the adapter still says so."""
    start = str(config.get("init_lora_weights", "")).lower()
    return start if start.startswith(_AT_START) else None


def check_plain(opened: Opened) -> None:
    """Raise `InputError` for an adapter whose ΔW is relative to a base that was changed when training began."""
    if start := changes_the_base(opened.peft.config):
        how = "save it as plain LoRA with PEFT first (path_initial_model_for_weight_conversion)"
        raise InputError(f"{opened.peft.name} was initialized by {start}, which changes the base too: {how}")

"""`adapter_config.json`: which modules, at which rank and scaling, in the words of PEFT's LoraConfig.

Only what PEFT needs is written; it fills in the rest, and versions differ in what they know. α = r for every module, so
that the scaling α/r is 1 and ΔW = B·A.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from eigenscope.errors import InputError
from eigenscope.words import few

_PEFT_S_OWN = (
    *("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_dropout", "lora_magnitude_vector"),
    *("base_layer", "default"),
)


def configuration(
    ranks: Mapping[str, int],
    modules: Collection[str],
    *,
    modules_to_save: Iterable[str] = (),
    fan_in_fan_out: bool = False,
    bias: str = "none",
    lora_bias: bool = False,
    base: str | None = None,
    task: str | None = None,
) -> dict[str, object]:
    """For factors of these `ranks` by module, among all `modules` of the model."""
    common = Counter(ranks.values()).most_common(1)[0][0]
    others = patterns(ranks, common)
    saved = sorted(modules_to_save)
    return {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": common,
        "lora_alpha": common,
        "lora_dropout": 0.0,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": targets(ranks, modules),
        "modules_to_save": saved or None,
        "fan_in_fan_out": fan_in_fan_out,
        "bias": bias,
        **({"lora_bias": True} if lora_bias else {}),
    }


def targets(chosen: Collection[str], modules: Collection[str]) -> list[str] | str:
    """The modules by their last names where those name no other, as people write them; else in full; else exactly.

    PEFT takes an item of a list for the end of a module's name, and a string for a regular expression of the whole.
    """
    known = set(modules) | set(chosen)
    for names in (sorted({name.rpartition(".")[2] for name in chosen}), sorted(chosen)):
        ends = tuple(f".{name}" for name in names)
        if {name for name in known if name in names or name.endswith(ends)} == set(chosen):
            return names
    return "|".join(re.escape(name) for name in sorted(chosen))


def patterns(ranks: Mapping[str, int], common: int) -> dict[str, int]:
    """What differs from the common rank, the longest names first: PEFT takes the first that is the end of a name.

    It takes them for regular expressions: what one would read as such is escaped. Where a name is the end of another
    one with the common rank, that one is listed too.
    """
    differ = {name for name, rank in ranks.items() if rank != common}
    ends = tuple(f".{name}" for name in differ)
    listed = differ | {name for name in ranks if name.endswith(ends)}
    return {re.escape(name): ranks[name] for name in sorted(listed, key=lambda name: (-len(name), name))}


def saved_too(wanted: Collection[str], modules: Collection[str]) -> set[str]:
    """All modules that PEFT will take for these, or keep without factors because of them.

    It compares the ends of names letter by letter; where factors could stand, it takes these as regular expressions.
    """
    found: set[str] = set()
    more = set(wanted)
    while not more <= found:
        found |= more
        ends, shut_out = tuple(found), _expression(found)
        more = {name for name in modules if name.endswith(ends) or shut_out.match(name)}
    return found


def can_be_saved(module: str) -> bool:
    """Whether PEFT can save it as a whole: not where a name of its own modules ends so ("lora_dropout")."""
    return not any(own.endswith(module) for own in _PEFT_S_OWN)


def _expression(names: Collection[str]) -> re.Pattern[str]:
    try:
        return re.compile("|".join(rf"(?:^|.*\.)(?:{name})(?:$|\..*)" for name in sorted(names)))
    except re.error:
        raise InputError(f"PEFT can't save {few(sorted(names))} as a whole: a name is no regular expression") from None

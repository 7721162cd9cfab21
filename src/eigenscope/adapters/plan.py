"""What becomes of each tensor of a base under an adapter: a row for every tensor of the merged file.

PEFT treats tied modules each by itself, as soon as one has factors or a copy of its own (`modules_to_save`). Where the
two no longer agree both are written, and the model is no longer tied.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from eigenscope.adapters.architecture import Architecture, plain
from eigenscope.adapters.opened import Opened
from eigenscope.checkpoints import Checkpoint, Entry
from eigenscope.checkpoints.formats.peft import Update
from eigenscope.errors import InputError
from eigenscope.words import few


@dataclass
class Row:
    """One tensor of the merged file: W, or what the adapter brings in its place, and then the module's update."""

    name: str
    base: Entry | None  # None: the base has no such tensor
    brought: Entry | None = None  # a whole tensor of the adapter
    copied: bool = False  # that tensor is a copy beside the base's; else it is loaded into the base itself
    module: str | None = None  # of the adapter: its ΔW, or the bias of its B, is added

    is_bias: bool = False

    @property
    def entry(self) -> Entry:
        """Whose shape the row has."""
        found = self.brought or self.base
        assert found is not None
        return found


@dataclass
class Plan:
    """The rows by name, and what is to be told."""

    base: Checkpoint
    opened: Opened
    architecture: Architecture
    rows: dict[str, Row]
    aliases: dict[str, str]  # a name that shares its values → the row that holds them
    known: dict[str, str] = field(init=False)  # the names of both, as an adapter may have them
    untied: bool = False
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.known = {plain(name): name for name in (*self.rows, *self.aliases)}

    @classmethod
    def of(cls, base: Checkpoint, opened: Opened, architecture: Architecture, buffers: frozenset[str]) -> Plan:
        """Match what the adapter has with the tensors of the base; raises `InputError` where something fits nowhere."""
        if base.format == "peft":
            raise InputError(f"BASE, {base.name}, is an adapter itself: give the model that the adapter is for")
        kept = [e for e in base.entries if e.name not in base.tied and (e.aside is None or e.name in buffers)]
        rows = {entry.name: Row(entry.name, entry) for entry in kept}
        stored = {alias: name for alias, name in base.tied.items() if name in rows}
        plan = cls(base, opened, architecture, rows, {**_also_known_as(kept, architecture), **stored})
        plan._bring_whole()
        plan._add_updates()
        plan._untie()
        return plan

    def kind(self, row: Row) -> str | None:
        """Of the layer that the row belongs to; None where only names could tell."""
        name = self.architecture.name_of(row.name)
        return self.architecture.kind(name, row.entry.shape) if name in self.architecture.names else None

    def _name(self, name: str) -> str | None:
        """The row or alias that a name of the adapter's means, with or without the body's prefix."""
        if name in self.known:
            return self.known[name]
        near = [key for key in self.known if name.endswith(f".{key}") or key.endswith(f".{name}")]
        return self.known[near[0]] if len(near) == 1 else None

    def _own_row(self, name: str) -> Row | None:
        """Its row; a tied tensor gets one of its own, which starts as what it is tied to."""
        known = self._name(name)
        return None if known is None else self.rows.setdefault(known, self._as_tied(known))

    def _as_tied(self, name: str) -> Row:
        kept = self.rows[self.aliases.get(name, name)]
        return Row(name, kept.base, None if kept.copied else kept.brought)

    def _bring_whole(self) -> None:
        """First what is loaded into the base itself, where tied tensors are still one."""
        for name, entry in sorted(self.opened.whole(), key=lambda item: self.opened.copies(item[0])):
            copied, known = self.opened.copies(name), self._name(name)
            row = self._own_row(name) if copied or known is None else self.rows[self.aliases.get(known, known)]
            row = row or self.rows.setdefault(name, Row(name, None))
            row.brought, row.copied = entry, copied
        alone = [row for row in self.rows.values() if row.base is None]
        for row in alone:
            if any(self._alike(row, other) for other in self.rows.values() if other.base is not None):
                del self.rows[row.name]  # the copy of a tied weight, of which the base holds one
        added = [row.name for row in alone if row.name in self.rows]
        if added:
            self.notes.append(f"{self.base.name} has no {few(added)}: added as the adapter has them")

    def _alike(self, row: Row, other: Row) -> bool:
        """Whether the adapter brings the same values for both, and adds nothing to them."""
        if row.brought is None or other.brought is None or row.module or other.module:
            return False
        if row.brought.shape != other.brought.shape:
            return False
        return torch.equal(self.opened.peft.load(row.brought.name), self.opened.peft.load(other.brought.name))

    def _add_updates(self) -> None:
        name, base = self.opened.peft.name, self.base.name
        for module, update in self.opened.updates.items():
            row = self._own_row(f"{module}.weight")
            if row is None:
                known = "" if self.architecture.names else ", or tied, which a folder with config.json would tell"
                raise InputError(f"{base} has no {module}.weight, which {name} changes: is it its base{known}?")
            _check_shape(row, update, self.opened)
            row.module = module
            if self.opened.lora_bias(module) is not None:
                bias = self._own_row(f"{module}.bias")
                if bias is None:
                    raise InputError(f"{name} changes the bias of {module}, which has none in {base}")
                bias.module, bias.is_bias = module, True

    def _untie(self) -> None:
        """Rows for both of a pair that no longer agrees; none for a copy of what is still tied."""
        apart = []
        for alias, kept in self.aliases.items():
            row, other = self.rows.get(alias), self.rows[kept]
            if row is not None and self._alike(row, other):
                del self.rows[alias]
            elif row is not None or other.module or other.copied:
                apart.append((alias, kept))
        apart = apart or self._parted()
        if not apart:
            return
        alias, kept = apart[0]
        if list(self.aliases.values()).count(kept) > 1:
            why = f"{self.opened.peft.name} changes some of several tied tensors ({alias}, {kept}), and not all"
            raise InputError(f"{why} alike: use it with PEFT, unmerged")
        self.untied = True
        for one in self.aliases:  # one setting unties them all
            self.rows.setdefault(one, self._as_tied(one))
        self.notes.append(
            f"{alias} and {kept} were tied, and are no longer: the adapter changes one apart from the other"
        )

    def _parted(self) -> list[tuple[str, str]]:
        """Pairs that the model ties and the base stores both of, where the adapter treats one apart."""
        rows = {self.architecture.name_of(name): row for name, row in self.rows.items()}
        groups = ((row, self.architecture.sharing(name)) for name, row in rows.items() if row.module or row.copied)
        pairs = ((row, rows.get(group[1])) for row, group in groups if len(group) == 2)
        return [(row.name, other.name) for row, other in pairs if other is not None and not self._alike(row, other)]


def _also_known_as(kept: list[Entry], architecture: Architecture) -> dict[str, str]:
    """Names of the model that its folder does not store, as they are tied to ones that it does."""
    stored = {architecture.name_of(entry.name): entry.name for entry in kept}
    tied = {name: architecture.sharing(name) for name in stored}
    return {other: stored[name] for name, group in tied.items() for other in group[1:] if other not in stored}


def _check_shape(row: Row, update: Update, opened: Opened) -> None:
    if opened.dora and (update.embedding or len(update.a.shape) != 2):
        raise InputError(f"{opened.peft.name} uses DoRA beside {row.name}, no dense layer: merge it with PEFT")
    out, inn = update.b.shape[0], update.a.shape[1:]
    if sorted(row.entry.shape) != sorted((out, *inn)):
        has = f"{(out, *inn)} in {opened.peft.name}"
        raise InputError(f"{row.name} is {row.entry.shape} in the base, and its update is {has}: is it its base?")

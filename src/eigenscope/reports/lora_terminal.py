"""Adapters in the terminal: a line a layer, what goes along, and the whole in words."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eigenscope.adapters.report import (
    ExtractedLayer,
    Extraction,
    InspectedLayer,
    Inspection,
    Merge,
    Resize,
    WholeTensor,
)
from eigenscope.reports.compare_terminal import percent
from eigenscope.reports.fitting import Column, fitted
from eigenscope.reports.numbers import number, sparkline
from eigenscope.reports.terminal import titled
from eigenscope.words import counted, few

_SPARK = 12
_CHOSEN = {
    "exact": "all of it",
    "energy": "by energy",
    "given": "as given",
    "rounding": "the rest is rounding",
}


def print_extraction(out: Console, found: Extraction, folder: str | None) -> None:
    """Each layer, what is brought whole, and what that makes."""
    if found.layers:
        out.print(_extracted(found.layers, out.width))
        out.print()
    if found.whole:
        out.print(_brought(found.whole))
        out.print()
    _notes(out, found.notes)
    out.print(Text(f"{found.base} → {found.tuned}", "bold"))
    out.print(Text(_said(found)))
    where = f"written to {folder}" if folder else "nothing was written: -o OUT writes the adapter"
    out.print(Text(f"{where}; {found.seconds:.2g} s", "dim"))


def _extracted(layers: Sequence[ExtractedLayer], width: int) -> Table:
    columns = [
        Column("shape", [f"{layer.shape[0]}×{layer.shape[1]}" for layer in layers], spare=3),
        Column("ΔW/W", [percent(layer.relative_size) for layer in layers]),
        Column("rank", [_rank(layer) for layer in layers]),
        Column("chosen", [_CHOSEN[layer.chosen_by] for layer in layers], right=False, spare=4),
        Column("energy", [_energy(layer.energy) for layer in layers], spare=1),
        Column("left over", [percent(layer.residual) for layer in layers]),
        Column("numbers", [f"{layer.parameters:,} of {layer.parameters_full:,}" for layer in layers], spare=2),
    ]
    return fitted("layer", [Text(layer.name) for layer in layers], columns, width)


def _rank(layer: ExtractedLayer) -> str:
    return f"{layer.rank:,} of {layer.rank_full:,}"


def _brought(rows: Sequence[WholeTensor]) -> Table:
    """A line for each reason, with the first names."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        groups[row.how, row.reason].append(row.name)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title in ("brought whole", "by", "because"):
        table.add_column(title)
    for (how, reason), names in groups.items():
        table.add_row(Text(few(names)), Text(how), Text(reason))
    return table


def _said(found: Extraction) -> str:
    share = percent(found.parameters / found.parameters_full) if found.parameters_full else "—"
    size = f"{counted(found.parameters, 'number')}, {share} of the {found.parameters_full:,} that changed"
    sentences = [f"{size}; {_megabytes(found.bytes)}"]
    if found.layers:
        ranks = Counter(layer.rank for layer in found.layers)
        rank, count = ranks.most_common(1)[0]
        every = f"rank {rank}" if count == len(found.layers) else f"ranks {min(ranks)} to {max(ranks)}"
        left = f"{percent(found.residual)} of the change is left over (‖ΔW − BA‖/‖ΔW‖, measured)"
        sentences.append(f"{counted(len(found.layers), 'layer')} at {every}; {left}")
    alike = [f"{counted(len(found.unchanged), 'tensor')} unchanged bit for bit"] if found.unchanged else []
    alike += [f"{counted(len(found.rounded), 'tensor')} but for the rounding of the storage"] if found.rounded else []
    if alike:
        sentences.append(", ".join(alike))
    return ". ".join(sentence[0].upper() + sentence[1:] for sentence in sentences) + "."


def print_inspection(out: Console, found: Inspection) -> None:
    """Each layer, and the rank that would do."""
    out.print(_inspected(found.layers, found.energy, out.width))
    out.print()
    if found.whole:
        out.print(_brought(found.whole))
        out.print()
    _notes(out, found.notes)
    out.print(Text(found.adapter, "bold"))
    out.print(Text(_judged(found)))
    out.print(Text(f"{found.seconds:.2g} s", "dim"))


def _inspected(layers: Sequence[InspectedLayer], energy: float, width: int) -> Table:
    columns = [
        Column("shape", [f"{layer.shape[0]}×{layer.shape[1]}" for layer in layers], spare=2),
        Column("rank", [str(layer.rank) for layer in layers]),
        Column("used", [str(layer.rank_used) for layer in layers]),
        Column("effective", [f"{layer.effective_rank:.1f}" for layer in layers]),
        Column(f"for {energy * 100:g} %", [str(layer.rank_enough) for layer in layers]),
        Column("σ₁", [number(float(f"{layer.singular_values[0]:.3g}")) for layer in layers], spare=1),
        Column("σ", [Text(sparkline(layer.singular_values, _SPARK), "cyan") for layer in layers], right=False, spare=3),
    ]
    if any(layer.intruders is not None for layer in layers):
        size = [percent(layer.relative_size) if layer.relative_size is not None else "—" for layer in layers]
        columns.append(Column("ΔW/W", size))
        columns.append(Column("intruders", [_intruders(layer) for layer in layers]))
    return fitted("layer", [Text(layer.name) for layer in layers], columns, width)


def _intruders(layer: InspectedLayer) -> Text:
    return Text("—" if layer.intruders is None else str(layer.intruders), "yellow" if layer.intruders else "dim")


def _judged(found: Inspection) -> str:
    share = f"{found.energy * 100:g} %"
    effective = sorted(layer.effective_rank for layer in found.layers)[len(found.layers) // 2]
    said = [f"Nominal rank {found.rank}, effective rank {effective:.1f} in the middle layer"]
    if found.rank_enough < found.rank:
        saved = percent(1 - found.parameters_enough / found.parameters)
        said.append(f"rank {found.rank_enough} would hold {share} of every update, at {saved} fewer numbers")
    else:
        said.append(f"no smaller rank holds {share} of every update")
    intruders = [layer.intruders for layer in found.layers if layer.intruders is not None]
    if intruders:
        words = counted(sum(intruders), "new leading direction")
        said.append(
            f"{words} that the base lacks, in {sum(map(bool, intruders))} of {counted(len(intruders), 'layer')}"
        )
    return "; ".join(said) + "."


def print_resize(out: Console, found: Resize, folder: str | None) -> None:
    """Ranks before and after, and what was left over."""
    rows = found.layers
    columns = [
        Column("rank", [f"{row.rank_before} → {row.rank}" for row in rows]),
        Column("energy", [_energy(row.energy) for row in rows]),
        Column("left over", [percent(row.residual) for row in rows]),
    ]
    out.print(fitted("layer", [Text(row.name) for row in rows], columns, out.width))
    out.print()
    _notes(out, found.notes)
    out.print(Text(found.adapter, "bold"))
    out.print(Text(f"{found.parameters:,} numbers instead of {found.parameters_before:,}."))
    out.print(Text(f"written to {folder}; {found.seconds:.2g} s", "dim"))


def print_merge(out: Console, found: Merge) -> None:
    """What was added where."""
    _notes(out, found.notes)
    out.print(Text(f"{found.base} + {found.adapter}", "bold"))
    replaced = f", {counted(len(found.replaced), 'tensor')} replaced" if found.replaced else ""
    added = f", {counted(len(found.added), 'tensor')} added" if found.added else ""
    out.print(Text(f"{counted(len(found.merged), 'update')} merged{replaced}{added}; {_megabytes(found.bytes)}."))
    out.print(Text(f"written to {found.out}; {found.seconds:.2g} s", "dim"))


def _notes(out: Console, notes: Sequence[str]) -> None:
    for note in notes:
        out.print(titled("note", note, "yellow"))


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.3g} MB" if count >= 2**19 else f"{count / 2**10:.3g} kB"


def _energy(share: float) -> str:
    """What is kept, rounded down, so that "100 %" is all of it: "99.7 %"."""
    return "100 %" if share > 1 - 1e-6 else f"{math.floor(1000 * share) / 10:.1f} %"

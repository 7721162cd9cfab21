"""The actions of a run in the terminal: what was done, why, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eigenscope.diagnostics.definitions import DEFINITIONS
from eigenscope.monitor.records import APPLIED, in_words
from eigenscope.reports.numbers import number
from eigenscope.runs.actions import DONE

STYLES = {
    "proposed": "bold", "applied": "bold", "kept": "green", "undone": "yellow", "failed": "bold red",
    "refused": "yellow", "dismissed": "dim",
}  # fmt: skip
_SHOWN = ("loss", "stability_ratio", "condition_mean", "gradient_norm", "depth_factor")


def print_change(out: Console, action: Mapping[str, Any], hint: str = "") -> None:
    """One change of an action's state, as it comes."""
    style = STYLES[action["state"]]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, min_width=8)
    text = Text.assemble((f"{action['words']}  ", style), f"action {action['key']}", tail(action), hint)
    grid.add_row(f"step {action['step']:>5,}", Text(action["state"], style), text)
    out.print(grid)


def tail(action: Mapping[str, Any]) -> str:
    """What there is to say of the state, after a colon."""
    said = {"proposed": action["alert"]["message"], "applied": in_words(action["changed"])}
    words = said.get(action["state"], action["note"])
    return f": {words}" if words else ""


def print_actions(out: Console, actions: Sequence[Mapping[str, Any]]) -> None:
    """All of a run: each with its cause, its end, and what was measured before and after."""
    if not actions:
        out.print("no action was proposed in this run", style="dim")
    for action in actions:
        verb = action["asked"] if action["state"] == "proposed" else None
        print_change(out, action, f", to be {DONE[verb]} {when(actions, verb)}" if verb else "")
        for line in [*_history(action), *compared(action)]:
            out.print(f"            {line}", style="dim", soft_wrap=True)


def when(actions: Sequence[Mapping[str, Any]], verb: str) -> str:
    """When an answer is carried out: nothing is applied while another action is on trial."""
    trial = next((action["key"] for action in actions if action["state"] == APPLIED), None)
    return f"once action {trial} has been judged" if verb == "apply" and trial is not None else "at the next step"


def _history(action: Mapping[str, Any]) -> list[str]:
    """Why, and where it was applied what that changed."""
    cause = f"because {action['alert']['message']} (step {action['alert']['step']:,})"
    if action["applied_at"] is None or action["state"] == "applied":
        return [cause]
    return [cause, f"applied at step {action['applied_at']:,}: {in_words(action['changed'])}"]


def compared(action: Mapping[str, Any]) -> list[str]:
    """The numbers on both sides of it, a line each; of one that was not applied none."""
    before, after = action["before"] or {}, action["after"] or {}
    return [
        f"{DEFINITIONS[name].label if name in DEFINITIONS else name}: {number(before[name])} → {number(after[name])}"
        for name in _SHOWN
        if before.get(name) is not None and after.get(name) is not None
    ]

"""A run in the terminal: its alerts as they come; at its end the last reading, the course, what to do."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eigenscope.diagnostics.definitions import DEFINITIONS
from eigenscope.monitor import Monitor
from eigenscope.monitor.alerts import Alert
from eigenscope.reports.numbers import number, sparkline
from eigenscope.reports.terminal import LABEL, labelled, print_reading, titled
from eigenscope.runs import load_run
from eigenscope.words import counted

_STYLES = {"ok": "green", "warning": "yellow", "critical": "bold red"}
_COURSES = ("loss", "lambda_max", "stability_ratio", "condition_number", "negative_count_certified")
_WIDEST = 60  # a longer course tells no more


def print_alert(out: Console, alert: Alert) -> None:
    """One change of a rule's state, its action first."""
    style = _STYLES[alert.level]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, min_width=8)
    action = f"{alert.action}  " if alert.action else ""
    grid.add_row(f"step {alert.step:>5,}", Text(alert.level, style), Text.assemble((action, style), alert.message))
    out.print(grid)


def print_summary(out: Console, monitor: Monitor, zigzag: float | None = None) -> None:
    """Tell how a run went; `zigzag` is the mean cosine of successive gradients."""
    if monitor.reading is not None:
        print_reading(out, monitor.reading)
        out.print()
    if monitor.run_path is not None:
        _print_courses(out, monitor)
    _print_others(out, monitor)
    if zigzag is not None:
        turn = "in the mean: a zig-zag" if zigzag < -0.2 else "in the mean"
        out.print(labelled("cosine of successive gradients", f"{zigzag:.2f} {turn}"))
    worst = monitor.alerts.worst()
    if worst is None:
        out.print(Text("● no alert stands", style="green"))
    else:
        out.print(titled(f"▲ {worst.action or worst.level}", worst.reason or worst.message, _STYLES[worst.level]))
    share = f"{counted(monitor.step_count, 'step')}, measuring took {monitor.measuring_share:.0%} of the time"
    out.print(f"{monitor.run_path}: {share}", style="dim", soft_wrap=True)


def _print_others(out: Console, monitor: Monitor) -> None:
    """The last signal flow and the last Lipschitz bounds, a line each."""
    if monitor.flow is not None:
        out.print(
            titled(f"{'signal flow':{LABEL - 2}}", f"{monitor.flow.verdict}: {monitor.flow.verdict_reason}", "dim")
        )
    bounds = monitor.lipschitz
    if bounds is not None:
        upper = bounds.lipschitz_upper.value
        certified = "nothing certified" if upper is None else f"{upper:.3g} certified"
        lower = bounds.lipschitz_lower.value
        text = f"{'nothing' if lower is None else f'{lower:.3g}'} proven, {certified}"
        out.print(titled(f"{'Lipschitz constant':{LABEL - 2}}", text, "dim"))


def _print_courses(out: Console, monitor: Monitor) -> None:
    assert monitor.run_path is not None
    with load_run(monitor.run_path) as run:
        for name in _COURSES:
            if name in run and len(run[name]):
                values = run[name].values.tolist()
                ends = f"{number(values[0])} → {number(values[-1])}"
                bars = sparkline(values, max(min(out.width - LABEL - len(ends) - 2, _WIDEST), 8))
                out.print(labelled(DEFINITIONS[name].label, f"{bars}  {ends}"), no_wrap=True)

"""Draw results for the docs: python benchmarks/plot.py [results/curvature.json | results/actions.json]."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from evidence import edge, warning
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RESULTS = Path(__file__).with_name("results")
COLOURS = {"eigenscope": "#1f6feb"}
GREY, WARNING = "#8b949e", "#d29922"


def main() -> None:
    """Write an SVG beside the JSON."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS / "curvature.json"
    results = json.loads(source.read_text())
    plt.rcParams.update({"svg.hashsalt": "eigenscope", "font.size": 9, "svg.fonttype": "none"})
    if "edge" in results:
        _actions(results).savefig(source.with_suffix(".svg"), metadata={"Date": None})
        return
    workloads = results["workloads"]
    figure, axes = plt.subplots(1, len(workloads), figsize=(3.6 * len(workloads), 2.6), squeeze=False)
    for axis, workload in zip(axes[0], workloads.values(), strict=True):
        _bars(axis, workload)
    environment = results["environment"]
    figure.supxlabel(
        f"seconds of a whole reading ({environment['clock']}, {environment['threads']} thread, "
        f"{environment['processor']}); bar: median, line: smallest to largest",
        fontsize=8,
    )
    figure.tight_layout()
    target = source.with_suffix(".svg")
    figure.savefig(target, metadata={"Date": None})
    print(target)


def _actions(results: dict[str, Any]) -> Figure:
    """Where the control wins, where it loses, and what an earlier warning costs in false alarms."""
    figure, axes = plt.subplots(1, 3, figsize=(10.8, 3.2))
    for axis, name, optimizer in ((axes[0], "digits, smoothed labels", "heavy_ball"), (axes[1], "cifar", "sgd")):
        edge.draw(results["edge"], axis, name, optimizer)
    warning.draw(results["warning"], axes[2])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def _bars(axis: Axes, workload: dict[str, Any]) -> None:
    """One bar a tool, its products written on it; a tool short of the targets is marked so."""
    rows = workload["tools"][::-1]
    for place, row in enumerate(rows):
        cost = row["seconds"]
        colour = COLOURS.get(row["tool"], GREY) if row["reached"] else WARNING
        axis.barh(place, cost["median"], color=colour)
        axis.plot([cost["min"], cost["max"]], [place, place], color="black", linewidth=1)
        short = "" if row["reached"] else ", short of the accuracy"
        axis.text(0, place + 0.42, f"{row['num_matvecs']['median']:.0f} products{short}", fontsize=7)
    axis.set_yticks(range(len(rows)), [row["tool"] for row in rows])
    axis.set_ylim(-0.6, len(rows) - 0.2)
    axis.set_title(f"{workload['about']}\n{workload['num_parameters']:,} parameters", fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()

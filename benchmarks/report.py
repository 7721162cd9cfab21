"""The results as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

COLUMNS = ("model", "tool", "products", "seconds", "gradients", "product", "top 10", "λmin", "trace", "reached")


def table(results: dict[str, Any]) -> Table:
    """One row a model and tool: medians, the range of the seconds, and the worst errors."""
    threads, clock = results["environment"]["threads"], results["environment"]["clock"]
    caption = (
        f"{clock}, {threads} thread; gradients: the whole reading in gradients of the same loss; product: "
        "one product in gradients; errors: the largest over the repeats, of the trace the root mean square"
    )
    drawn = Table(*COLUMNS, caption=caption)
    for name, workload in results["workloads"].items():
        for row in workload["tools"]:
            drawn.add_row(name, row["tool"], *_cells(row))
        best = workload["cheapest_peer_calls"]
        if best:
            drawn.add_row(name, f"peers, mixed: {best['spectrum']} + {best['trace']}", "", f"{best['seconds']:.2f}")
        drawn.add_section()
    return drawn


def _cells(row: dict[str, Any]) -> list[str]:
    errors, cost = row["worst_errors"], row["seconds"]
    return [
        f"{row['num_matvecs']['median']:.0f}",
        f"{cost['median']:.2f} ({cost['min']:.2f} to {cost['max']:.2f})",
        f"{row['cost_in_gradients']:.0f}",
        f"{row['product_in_gradients']:.1f}",
        f"{errors['top']:.0e}",
        f"{errors['lambda_min']:.0e}",
        f"{row['trace_rms_error']:.1%}",
        "yes" if row["reached"] else "no",
    ]

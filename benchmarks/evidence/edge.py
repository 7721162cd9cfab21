"""Does `ControlStep` hold a step size far past the edge, and from how wide a range of step sizes does a run end well?

Divergence: runs at 4, 8 and 16 times the edge of stability of the start; one has diverged whose loss on 256 training
samples is at the end not finite or over 1.5 times that of the start. Range: step sizes 2ᵏ, tuned = the one with which
the plain constant step ends lowest (median over the seeds); a step size ends well if the median over the seeds of
loss / loss of the tuned step with the same seed is at most 1.05, the loss being the median of six readings of those 256
samples over the last tenth of the compute. The range is the widest stretch without a gap around the tuned step, looked
for from 2⁻⁶ to 2¹² times it, by factors of 2 up to 16 and wider ones above. All have the same compute: the control's
measuring is taken from its steps. Clipping is at norm 1, the warm-up linear over a tenth of the steps. Asked again with
step sizes that fall along a cosine to 0, plain and controlled: the tuned one is then the best of those.

Digits are also trained with smoothed labels (0.1): without, the loss goes to 0 in proportion to 1 / (step size ·
steps), and to end within 5 % of it is to have taken the same steps.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import median
from typing import Any

from evidence import intervals
from evidence.edge_runs import OPTIMIZERS, WAYS, Workload, edge, train
from evidence.tasks import TASKS

PAST = (4, 8, 16)
DIVERGED = 1.5  # times the loss at the start
WELL = 1.05  # times the tuned loss
GRID = (-6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 8, 12)  # powers of 2 times the tuned step
GUESS = {"sgd": 0, "heavy_ball": -1, "adam": -6}  # where the search for the tuned step begins: powers of 2
FALLING = ("plain", "control")  # the ways that are also asked with a step size that falls
Losses = dict[str, dict[int, list[float]]]  # by way and power of 2: one a seed


def workloads(shrink: int = 1) -> dict[str, tuple[Workload, int, tuple[str, ...]]]:
    """By name: the work, the steps of a run that may diverge, and the optimizers whose ranges are looked for."""
    digits, every = TASKS["digits"](), tuple(OPTIMIZERS)
    cifar = replace(TASKS["cifar"](), batch_size=32)
    shakespeare = replace(TASKS["shakespeare"](), batch_size=16)
    found = {
        "digits": (Workload(digits, 400), 200, every),
        "digits, smoothed labels": (Workload(digits, 1000, smoothing=0.1), 0, every),
        "cifar": (Workload(cifar, 600), 200, every),
        "shakespeare": (Workload(shakespeare, 500), 200, every),
    }
    return {n: (replace(w, steps=w.steps // shrink), short // shrink, o) for n, (w, short, o) in found.items()}


def diverging(work: Workload, steps: int, seeds: int) -> dict[str, Any]:
    """Per optimizer, multiple of the edge, and way: the share of runs that diverge, and what the others end at."""
    short, found = replace(work, steps=steps), {}
    for optimizer in OPTIMIZERS:
        edges = [edge(short, seed, optimizer) for seed in range(seeds)]
        cells: dict[str, Any] = {"edge": intervals.median(edges)}
        for past in PAST:
            for way in WAYS:
                runs = [train(short, s, optimizer, past * edges[s], way) for s in range(seeds)]
                lost = [not run["loss"] <= DIVERGED * run["begun"] for run in runs]
                cells[f"{past}× {way}"] = {
                    "diverged": intervals.share(sum(lost), seeds),
                    "loss_over_start": intervals.median([run["loss"] / run["begun"] for run in runs]),
                    "measuring": median(run["share"] for run in runs),
                }
        found[optimizer] = cells
    return found


class Search:
    """The losses of one workload and optimizer at powers of 2, each run once."""

    def __init__(self, work: Workload, optimizer: str, seeds: int, ways: tuple[str, ...]) -> None:
        self.work, self.optimizer, self.seeds = work, optimizer, seeds
        self.losses: Losses = {way: {} for way in ways}
        self.shares: list[float] = []
        self.tuned = self._tuned()

    def at(self, way: str, power: int) -> list[float]:
        """One loss a seed."""
        if power not in self.losses[way]:
            runs = [train(self.work, seed, self.optimizer, 2.0**power, way) for seed in range(self.seeds)]
            self.losses[way][power] = [run["loss"] for run in runs]
            self.shares += [run["share"] for run in runs if way == "control" and math.isfinite(run["loss"])]
        return self.losses[way][power]

    def quotients(self, way: str, offset: int) -> list[float]:
        """Of the loss to that of the tuned constant step with the same seed."""
        pairs = zip(self.at(way, self.tuned + offset), self.at("plain", self.tuned), strict=True)
        return [a / b if math.isfinite(b) else float(math.isinf(a)) for a, b in pairs]  # both diverged: as well

    def well(self, way: str, offset: int) -> bool:
        return median(self.quotients(way, offset)) <= WELL

    def stretch(self, way: str) -> list[int]:
        """The offsets in GRID that end well, without a gap, from the one nearest to the tuned step on."""
        middle = GRID.index(0)
        near = (i for i in (middle, middle + 1, middle - 1, middle + 2, middle - 2) if self.well(way, GRID[i]))
        start = next(near, None)
        if start is None:
            return []
        low = high = start
        while low > 0 and self.well(way, GRID[low - 1]):
            low -= 1
        while high < len(GRID) - 1 and self.well(way, GRID[high + 1]):
            high += 1
        return list(GRID[low : high + 1])

    def _tuned(self) -> int:
        """The power of 2 with the lowest median, by walking downhill."""
        best = GUESS[self.optimizer]
        while True:
            near = min((best, best - 1, best + 1), key=lambda power: median(self.at("plain", power)))
            if near == best:
                return best
            best = near


def ranging(work: Workload, optimizer: str, seeds: int, ways: tuple[str, ...] = WAYS) -> dict[str, Any]:
    """Per way: the range that ends well, its width over all seeds and seed by seed."""
    search = Search(work, optimizer, seeds, ways)
    found: dict[str, Any] = {"tuned_step": 2.0**search.tuned, "tuned_loss": median(search.at("plain", search.tuned))}
    for way in ways:
        stretch = search.stretch(way)
        found[way] = {
            "from": 2.0 ** stretch[0] if stretch else None,  # times the tuned step
            "to": 2.0 ** stretch[-1] if stretch else None,
            "width": 2.0 ** (stretch[-1] - stretch[0]) if stretch else 0.0,
            "end_of_grid": bool(stretch) and stretch[-1] == GRID[-1],
            "widths": intervals.median([_width(search, way, seed) for seed in range(seeds)]),
            "quotients": {o: intervals.median(search.quotients(way, o)) for o in sorted(_seen(search, way))},
        }
    found["measuring"] = median(search.shares) if search.shares else None
    plain = found["plain"]["width"]
    found["wider"] = {way: found[way]["width"] / plain for way in ways}
    return found


def _seen(search: Search, way: str) -> set[int]:
    return {power - search.tuned for power in search.losses[way]}


def _width(search: Search, way: str, seed: int) -> float:
    """One seed's own widest stretch, of the step sizes that were tried."""
    best, begun = 0.0, None
    for offset in sorted(_seen(search, way)):
        if search.quotients(way, offset)[seed] <= WELL:
            begun = offset if begun is None else begun
            best = max(best, 2.0 ** (offset - begun))
        else:
            begun = None
    return best


def run(seeds: int, shrink: int = 1, only: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Both questions for all workloads; `shrink` divides the steps, for a test."""
    divergence, ranges, falling = {}, {}, {}
    for name, (work, short, optimizers) in workloads(shrink).items():
        if only is not None and name not in only:
            continue
        if short:
            divergence[name] = diverging(work, short, seeds)
        ranges[name] = {optimizer: ranging(work, optimizer, seeds) for optimizer in optimizers}
        fall = replace(work, decay=True)
        falling[name] = {optimizer: ranging(fall, optimizer, seeds, FALLING) for optimizer in optimizers}
    found = {"divergence": divergence, "range": ranges, "range_falling": falling}
    return {**found, "overall": _overall(divergence, seeds)}


def _overall(divergence: dict[str, Any], seeds: int) -> dict[str, Any]:
    """The share of cells (task, optimizer, multiple) in which most runs diverge: runs of a cell are not independent."""
    cells = [(name, cell) for task in divergence.values() for one in task.values() for name, cell in one.items()]
    found = {}
    for way in WAYS:
        mine = [cell["diverged"]["hits"] for name, cell in cells if name.endswith(f"× {way}")]
        most = sum(2 * hits > seeds for hits in mine)
        found[way] = {**intervals.share(most, len(mine)), "runs": sum(mine)} if mine else None
    return found


def tell(result: dict[str, Any]) -> list[str]:
    """Three tables: runs that diverge, and ranges of step sizes that stay and that fall."""
    lines = [f"{'runs that diverge':38}" + "".join(f"{way:>12}" for way in WAYS)]
    for name, task in result["divergence"].items():
        for optimizer, cells in task.items():
            for past in PAST:
                hits = [cells[f"{past}× {way}"]["diverged"] for way in WAYS]
                share = "".join(f"{h['hits']:>9}/{h['of']}" for h in hits)
                lines.append(f"{name:14}{optimizer:12}{past:>4}× the edge " + share)
    spans = [result["overall"][way] for way in WAYS if result["overall"][way]]
    told = [f"{s['hits']} of {s['of']} [{s['low']:.0%}, {s['high']:.0%}], {s['runs']} runs" for s in spans]
    lines.append("rows in which most diverge: " + "; ".join(told))
    lines += _ranges("range within 5 % of the tuned loss", result["range"], WAYS)
    return lines + _ranges("the same, step sizes falling to 0", result["range_falling"], FALLING)


def _ranges(title: str, ranges: dict[str, Any], ways: tuple[str, ...]) -> list[str]:
    lines = [f"{title:46}" + "".join(f"{way:>16}" for way in ways) + "  measuring"]
    for name, task in ranges.items():
        for optimizer, found in task.items():
            head = f"{name:24}{optimizer:11}{found['tuned_step']:<11.3g}"
            measuring = f"{found['measuring']:11.0%}" if found["measuring"] is not None else ""
            lines.append(head + "".join(f"{_range(found[way]):>16}" for way in ways) + measuring)
    return lines


def _range(found: dict[str, Any]) -> str:
    if not found["width"]:
        return "none"
    return f"{found['from']:.3g}–{found['to']:.4g}" + ("+" if found["end_of_grid"] else "")


def draw(
    result: dict[str, Any], axes: Any, name: str = "digits, smoothed labels", optimizer: str = "heavy_ball"
) -> None:
    """The loss over the tuned one by step size over the tuned one, a line a way."""
    for way in WAYS:
        points = result["range"][name][optimizer][way]["quotients"]
        steps, values = [2.0 ** int(o) for o in points], [float(v["value"]) for v in points.values()]
        values = [min(value, 1e3) for value in values]  # what blew up leaves the picture
        axes.plot(steps, values, marker=".", label=way)
    axes.axhline(WELL, color="C7", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set(yscale="log", ylim=(0.9, 10), xlabel="step size / tuned", ylabel="loss / tuned loss")
    axes.set_title(f"{name}, {optimizer.replace('_', ' ')}", fontsize="medium")
    axes.legend(fontsize="small")

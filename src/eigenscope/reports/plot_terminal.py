"""A curve in a few lines of text: two by four dots a character (Unicode's Braille patterns)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.text import Text

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a Braille cell, by column and row


def plotted(
    xs: Sequence[float],
    ys: Sequence[float],
    width: int,
    height: int,
    across: Callable[[float], str],
    up: Callable[[float], str],
) -> list[Text]:
    """Straight lines between the points, each point marked, with the ends of both axes written.

    `xs` ascend. The lines of text are at most `width` columns wide; `height` of them hold the curve, one the axis.
    """
    low, high = min(ys), max(ys)
    names = [up(high), up(low)]
    margin = max(map(len, names))
    columns = max(width - margin - 2, 8)
    cells = _curve([_placed(x, xs[0], xs[-1], 2 * columns - 1) for x in xs],
                   [_placed(y, high, low, 4 * height - 1) for y in ys], columns, height)  # fmt: skip
    lines = []
    for row, cell in enumerate(cells):
        name = names[0] if row == 0 else names[1] if row == height - 1 else ""
        lines.append(Text.assemble((f"{name:>{margin}} ┤" if name else f"{'':{margin}} │", "dim"), (cell, "cyan")))
    first, last = across(xs[0]), across(xs[-1])
    lines.append(Text(f"{'':{margin + 2}}{first}{last:>{columns - len(first)}}", "dim"))
    return lines


def _placed(value: float, first: float, last: float, places: int) -> int:
    return round((value - first) / (last - first) * places) if last != first else places // 2


def _curve(xs: Sequence[int], ys: Sequence[int], columns: int, rows: int) -> list[str]:
    cells = [[0] * columns for _ in range(rows)]
    for i in range(len(xs) - 1):
        steps = max(abs(xs[i + 1] - xs[i]), abs(ys[i + 1] - ys[i]), 1)
        for step in range(steps + 1):
            x = xs[i] + round((xs[i + 1] - xs[i]) * step / steps)
            y = ys[i] + round((ys[i + 1] - ys[i]) * step / steps)
            cells[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
    drawn = [[chr(0x2800 + cell) if cell else " " for cell in row] for row in cells]
    for x, y in zip(xs, ys, strict=True):
        drawn[y // 4][x // 2] = "●"
    return ["".join(row) for row in drawn]

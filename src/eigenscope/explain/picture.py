"""The unit circle and what a 2 × 2 matrix makes of it, as an SVG that takes its colours from the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from eigenscope.explain.steps import Picture
from eigenscope.explain.text import plain

_SIDE = 260  # of one of the two squares, in units of the drawing
_GAP = 60
_REACH = 0.74  # of half a square: how far the longest arrow goes, which leaves room for its name
_SAMPLES = 120
_ARROW = 9.0


def svg(picture: Picture) -> str:
    """Both side by side, at scales of their own; a small ellipse stays as visible as a large one."""
    longest = max(math.hypot(*vector) for vector in picture.outputs)
    circle = [(math.cos(t), math.sin(t)) for t in (2 * math.pi * i / _SAMPLES for i in range(_SAMPLES))]
    (a, b), (c, d) = picture.matrix
    ellipse = [(a * x + b * y, c * x + d * y) for x, y in circle]
    inputs = _square(circle, picture.inputs, 1.0, ("v₁", "v₂"), "input: length 1")
    outputs = _square(ellipse, picture.outputs, longest, ("σ₁u₁", "σ₂u₂"), f"output: up to {longest:.4g}")
    width = 2 * _SIDE + _GAP
    middle = _SIDE + _GAP / 2
    return (
        f'<svg viewBox="0 0 {width} {_SIDE + 24}" role="img" aria-label="{escape(plain(picture.words), quote=True)}">'
        f"{inputs}"
        f'<g class="to"><path d="M{middle - 18} {_SIDE / 2}h34m-7 -5l7 5l-7 5"/>'
        f'<text x="{middle}" y="{_SIDE / 2 - 9}">A</text></g>'
        f'<g transform="translate({_SIDE + _GAP} 0)">{outputs}</g></svg>'
    )


def _square(
    curve: Sequence[tuple[float, float]],
    vectors: Sequence[Sequence[float]],
    reach: float,
    names: Sequence[str],
    caption: str,
) -> str:
    scale, centre = _REACH * _SIDE / 2 / reach, _SIDE / 2

    def place(point: Sequence[float]) -> tuple[float, float]:
        return centre + scale * point[0], centre - scale * point[1]

    outline = "L".join(f"{x:.1f} {y:.1f}" for x, y in map(place, curve))
    arrows = "".join(_arrow(place(vector), centre, name, f"axis-{i}") for i, (vector, name) in
                     enumerate(zip(vectors, names, strict=True), 1))  # fmt: skip
    return (
        f'<path class="axes" d="M0 {centre}H{_SIDE}M{centre} 0V{_SIDE}"/><path class="curve" d="M{outline}Z"/>{arrows}'
        f'<text class="caption" x="{centre}" y="{_SIDE + 17}">{escape(caption)}</text>'
    )


def _arrow(tip: tuple[float, float], centre: float, name: str, style: str) -> str:
    x, y = tip[0] - centre, tip[1] - centre
    length = math.hypot(x, y)
    if length < 1:  # sent to 0
        return f'<g class="{style}"><circle cx="{centre}" cy="{centre}" r="3.5"/></g>'
    dx, dy = x / length, y / length
    head = min(_ARROW, length)
    left, right = ((tip[0] - head * (dx - k * dy), tip[1] - head * (dy + k * dx)) for k in (0.4, -0.4))
    away = 17 + 5 * (len(name) > 2) * abs(dx)
    end, *others = (f"{point[0]:.1f} {point[1]:.1f}" for point in (tip, left, right))
    return (
        f'<g class="{style}"><path d="M{centre} {centre}L{end}"/><path class="head" d="M{end}L{"L".join(others)}Z"/>'
        f'<text x="{tip[0] + away * dx:.1f}" y="{tip[1] + away * dy + 5:.1f}">{name}</text></g>'
    )

"""The rules that judge a reading of the curvature: what each watches, and its words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from eigenscope.diagnostics.condition import negative_definite
from eigenscope.diagnostics.reading import CurvatureReading
from eigenscope.words import counted


@dataclass(frozen=True)
class Rule:
    """A number of the reading to watch, and the words for it. `read` gives None where the number could not be told."""

    name: str
    panel: str
    metric: str
    read: Callable[[CurvatureReading], float | None]
    message: Callable[[CurvatureReading], str]
    action: str
    reason: Callable[[CurvatureReading], str]
    checks_to_clear: int = 1
    applies: Callable[[CurvatureReading], bool] = lambda _: True  # to the optimizer of this reading


def figure(value: float | None) -> str:
    """Two digits, and thousands written out: κ = 21,000."""
    if value is None or not math.isfinite(value) or value >= 1e9:
        return f"{value:.1e}" if value is not None else "unknown"
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def edge_rule(reading: CurvatureReading) -> str:
    """The rule that judges the stability ratio of this reading's optimizer."""
    return "adaptive_edge" if reading.adaptive else "edge_of_stability"


def _edge_reason(reading: CurvatureReading) -> str:
    ratio = reading.stability_ratio.value or 1.0
    if ratio < 1 and reading.adaptive:
        return (
            "in minibatches the loss can spike before the full loss is at its edge; a smaller step size, or a slower "
            "warm-up, keeps clear of it"
        )
    if ratio < 1:  # the hysteresis holds the alert
        return "the step is back inside the edge, but so close to it that a little more curvature puts it past again"
    return (
        f"a step along the sharpest direction overshoots and grows; a step size {ratio:.2g}× smaller "
        f"is stable for {reading.optimizer}, as is warming it up"
    )


def _kappa_reason(reading: CurvatureReading) -> str:
    return (
        "gradient descent zig-zags across the canyon and needs about "
        f"{figure(reading.iterations_to_halve.value)} steps to halve the distance; Adam, or inputs scaled to unit "
        "variance, see a rounder landscape"
    )


def _saddle_message(reading: CurvatureReading) -> str:
    count, gradient = reading.negative_count_certified, f"gradient norm {reading.gradient_norm:.1g}"
    if negative_definite(reading.lambda_max, reading.noise_floor):
        return f"at a maximum: all eigenvalues are negative, {gradient}"
    return f"at a saddle: {counted(count, 'certified negative eigenvalue')}, {gradient}"


def _escape_reason(reading: CurvatureReading) -> str:
    plan = reading.escape
    if plan is None:
        return "the gradient vanishes, but the loss curves down: only a push off the ridge goes on"
    return (
        f"the gradient vanishes, but a step of {plan.step:.2g} along the direction of negative curvature lowers the "
        f"loss by {plan.measured:.2g} (measured)"
    )


def _edge(name: str) -> Rule:
    """The two rules of the edge differ in their thresholds: each judges its own optimizers."""
    return Rule(
        name,
        "sharpness",
        "stability_ratio",
        lambda r: r.stability_ratio.value,
        lambda r: f"{r.stability_ratio.value:.2g}× the stability threshold of {r.optimizer}",
        "LOWER THE STEP SIZE",
        _edge_reason,
        applies=lambda r: edge_rule(r) == name,
    )


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        _edge("edge_of_stability"),
        _edge("adaptive_edge"),
        Rule(
            "ill_conditioned",
            "condition",
            "condition_number",
            lambda r: r.condition_number.value,
            lambda r: f"the landscape is a canyon: κ = {figure(r.condition_number.value)}",
            "PRECONDITION",
            _kappa_reason,
        ),
        Rule(
            "stretched",
            "condition",
            "condition_mean",
            lambda r: r.condition_mean.value if r.condition_status != "definite" else None,  # where κ is not defined
            lambda r: f"the steepest direction is {figure(r.condition_mean.value)} times the average one",
            "PRECONDITION",
            lambda r: (
                "one step size can't serve directions so unlike: Adam, normalization layers, or inputs scaled to "
                "unit variance even them out"
            ),
            applies=lambda r: not r.adaptive,  # which does already what would be advised
        ),
        Rule(
            "saddle",
            "saddle",
            "verdict",
            lambda r: float(r.verdict == "saddle"),
            _saddle_message,
            "PAUSE & PERTURB",
            _escape_reason,
            checks_to_clear=2,
        ),
    )
}

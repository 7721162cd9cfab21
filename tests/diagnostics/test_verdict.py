"""Where the parameters stand: from a gradient and two ends of a spectrum."""

import re
from dataclasses import replace

import pytest
import torch

from eigenscope.diagnostics.extremes import extremes
from eigenscope.diagnostics.verdict import Verdict, verdict
from eigenscope.estimators import lanczos
from eigenscope.operators import DenseOperator


def judge(
    *eigenvalues: float,
    gradient: float = 0.0,
    bend: float | None = None,
    loss: float = 1.0,
    flat: float | None = 0.0,
    error: float = 0.0,
) -> Verdict:
    """The verdict on a diagonal matrix, whose lower end is known to `error`; the gradient is along the upper one."""
    operator = DenseOperator(torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)))
    generator = operator.space.generator(0)
    run = lanczos(operator, operator.space.random(generator), steps=len(eigenvalues), generator=generator)
    ends = extremes(run)
    ends = replace(ends, lambda_min=replace(ends.lambda_min, error=error))
    bend = max(eigenvalues) if bend is None else bend
    return verdict(loss=loss, gradient_norm=gradient, gradient_curvature=bend, ends=ends, flat_share=flat)


@pytest.mark.parametrize(
    ("name", "found", "reason"),
    [
        ("minimum", judge(1, 2, 10), "no direction curves downward"),
        ("minimum", judge(1e-9, 2, 10), "no direction curves downward"),
        ("saddle", judge(-1, 2, 10), "falls along 1 certified direction$"),
        ("saddle", judge(-1, -2, 10), "falls along 2 certified directions$"),
        ("saddle", judge(-3, -2, -1), "the Hessian is negative definite: a maximum$"),
        ("saddle", judge(-3, -2, -1e-9), "falls along 2 certified directions$"),
        ("plateau", judge(0, 0, 10, flat=0.6), "60% of the directions are flat"),
        ("minimum", judge(0, 0, 10, flat=0.4), "no direction"),
        ("minimum", judge(0, 0, 10, flat=None), "no direction"),
        ("minimum", judge(0, 0, 0, flat=0.0), "no direction"),
        ("unresolved", judge(0.1, 5, 10, error=2.0), "could be negative: allow more products"),
        ("not_converged", judge(1, 2, 10, gradient=1.0), r"promises 5\.00% of the loss in one step$"),
        (
            "not_converged",
            judge(-1, 2, 10, gradient=1.0),
            "and 1 certified direction of negative .* leads down$",
        ),
        ("not_converged", judge(1, 2, 10, gradient=1.0, loss=0.0), "a decrease as large as the loss itself"),
        ("not_converged", judge(0, 0, 0, gradient=1e-9), "a gradient but no curvature"),
        ("minimum", judge(1, 2, 10, gradient=0.1), "no direction"),
        ("not_converged", judge(0.01, 2, 10, gradient=0.1, bend=0.01), "promises 50.00% of the loss"),
        ("not_converged", judge(-1, 2, 10, gradient=0.1, bend=0.0), "promises 50.00% of the loss"),
    ],
)
def test_the_verdict_and_its_reason(name: str, found: Verdict, reason: str) -> None:
    """A gradient g promises g²/(2ρ), ρ the curvature along it: 5 % of a loss of 1 for g = 1, ρ = 10; 0.05 % for
    g = 0.1, under 0.1 %; and 50 % where ρ is only 0.01, or the floor of 10⁻³·λmax.
    """
    assert found.name == name
    assert re.search(reason, found.reason)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("spectrum", [(1.0, 2.0, 10.0), (-1.0, 2.0, 10.0)])
@pytest.mark.parametrize("gradient", [0.01, 1.0])
def test_the_verdict_does_not_depend_on_the_unit_of_the_loss(
    scale: float, spectrum: tuple[float, ...], gradient: float
) -> None:
    scaled = judge(*(scale * value for value in spectrum), gradient=scale * gradient, loss=scale)
    assert scaled.name == judge(*spectrum, gradient=gradient).name

"""The leading eigenvalue of a matrix that changes while training goes on, by a few products each time."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.estimators import RitzPairs, lanczos
from eigenscope.operators import Operator

_KEPT = 4  # the leader and its runners-up, one of which may take the lead
_RUNNER_UP, _GRADIENT, _RANDOM = 0.5, 0.5, 0.2  # weights in the start vector, beside the leader's 1
_CALM, _RESTLESS = 3, 5  # products before it may be content: fewer see nothing but the last leader
_ROUGH = 0.05  # a tolerance from which on the fewer do
_MOST = 30


class Tracker:
    """λmax followed from one measurement to the next.

    A run that starts from the last leader alone is content after 2 products and never sees another eigenvalue
    overtake it. So the start is a mix of the last leaders, the gradient and a random vector, and runners-up that a
    short run can't tell apart are kept from before.
    """

    def __init__(self, tolerance: float = 0.01, seed: int = 0) -> None:
        self.tolerance, self.seed = tolerance, seed
        self.vectors: Float[Tensor, "k n"] | None = None
        self.num_matvecs = self.num_measurements = 0

    def measure(
        self, operator: Operator, gradient: Float[Tensor, " n"], calm: bool = False, memory_limit: float = float("inf")
    ) -> float:
        """λmax, expected to be right to `tolerance`; the gradient mostly lies along the leaders of now.

        `calm` where nothing has moved much of late: two products fewer, as where a rough value will do.
        """
        space = operator.space
        generator = space.generator(self.seed + self.num_measurements)
        before = self.vectors if self.vectors is not None and self.vectors.shape[1] == space.size else None
        start = space.random(generator)
        if before is not None:
            weights = torch.full((len(before),), _RUNNER_UP, dtype=start.dtype, device=start.device)
            weights[0] = 1.0
            weights *= torch.randn(len(before), generator=generator, device=start.device).sign()
            start = (
                weights @ before.to(start) + _RANDOM * start + _GRADIENT * gradient / max(space.norm(gradient), 1e-30)
            )

        def stop(pairs: RitzPairs) -> bool:
            return bool(pairs.expected_errors()[-1] <= self.tolerance * abs(pairs.values[-1]))

        first = _CALM if calm or self.tolerance >= _ROUGH else _RESTLESS
        krylov = lanczos(
            operator, start, steps=_MOST, generator=generator, stop=stop, first_test=first,
            memory_limit=memory_limit,
        )  # fmt: skip
        pairs = krylov.ritz()
        found = krylov.vectors(pairs.coefficients[:, ::-1][:, :_KEPT])
        vectors = _joined(found, before).float()
        self.vectors = vectors.to(_home(vectors.nbytes, space.device, memory_limit))
        self.num_matvecs += krylov.num_matvecs
        self.num_measurements += 1
        return float(pairs.values[-1] + min(pairs.residuals[-1], self.tolerance * abs(pairs.values[-1])))


def _home(nbytes: int, device: torch.device, memory_limit: float) -> torch.device:
    """Where vectors wait for the next measurement: on their device, unless that is short of memory.

    A copy to the CPU and back would cost as much as products do. What a measurement may take is a share of what is free
    beside all that training has ever reserved, so that a quarter of it is not training's; where even that is too little
    they leave the device to training.
    """
    return device if nbytes <= memory_limit / 4 else torch.device("cpu")


def _joined(found: Float[Tensor, "j n"], before: Float[Tensor, "k n"] | None) -> Float[Tensor, "m n"]:
    """The vectors found, filled up with what the earlier ones add to them."""
    if before is None or len(found) >= _KEPT:
        return found
    basis = [*found]
    for vector in before.to(found):
        rest = vector - torch.stack(basis).T @ (torch.stack(basis) @ vector)
        norm = torch.linalg.vector_norm(rest)
        if len(basis) < _KEPT and norm > 0.3:
            basis.append(rest / norm)
    return torch.stack(basis)

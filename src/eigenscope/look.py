"""One look at the loss landscape: the three numbers, the density, the trace, and what they mean.

One Krylov run serves them all. A cold run starts from a random vector and also yields the spectrum (trace, density,
counts); a warm run starts from the vectors that the last run found, and is a fraction of the price.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eigenscope.diagnostics.condition import condition_mean
from eigenscope.diagnostics.density import count_estimate, spectrum_of
from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.extremes import Extremes, extremes
from eigenscope.diagnostics.reading import CurvatureReading, Escape
from eigenscope.diagnostics.stability import Edge, is_adaptive, plain_ratio, sharpness_score, stability_edge
from eigenscope.diagnostics.verdict import Verdict, verdict
from eigenscope.escape import escape_along
from eigenscope.estimators import Krylov, RitzPairs, deflated_trace, lanczos
from eigenscope.leading import leading
from eigenscope.operators import Probe, ScaledOperator
from eigenscope.operators.checks import self_check
from eigenscope.operators.isolation import differentiable
from eigenscope.operators.loss_operator import LossOperator
from eigenscope.operators.probe import BatchWeight, LossFunction
from eigenscope.settings import MATRICES, Memory, Settings

# A warm start's mix (benchmarks/warm.py): the lower end lies close and converges slowly, so its vectors weigh most;
# then the top few that are wanted. The random part is what an eigenvalue that has risen elsewhere is found by.
_LOWER_WEIGHTS, _TOP_WEIGHT = (100.0, 30.0, 10.0, 5.0, 2.0), 10.0
Progress = Callable[[int, int], None]  # products done, products at most


def curvature(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Any,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    batch_weight: BatchWeight | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> CurvatureReading:
    """Measure the curvature of the mean loss over `batches` at the parameters as they stand.

    Parameters
    ----------
    model, loss_fn, batches
        `loss_fn(model, batch)` returns the mean loss of one batch, a scalar tensor; `batches` is one batch or a fixed
        list of them. The model is left as it was to the bit: parameters, `.grad`, buffers, modes, random streams.
    optimizer
        Compares the curvature with this optimizer's stability threshold (`stability_ratio`).
    batch_weight
        The weight of a batch in the mean, by default its number of samples.
    progress
        Called with (products done, products at most).
    **settings
        Fields of `Settings`: ``matrix="hessian" | "gauss_newton"``, ``max_matvecs=60``, ``tolerance=1e-3``,
        ``top=10``, ``seed=0``, ``method="auto"``, ``memory_limit=bytes``, ``train_mode=False``, ...

    Returns
    -------
    CurvatureReading
        Every number with its error and the bill. `converged` says whether `tolerance` was reached.

    Raises
    ------
    InputError
        What was passed in can't be measured; one line says why.
    MeasurementError
        The products contradict themselves or are not finite.
    """
    probe = Probe(model, loss_fn, batches, batch_weight=batch_weight, train_mode=bool(settings.get("train_mode")))
    return look(probe, Settings.of(settings), Memory(), optimizer=optimizer, progress=progress)


def look(
    probe: Probe,
    settings: Settings,
    memory: Memory,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    step: int = 0,
    cold: bool = True,
    progress: Progress | None = None,
) -> CurvatureReading:
    """One measurement; `memory` carries what the last one found, and is brought up to date."""
    start = time.perf_counter()
    with differentiable([probe.parameters.device]):  # also so that nothing kept is a tensor of inference mode
        operator = MATRICES[settings.matrix](probe, method=settings.method, memory_limit=settings.memory_limit)
        if not memory.fits(operator.space):
            memory.__init__()  # type: ignore[misc]
        cold = cold or memory.vectors is None
        try:
            return _Look(operator, settings, memory, step, cold, progress).run(optimizer, start)
        finally:
            operator.close()


class _Look:
    """The order of one measurement: Krylov run, check of the products, spectrum, edge, verdict."""

    def __init__(
        self,
        operator: LossOperator,
        settings: Settings,
        memory: Memory,
        step: int,
        cold: bool,
        progress: Progress | None,
    ) -> None:
        self.operator, self.settings, self.memory, self.step, self.cold = operator, settings, memory, step, cold
        self.budget = settings.max_matvecs if cold else settings.warm_matvecs
        self.tolerance = settings.tolerance if cold else settings.warm_tolerance
        self.generator = operator.space.generator(settings.seed + 7919 * memory.looks)
        self.notes = list(operator.notes)
        if progress:
            operator.on_product = lambda done: progress(done, max(done, self.budget))

    def run(self, optimizer: torch.optim.Optimizer | None, start: float) -> CurvatureReading:
        self.adaptive = is_adaptive(optimizer)
        krylov = self._krylov()
        pairs = krylov.ritz()
        converged = krylov.complete or self._converged(pairs)
        if not converged:
            self.notes.append(f"not converged to {self.tolerance:g} in {krylov.num_matvecs} steps: see the errors")
        vectors = krylov.vectors(pairs.coefficients[:, [0, -1]])
        ends = extremes(krylov, self._sampling(krylov, pairs, vectors), self.settings.top)
        if self.cold:
            self._spectrum(krylov)
            self.memory.ends = ends
        self._remember(krylov, pairs)
        del krylov  # its basis may be the largest thing there is
        ratio, edge = self._stability(optimizer, ends)
        return self._reading(ends, vectors[0], ratio, edge, converged, start)

    # -- the Krylov run -------------------------------------------------------------------------------------------

    def _krylov(self) -> Krylov:
        # One product along the gradient; in a cold look two for sampling errors, and the others for the trace.
        reserve = 3 + max(self.budget // 5, 2) if self.cold else 1
        size = self.operator.space.size
        steps = min(self.budget - reserve, size)
        room = int(min(self.operator.memory_limit / 2 / (4 * size), steps))
        if room < steps:
            room = max(room, self.settings.top + 6)
            self.notes.append(f"the memory limit holds {room} Krylov vectors of {steps}: restarted, at more products")
        return lanczos(
            self.operator,
            self._start(),
            steps=steps,
            generator=self.generator,
            stop=self._settled,
            first_test=min(self.settings.top + 4, steps),
            max_basis=room,
            memory_limit=self.operator.memory_limit / 2,
        )

    def _start(self) -> Tensor:
        """A random vector; warm, with the last Ritz vectors mixed in."""
        random = self.operator.space.random(self.generator)
        vectors = self.memory.vectors
        if self.cold or vectors is None:
            return random
        weights = torch.ones(len(vectors), dtype=random.dtype, device=random.device)
        weights[-self.settings.top :] = _TOP_WEIGHT
        weights[: self.memory.negative] = weights.new_tensor(_LOWER_WEIGHTS[: self.memory.negative])
        signs = torch.randn(len(vectors), generator=self.generator, device=random.device).sign()
        return (weights * signs) @ vectors.to(random) + random

    def _settled(self, pairs: RitzPairs) -> bool:
        """Converged ten times over: a few more products in which an eigenvalue that the start barely touches turns up.

        Over 100 seeds on the test zoo, of the cold runs that have just converged up to 11 % miss one of the top ten; of
        the warm ones along a training in minibatches 10 to 15 %.
        """
        return self._converged(pairs, 0.1)

    def _converged(self, pairs: RitzPairs, margin: float = 1.0) -> bool:
        """Both ends and the top few hold to the tolerance (what lies below the noise floor, to a tenth of it).

        A lowest value that seems positive goes on until its residual is a tenth of it: only then κ can be told.
        """
        values, residuals = pairs.values, pairs.residuals
        wanted = np.r_[0, np.arange(max(0, len(values) - self.settings.top), len(values))]
        floor = 0.1 * self.settings.tolerance * pairs.spectral_radius
        allowed = margin * np.maximum(self.tolerance * np.abs(values), floor)
        allowed[0] *= min(0.1 / margin, 1.0)
        if values[0] > 0 and residuals[0] > 0.1 * values[0]:
            return False
        return bool((pairs.expected_errors()[wanted] <= allowed[wanted]).all())

    def _remember(self, krylov: Krylov, pairs: RitzPairs) -> None:
        count = len(pairs.values)
        lower, upper = min(len(_LOWER_WEIGHTS), count // 3), min(self.settings.top + 3, count - count // 3)
        chosen = np.r_[np.arange(lower), np.arange(count - upper, count)]
        self.memory.vectors = krylov.vectors(pairs.coefficients[:, chosen]).float().cpu()  # the device is training's
        self.memory.negative = lower
        self.memory.looks += 1

    # -- what else is measured ------------------------------------------------------------------------------------

    def _sampling(self, krylov: Krylov, pairs: RitzPairs, vectors: Tensor) -> tuple[float | None, float | None]:
        """Products with the two extreme Ritz vectors: their spread over batches; once, a check of the operator."""
        if not self.cold:
            return None, None
        errors = []
        for vector in vectors:
            product, error = self.operator.spread(vector)
            errors.append(error)
        if self.memory.checked is None:
            self.memory.checked = self_check(self.operator, vectors[-1], product, krylov.noise, pairs.spectral_radius)
        return errors[0], errors[1]

    def _spectrum(self, krylov: Krylov) -> None:
        trace = deflated_trace(
            self.operator,
            krylov,
            generator=self.generator,
            tolerance=self.settings.trace_tolerance,
            max_probes=max(self.budget - self.operator.num_matvecs - 1, 2),
        )
        self.memory.spectrum = spectrum_of(krylov, trace, self.step)

    def _stability(self, optimizer: torch.optim.Optimizer | None, ends: Extremes) -> tuple[Estimate, Edge]:
        edge = stability_edge(optimizer, self.operator.probe.parameters.tensors)
        plain = plain_ratio(edge, ends.lambda_max, ends.spectral_radius.value or 0.0)
        if plain is not None:
            return plain, edge
        assert edge.scales is not None
        scaled = ScaledOperator(self.operator, edge.scales.to(self.operator.space.dtype).sqrt())
        start = None if self.cold else self.memory.scaled_vectors
        found = leading(scaled, start, self.generator, memory_limit=self.operator.memory_limit / 2)
        self.memory.scaled_vectors = found.vectors
        return found.lambda_max, edge

    # -- the numbers ----------------------------------------------------------------------------------------------

    def _verdict(self, ends: Extremes, gradient_norm: float) -> Verdict:
        spectrum, then = self.memory.spectrum, self.memory.ends or ends
        return verdict(
            loss=self.operator.loss,
            gradient_norm=gradient_norm,
            gradient_curvature=self._gradient_curvature(gradient_norm),
            ends=ends,
            flat_share=spectrum.flat_share(then.noise_floor) if spectrum else None,
            gradient_tolerance=self.settings.gradient_tolerance,
        )

    def _gradient_curvature(self, gradient_norm: float) -> float:
        """gᵀAg/‖g‖²: how the loss curves along its gradient. Costs one product."""
        if gradient_norm == 0.0:
            return 0.0
        direction = self.operator.gradient / gradient_norm
        return self.operator.space.dot(direction, self.operator @ direction)

    def _escape(self, lowest: Tensor, ends: Extremes) -> Escape | None:
        possible = self.operator.probe.aliased and self.settings.matrix == "hessian"
        if not possible or not ends.negative_count_certified:
            return None
        return escape_along(self.operator, lowest, float(ends.lambda_min.value or 0.0))

    def _reading(
        self, ends: Extremes, lowest: Tensor, ratio: Estimate, edge: Edge, converged: bool, start: float
    ) -> CurvatureReading:
        operator, spectrum, then = self.operator, self.memory.spectrum, self.memory.ends or ends
        gradient_norm = operator.space.norm(operator.gradient)
        judged = self._verdict(ends, gradient_norm)
        escape = self._escape(lowest, ends)
        seconds = time.perf_counter() - start
        return CurvatureReading(
            **vars(ends),
            loss=operator.loss,
            gradient_norm=gradient_norm,
            verdict=judged.name,
            verdict_reason=judged.reason,
            escape=escape,
            condition_mean=condition_mean(then.lambda_max, spectrum.mean_absolute if spectrum else Estimate(None)),
            negative_count_estimate=count_estimate(
                spectrum, then.noise_floor, then.condition_status == "definite", then.negative_count_certified
            ),
            trace=spectrum.trace if spectrum else Estimate(None, reason="measured in cold checks"),
            density=spectrum.density if spectrum else None,
            stability_ratio=ratio,
            sharpness_score=sharpness_score(ratio),
            optimizer=edge.optimizer,
            adaptive=self.adaptive,
            num_matvecs=operator.num_matvecs,
            cost_in_gradients=seconds / operator.gradient_seconds,
            seconds=seconds,
            probe_samples=operator.probe.samples,
            num_parameters=operator.space.size,
            method=operator.method,
            matrix=self.settings.matrix,
            step=self.step,
            kind="cold" if self.cold else "warm",
            spectrum_step=spectrum.step if spectrum else None,
            converged=converged,
            self_check=self.memory.checked,
            notes=tuple(self.notes),
        )

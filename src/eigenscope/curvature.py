"""One look at the loss landscape: the three numbers, the density, the trace, and what they mean.

One Krylov run serves them all. A cold run starts from a random vector and also yields the spectrum (trace, density,
counts); a warm run starts from the vectors that the last run found, and is a fraction of the price.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from eigenscope.diagnostics.condition import condition_mean
from eigenscope.diagnostics.density import Spectrum, count_estimate, spectrum_of
from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.extremes import Extremes, extremes
from eigenscope.diagnostics.reading import CurvatureReading, Escape
from eigenscope.diagnostics.stability import Edge, sharpness_score, stability_edge
from eigenscope.diagnostics.verdict import Verdict, verdict
from eigenscope.errors import InputError
from eigenscope.escape import escape_along
from eigenscope.estimators import Krylov, RitzPairs, deflated_trace, lanczos
from eigenscope.operators import GaussNewtonOperator, HessianOperator, Probe, ScaledOperator
from eigenscope.operators.checks import SelfCheck, self_check
from eigenscope.operators.loss_operator import LossOperator
from eigenscope.operators.probe import BatchWeight, LossFunction
from eigenscope.sharpness import leading

MATRICES: dict[str, type[LossOperator]] = {"hessian": HessianOperator, "gauss_newton": GaussNewtonOperator}
# A warm start's mix: the lower end lies close and converges slowly, so its vectors weigh more (benchmarks/warm.py).
_LOWER_WEIGHTS = (100.0, 30.0, 10.0, 5.0, 2.0)
_KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a word"}
_LEAST = {
    "top": 1, "max_matvecs": 8, "warm_matvecs": 4, "tolerance": 1e-12, "warm_tolerance": 1e-12,
    "trace_tolerance": 1e-12, "gradient_tolerance": 0,
}  # fmt: skip
Progress = Callable[[int, int], None]  # products done, products at most


@dataclass(frozen=True)
class Settings:
    """How much a look may cost and how exact it has to be. The defaults are `benchmarks/curvature.py`'s goals."""

    matrix: str = "hessian"
    method: str = "auto"
    top: int = 10
    max_matvecs: int = 60
    tolerance: float = 1e-3
    warm_matvecs: int = 25
    warm_tolerance: float = 1e-2
    trace_tolerance: float = 0.025
    gradient_tolerance: float = 1e-3
    memory_limit: float | None = None
    train_mode: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            kind = type(getattr(Settings, name)) if name != "memory_limit" or value is None else float
            if not isinstance(value, Real if kind is float else Integral if kind is int else kind):
                raise InputError(f"{name}={value!r}: {_KINDS[kind]} is needed")
        if self.matrix not in MATRICES:
            raise InputError(f"matrix={self.matrix!r} is not one of {', '.join(MATRICES)}")
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise InputError(f"{name}={getattr(self, name)} is too little: at least {least:g} is needed")
        if self.memory_limit is not None and not self.memory_limit > 0:
            raise InputError(f"memory_limit={self.memory_limit:g}: a number of bytes over 0 is needed")


@dataclass
class Memory:
    """What one look leaves for the next: Ritz vectors to start from, and what need not be measured each time."""

    vectors: Float[Tensor, "k n"] | None = None  # both ends of the spectrum, ascending
    negative: int = 0  # how many of them are from the lower end
    scaled_vectors: Float[Tensor, "k n"] | None = None  # the leading ones of P⁻¹H
    spectrum: Spectrum | None = None
    checked: SelfCheck | None = None
    looks: int = 0


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
    try:
        chosen = Settings(**settings)
    except TypeError as error:
        raise InputError(f"{str(error).split('() ')[-1]}: the settings are {', '.join(vars(Settings()))}") from None
    return look(probe, chosen, Memory(), optimizer=optimizer, progress=progress)


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
    operator = MATRICES[settings.matrix](probe, method=settings.method, memory_limit=settings.memory_limit)
    try:
        return _Look(operator, settings, memory, step, cold or memory.vectors is None, progress).run(optimizer, start)
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
            operator.on_product = lambda done: progress(done, self.budget)

    def run(self, optimizer: torch.optim.Optimizer | None, start: float) -> CurvatureReading:
        krylov = self._krylov()
        pairs = krylov.ritz()
        converged = krylov.complete or self._converged(pairs)
        if not converged:
            self.notes.append(f"not converged to {self.tolerance:g} in {krylov.num_matvecs} steps: see the errors")
        vectors = krylov.vectors(pairs.coefficients[:, [0, -1]])
        ends = extremes(krylov, self._sampling(krylov, pairs, vectors), self.settings.top)
        if self.cold:
            self._spectrum(krylov)
        self._remember(krylov, pairs)
        ratio, edge = self._stability(optimizer, ends.lambda_max)
        return self._reading(ends, vectors[0], ratio, edge, converged, start)

    # -- the Krylov run -------------------------------------------------------------------------------------------

    def _krylov(self) -> Krylov:
        reserve = 2 + max(self.budget // 5, 2) if self.cold else 0  # two products for errors, the others for the trace
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
        """A random vector; warm, mixed into the last Ritz vectors, those of the dense lower end weighing more."""
        random = self.operator.space.random(self.generator)
        vectors = self.memory.vectors
        if self.cold or vectors is None:
            return random
        weights = torch.ones(len(vectors), dtype=random.dtype, device=random.device)
        weights[: self.memory.negative] = weights.new_tensor(_LOWER_WEIGHTS[: self.memory.negative])
        signs = torch.randn(len(vectors), generator=self.generator, device=random.device).sign()
        return (weights * signs) @ vectors.to(random.dtype) + 0.1 * random

    def _settled(self, pairs: RitzPairs) -> bool:
        """Converged ten times over: a few more products in which an eigenvalue that the start barely touches turns up.

        Over 100 seeds on the test zoo, of the cold runs that have just converged up to 11 % miss one of the top ten.
        """
        return self._converged(pairs, 0.1 if self.cold else 1.0)

    def _converged(self, pairs: RitzPairs, margin: float = 1.0) -> bool:
        """Both ends and the top few hold to the tolerance (what lies below the noise floor, to a tenth of it).

        A lowest value that seems positive goes on until its residual is a tenth of it: only then κ can be told.
        """
        values, residuals = pairs.values, pairs.residuals
        wanted = np.r_[0, np.arange(max(0, len(values) - self.settings.top), len(values))]
        allowed = np.maximum(self.tolerance * np.abs(values), 0.1 * self.settings.tolerance * pairs.spectral_radius) * margin
        allowed[0] *= min(0.1 / margin, 1.0)
        if values[0] > 0 and residuals[0] > 0.1 * values[0]:
            return False
        return bool((pairs.expected_errors()[wanted] <= allowed[wanted]).all())

    def _remember(self, krylov: Krylov, pairs: RitzPairs) -> None:
        count = len(pairs.values)
        lower, upper = min(len(_LOWER_WEIGHTS), count // 3), min(self.settings.top + 3, count - count // 3)
        chosen = np.r_[np.arange(lower), np.arange(count - upper, count)]
        self.memory.vectors = krylov.vectors(pairs.coefficients[:, chosen]).float()
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
            self.memory.checked = self_check(
                self.operator, vectors[-1], product, krylov.noise, pairs.spectral_radius
            )
        return errors[0], errors[1]

    def _spectrum(self, krylov: Krylov) -> None:
        trace = deflated_trace(
            self.operator,
            krylov,
            generator=self.generator,
            tolerance=self.settings.trace_tolerance,
            max_probes=max(self.budget - self.operator.num_matvecs, 2),
        )
        self.memory.spectrum = spectrum_of(krylov, trace, self.step)

    def _stability(self, optimizer: torch.optim.Optimizer | None, top: Estimate) -> tuple[Estimate, Edge]:
        edge = stability_edge(optimizer, self.operator.probe.parameters.tensors)
        if edge.scale is not None:
            return Estimate(edge.scale * (top.value or 0.0), error=edge.scale * (top.error or 0.0)), edge
        if edge.scales is None:
            return Estimate(None, reason=edge.reason), edge
        scaled = ScaledOperator(self.operator, edge.scales.to(self.operator.space.dtype).sqrt())
        found = leading(scaled, self.memory.scaled_vectors, self.generator)
        self.memory.scaled_vectors = found.vectors
        return found.lambda_max, edge

    # -- the numbers ----------------------------------------------------------------------------------------------

    def _verdict(self, ends: Extremes, gradient_norm: float) -> Verdict:
        spectrum = self.memory.spectrum
        return verdict(
            loss=self.operator.loss,
            gradient_norm=gradient_norm,
            ends=ends,
            flat_share=spectrum.flat_share(ends.noise_floor) if spectrum else None,
            gradient_tolerance=self.settings.gradient_tolerance,
        )

    def _escape(self, lowest: Tensor, ends: Extremes) -> Escape | None:
        possible = self.operator.probe.aliased and self.settings.matrix == "hessian"
        if not possible or not ends.negative_count_certified:
            return None
        return escape_along(self.operator, lowest, float(ends.lambda_min.value or 0.0))

    def _reading(
        self, ends: Extremes, lowest: Tensor, ratio: Estimate, edge: Edge, converged: bool, start: float
    ) -> CurvatureReading:
        operator, spectrum = self.operator, self.memory.spectrum
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
            condition_mean=condition_mean(ends.lambda_max, spectrum.mean_absolute if spectrum else Estimate(None)),
            negative_count_estimate=count_estimate(spectrum, ends.noise_floor),
            trace=spectrum.trace if spectrum else Estimate(None, reason="measured in cold checks"),
            density=spectrum.density if spectrum else None,
            stability_ratio=ratio,
            sharpness_score=sharpness_score(ratio),
            optimizer=edge.optimizer,
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

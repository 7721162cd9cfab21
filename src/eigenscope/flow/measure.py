"""Measure the signal flow of a network: the Jacobian of every block, and the gradient's norm between them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch.autograd.graph import GradientEdge

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.flow import BlockFlow, Branch, Distribution, FlowReading, judge
from eigenscope.errors import first_line
from eigenscope.estimators.singular import SingularValues, singular_values
from eigenscope.flow.blocks import blocks_of
from eigenscope.flow.dense import sample_jacobians
from eigenscope.flow.merging import merged
from eigenscope.flow.residual import residual_sum
from eigenscope.flow.segments import Segment, rows_are_independent, segments_of
from eigenscope.flow.settings import FlowSettings
from eigenscope.flow.trace import Signal, Trace, trace
from eigenscope.operators import Probe
from eigenscope.operators.jacobian import GramOperator, Jacobian

Progress = Callable[[int, int], None]  # blocks done, blocks in all


def measure(probe: Probe, settings: FlowSettings, *, step: int = 0, progress: Progress | None = None) -> FlowReading:
    """The flow over all batches of the probe, and what it means; without remedies."""
    start = time.perf_counter()
    generator = torch.Generator(probe.parameters.device).manual_seed(settings.seed)
    found: dict[tuple[str, str], list[BlockFlow]] = {}
    passes: list[_Pass] = []
    for index, weight in enumerate(probe.weights):
        with probe.isolated():
            one = _Pass(trace(probe, index), probe, settings, generator, weight)
            for block in one.run(_part(progress, index, len(probe.weights))):
                found.setdefault((block.name, block.about), []).append(block)
            one.free()
            passes.append(one)
    blocks = tuple(merged(parts, probe.weights) for parts in found.values())
    judged = judge(blocks)
    seconds = time.perf_counter() - start
    return FlowReading(
        blocks=blocks,
        growth=judged.growth,
        depth_factor=judged.depth_factor,
        verdict=judged.name,
        verdict_reason=judged.reason,
        layers_at_fault=judged.layers_at_fault,
        remedies=(),
        loss=sum(one.loss for one in passes),
        gradient_norm=float(np.linalg.norm([one.gradient_norm for one in passes])),
        probe_samples=probe.samples,
        num_matvecs=sum(block.num_matvecs for block in blocks),
        cost_in_gradients=seconds / sum(one.seconds_of_gradient for one in passes),
        seconds=seconds,
        step=step,
    )


def _part(progress: Progress | None, index: int, batches: int) -> Progress:
    def told(done: int, total: int) -> None:
        if progress:
            progress(index * total + done, batches * total)

    return told


class _Pass:
    """One batch: its trace, the gradients between the blocks, then block after block."""

    def __init__(
        self, passed: Trace, probe: Probe, settings: FlowSettings, generator: torch.Generator, weight: float
    ) -> None:
        self.passed, self.probe, self.settings, self.generator, self.weight = passed, probe, settings, generator, weight
        self.loss = weight * float(passed.loss.detach())
        self.segments = segments_of(blocks_of(passed, settings.blocks))
        begin = time.perf_counter()
        self.norms = self._gradients()
        self.seconds_of_gradient = passed.seconds + time.perf_counter() - begin
        self.independent = rows_are_independent(self.segments, generator)

    def run(self, progress: Progress) -> list[BlockFlow]:
        found = []
        for done, segment in enumerate(self.segments):
            found.append(self._block(segment))
            progress(done + 1, len(self.segments))
        return found + self._never_run()

    def free(self) -> None:
        del self.passed, self.segments

    def _gradients(self) -> dict[GradientEdge, float]:
        """‖∂L/∂·‖ at every block's input and output, in one backward pass; that of the parameters beside it."""
        places = [signal.place for segment in self.segments for signal in (segment.source, segment.end) if signal]
        edges = list(dict.fromkeys(place.edge for place in places))
        wanted = [*edges, *self.probe.leaves]
        gradients = torch.autograd.grad(self.passed.loss, wanted, retain_graph=True, allow_unused=True)
        norms = [0.0 if g is None else self.weight * _norm(g) for g in gradients]
        of_leaves = zip(self.probe.leaves, gradients[len(edges) :], strict=True)
        self.used = {leaf: gradient is not None for leaf, gradient in of_leaves}
        self.gradient_norm = float(np.linalg.norm(norms[len(edges) :]))
        return dict(zip(edges, norms, strict=False))

    def _block(self, segment: Segment) -> BlockFlow:
        block = segment.block
        if segment.source is None or segment.end is None:
            return BlockFlow.missing(block.name, block.about, segment.reason or "")
        try:
            return self._measured(segment, segment.source, segment.end)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError) as error:
            return BlockFlow.missing(block.name, block.about, f"its products can't be made: {first_line(error)}")

    def _measured(self, segment: Segment, source: Signal, end: Signal) -> BlockFlow:
        jacobian = Jacobian(end.place, source.place)
        found = self._singular(GramOperator(jacobian))
        branch = self._branch(source, end)
        spectrum = self._spectrum(jacobian, found)
        before, after = self.norms[source.place.edge], self.norms[end.place.edge]
        return BlockFlow(
            name=segment.block.name,
            about=segment.block.about,
            sigma_max=Estimate(found.largest, error=found.largest_error),
            sigma_rms=Estimate(found.rms, standard_error=found.rms_standard_error),
            sigma_min=self._smallest(found, spectrum),
            growth=before / after if after > 0 else None,
            activation_norm=(source.norm, end.norm),
            gradient_norm=(before, after),
            shape=(source.place.shape, end.place.shape),
            branch=branch,
            spectrum=spectrum if self.settings.spectrum else None,
            num_matvecs=jacobian.num_matvecs,
            modules=tuple(call.name for call in segment.block.calls),
        )

    def _singular(self, gram: GramOperator) -> SingularValues:
        s = self.settings
        return singular_values(
            gram,
            self.generator,
            samples=self._samples(gram.jacobian),
            tolerance=s.tolerance,
            max_matvecs=s.max_matvecs,
            smallest=s.sigma_min,
        )

    def _samples(self, jacobian: Jacobian) -> int:
        """How many samples the Jacobian falls apart into: one if they influence each other."""
        before, after = jacobian.input.shape[:1], jacobian.output.shape[:1]
        return before[0] if self.independent and before and before == after else 1

    def _branch(self, source: Signal, end: Signal) -> Branch | None:
        total = residual_sum(end.place, source.place) if self.settings.branches else None
        if total is None:
            return None
        found = self._singular(GramOperator(Jacobian(total, source.place), minus_identity=True))
        return Branch(
            Estimate(found.largest, error=found.largest_error),
            Estimate(found.rms, standard_error=found.rms_standard_error),
        )

    def _spectrum(self, jacobian: Jacobian, found: SingularValues) -> Distribution | None:
        if not (self.settings.sigma_min or self.settings.spectrum):
            return None
        dense = sample_jacobians(jacobian, self.generator)
        if dense is None:
            return Distribution(tuple(found.nodes.tolist()), tuple(found.shares.tolist()), "lanczos_quadrature")
        values = np.sort(torch.linalg.svdvals(dense).flatten().cpu().numpy())
        return Distribution(tuple(values.tolist()), (1.0 / len(values),) * len(values), "exact")

    def _smallest(self, found: SingularValues, spectrum: Distribution | None) -> Estimate | None:
        if not self.settings.sigma_min:
            return None
        if spectrum is not None and spectrum.method == "exact":
            return Estimate(spectrum.sigma[0], error=1e-6 * spectrum.sigma[-1])
        return Estimate(found.smallest, error=found.smallest_error)

    def _never_run(self) -> list[BlockFlow]:
        """The outermost modules with parameters that neither ran nor took part otherwise."""
        ran = {call.module for call in self.passed.calls()}
        idle: dict[str, BlockFlow] = {}
        for name, module in self.probe.model.named_modules():
            used = [self.used[leaf] for leaf in module.parameters() if leaf in self.used]
            part = any(inside in ran for inside in module.modules()) or any(used)
            if used and not part and not any(name.startswith(f"{outer}.") for outer in idle):
                idle[name] = BlockFlow.missing(name, type(module).__name__, "it does not run on this batch")
        return list(idle.values())


def _norm(tensor: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))

"""Measure the signal flow of a network: the Jacobian of every block, and the gradient's norm between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.autograd.graph import GradientEdge

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.flow import BlockFlow, Branch, Distribution, FlowReading, growth_of, judge
from eigenscope.errors import first_line
from eigenscope.estimators.singular import SingularValues, singular_values
from eigenscope.flow.blocks import blocks_of
from eigenscope.flow.dense import sample_jacobians
from eigenscope.flow.gradients import Gradients, norm
from eigenscope.flow.merging import merged
from eigenscope.flow.residual import residual_sum
from eigenscope.flow.segments import Segment, independent_inputs, joined, segments_of
from eigenscope.flow.settings import FlowSettings
from eigenscope.flow.trace import Signal, Trace, trace
from eigenscope.operators import Probe
from eigenscope.operators.jacobian import GramOperator, Jacobian
from eigenscope.words import few

Progress = Callable[[int, int], None]  # blocks done, blocks in all


def measure(probe: Probe, settings: FlowSettings, *, step: int = 0, progress: Progress | None = None) -> FlowReading:
    """The flow over all batches of the probe, and what it means; without remedies."""
    start = time.perf_counter()
    generator = torch.Generator(probe.parameters.device).manual_seed(settings.seed)
    found: dict[tuple[str, str], list[BlockFlow]] = {}
    passes: list[_Pass] = []
    gradient: list[torch.Tensor] = []
    notes: dict[str, None] = {}
    for index, weight in enumerate(probe.weights):
        with probe.isolated():
            one = _Pass(trace(probe, index), probe, settings, generator, weight)
            for block in one.run(_part(progress, index, len(probe.weights))):
                found.setdefault((block.name, block.about), []).append(block)
            gradient = one.gradients.added_to(gradient)
            notes.update(dict.fromkeys(one.notes()))
            one.free()
            passes.append(one)
    blocks = tuple(merged(parts) for parts in found.values())
    if around := [block.name for block in blocks if block.is_bypassed]:
        notes[f"more gradient reaches the input of {few(around)} than passes it: a shortcut leads around"] = None
    judged = judge(blocks)
    seconds = time.perf_counter() - start
    return FlowReading(
        blocks=blocks,
        growth=judged.growth,
        depth_factor=judged.depth_factor,
        verdict=judged.name,
        verdict_reason=judged.reason,
        layers_at_fault=judged.layers_at_fault,
        severity=judged.severity,
        remedies=(),
        loss=sum(one.loss for one in passes),
        gradient_norm=float(np.linalg.norm([norm(part) for part in gradient])),
        probe_samples=probe.samples,
        num_matvecs=sum(block.num_matvecs for block in blocks),
        cost_in_gradients=seconds / sum(one.seconds_of_gradient for one in passes),
        seconds=seconds,
        step=step,
        notes=tuple(notes),
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
        blocks = blocks_of(passed, settings.blocks)
        self.segments = segments_of(blocks, named=True) if settings.blocks else segments_of(joined(blocks))
        self.unsettled: list[str] = []
        self.stages: dict[GradientEdge, int] = {}
        self.chain = 0
        self.gradients = Gradients(passed.loss, self.segments, probe.leaves, weight)
        self.seconds_of_gradient = passed.seconds + self.gradients.seconds
        self.independent = independent_inputs(self.segments, generator)

    def run(self, progress: Progress) -> list[BlockFlow]:
        found = []
        for done, segment in enumerate(self.segments):
            found.append(self._block(segment))
            progress(done + 1, len(self.segments))
        return found + self._never_run()

    def notes(self) -> Iterator[str]:
        """What a reader of the numbers must know."""
        if self.unsettled:
            products = f"{self.settings.max_matvecs} products (max_matvecs)"
            yield f"σ max is not settled after {products} in {few(self.unsettled)}"
        if self.gradients.unreached:
            yield f"no gradient of the loss reaches {few(self.gradients.unreached)}: detached, or not used"

    def free(self) -> None:
        """Let the graph go."""
        del self.passed, self.segments, self.gradients

    def _block(self, segment: Segment) -> BlockFlow:
        block = segment.block
        self.chain += not segment.follows
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
        if not found.converged:
            self.unsettled.append(segment.block.name)
        branch, products = self._branch(source, end)
        spectrum = self._spectrum(jacobian, found)
        before, after = self.gradients.norm(source.place.edge), self.gradients.norm(end.place.edge)
        return BlockFlow(
            name=segment.block.name,
            about=segment.block.about,
            sigma_max=Estimate(found.largest, error=found.largest_error),
            sigma_rms=_rms(found, spectrum, jacobian),
            sigma_min=self._smallest(found, spectrum),
            growth=growth_of(before, after),
            activation_norm=(source.norm, end.norm),
            gradient_norm=(before, after),
            shape=(source.place.shape, end.place.shape),
            branch=branch,
            spectrum=spectrum if self.settings.spectrum else None,
            num_matvecs=jacobian.num_matvecs + products,
            stage=self.stages.setdefault(source.place.edge, len(self.stages) + 1),
            chain=self.chain,
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
            roundoff=torch.finfo(gram.jacobian.input.dtype).eps / 2,
        )

    def _samples(self, jacobian: Jacobian) -> int:
        """How many samples the Jacobian falls apart into: one if they influence each other."""
        before, after = jacobian.input.shape[:1], jacobian.output.shape[:1]
        return before[0] if jacobian.input.edge in self.independent and before == after else 1

    def _branch(self, source: Signal, end: Signal) -> tuple[Branch | None, int]:
        """The block without its identity, and the products that it took."""
        total = residual_sum(end.place, source.place) if self.settings.branches else None
        if total is None:
            return None, 0
        jacobian = Jacobian(total, source.place)
        found = self._singular(GramOperator(jacobian, minus_identity=True))
        largest, rms = Estimate(found.largest, error=found.largest_error), found.rms
        return Branch(largest, Estimate(rms, standard_error=found.rms_standard_error)), jacobian.num_matvecs

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
        ran, known = {call.module for call in self.passed.calls()}, self.gradients.used
        idle: dict[str, BlockFlow] = {}
        for name, module in self.probe.model.named_modules():
            used = [known[leaf] for leaf in module.parameters() if leaf in known]
            part = any(inside in ran for inside in module.modules()) or any(used)
            if used and not part and not any(name.startswith(f"{outer}.") for outer in idle):
                idle[name] = BlockFlow.missing(name, type(module).__name__, "it does not run on this batch")
        return list(idle.values())


def _rms(found: SingularValues, spectrum: Distribution | None, jacobian: Jacobian) -> Estimate:
    """‖J‖_F/√n, exact where every singular value is known."""
    if spectrum is None or spectrum.method != "exact":
        return Estimate(found.rms, standard_error=found.rms_standard_error)
    return Estimate(float((np.sum(np.square(spectrum.sigma)) / jacobian.shape[1]) ** 0.5), standard_error=0.0)

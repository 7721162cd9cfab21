"""How far an input can push the output: lower and upper bounds on the Lipschitz constant, and radii from them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from eigenscope.bounds.everywhere import everywhere
from eigenscope.bounds.gate import contradiction, withdrawn
from eigenscope.bounds.inputs import Samples, read_batches
from eigenscope.bounds.local import LocalModel, ascend, require_finite, singles
from eigenscope.bounds.memory import LipschitzMemory
from eigenscope.bounds.reading import LipschitzReading
from eigenscope.bounds.risk import risk
from eigenscope.bounds.robustness import ATTACK_STEPS, SampleRobustness, attack_on, certified_radii, margins
from eigenscope.bounds.value import Value
from eigenscope.diagnostics.estimate import Estimate
from eigenscope.errors import EigenscopeError, InputError, first_line
from eigenscope.operators.isolation import isolated, underlying

Progress = Callable[[int, int], None]  # passes done, passes at most
_STARTS = 4  # the steepest samples of the probe that ascent starts from


def lipschitz(
    model: nn.Module,
    batches: Any,
    *,
    ascent_steps: int = 40,
    attack: bool = True,
    max_samples: int = 32,
    seed: int = 0,
    step: int = 0,
    progress: Progress | None = None,
    memory: LipschitzMemory | None = None,
    deadline_seconds: float | None = None,
) -> LipschitzReading:
    """Bound the ℓ2 Lipschitz constant of `model`, in evaluation mode, from below and from above.

    Parameters
    ----------
    model, batches
        A batch is a tensor of inputs, ``(inputs, labels)``, or a mapping of keyword arguments (Hugging Face); samples
        come first. Integer inputs are replaced by the output of the embedding that they index: the bounds are on the
        rest of the network, in the embedding's space. The model is left as it was to the bit.
    ascent_steps
        Forward-and-backward passes spent on climbing from the steepest samples; 0 for none. The bound is over all
        inputs, so nothing keeps the climb near the data.
    attack
        Also look for the smallest change that flips each answer.
    max_samples
        Samples of the probe that are looked at, in order.
    progress
        Called with (passes done, passes at most).
    memory
        Handed to each of several measurements of one model, it saves exporting the model again.
    deadline_seconds
        Layers whose norm would be found later than so many seconds from now get a loose bound that costs nothing; a
        note says how many. None: there is time.

    Returns
    -------
    LipschitzReading
        ``lipschitz_lower ≤ L ≤ lipschitz_upper ≤ lipschitz_product``; a bound that can't be given says why. For each
        sample the margin, the certified radius, and the radius at which an attack succeeded.

    Raises
    ------
    InputError
        What was passed in can't be measured; one line says why.
    """
    if max_samples < 1 or ascent_steps < 0:
        raise InputError(f"max_samples={max_samples}, ascent_steps={ascent_steps}: at least 1 and 0 are needed")
    device = _device(model)
    model = underlying(model)
    samples = [_moved(part, device) for part in read_batches(batches, max_samples)]
    aliases: dict[Tensor, Tensor] = {p: nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    start = time.perf_counter()
    with isolated(model, aliases, [device]):
        try:
            deadline = None if deadline_seconds is None else start + deadline_seconds
            run = _Run(model, samples, seed, progress, ascent_steps, attack, memory, deadline)
            return run.reading(step, start)
        except (EigenscopeError, KeyboardInterrupt):
            raise
        except Exception as error:
            kind = type(error).__name__
            raise InputError(f"the model can't be run on the probe ({kind}: {first_line(error)})") from error


@dataclass
class _Run:
    """The order of one measurement: the data, ascent, the graph, the samples."""

    model: nn.Module
    samples: list[Samples]
    seed: int
    progress: Progress | None
    ascent_steps: int
    attack: bool
    memory: LipschitzMemory | None
    deadline: float | None
    notes: list[str] = field(default_factory=list)
    num_matvecs: int = 0
    done: int = 0
    expected: int = 0

    def reading(self, step: int, start: float) -> LipschitzReading:
        locals_ = self._locals()
        self.expected = len(locals_) * (1 + ATTACK_STEPS * self.attack) + self.ascent_steps + 1
        near, lower = self._lower(locals_)
        above = everywhere(self.model, self.samples, self.memory, self.deadline)
        self.notes += above.notes
        self._tick()
        bound, refusal = above.value, above.value.reason if above.value.proven else None
        samples = self._samples(locals_, bound)
        if (wrong := contradiction(lower, bound.bound, samples)) is not None:
            self.notes.append(wrong)
            bound, samples = withdrawn(wrong, samples)
        certified = _median([s.certified_radius for s in samples])
        attacked = _median([math.inf if s.attacked_radius is None else s.attacked_radius for s in samples])
        return LipschitzReading(
            layers=above.layers,
            lipschitz_lower=Estimate(lower, reason=None if lower is not None else "see the notes"),
            lipschitz_upper=_estimate(bound.bound, refusal or bound.reason),
            lipschitz_product=_estimate(bound.product, refusal or bound.reason),
            method=bound.method,
            no_global_bound=refusal,
            local=near,
            samples=samples,
            certified_radius=certified,
            attacked_radius=attacked if self.attack and attacked != math.inf else None,
            risk=risk(samples, bound.bound is not None, refusal or bound.reason, self.attack, near),
            probe_samples=sum(len(part) for part in self.samples),
            num_matvecs=self.num_matvecs,
            seconds=time.perf_counter() - start,
            step=step,
            ball=above.ball,
            notes=tuple(self.notes),
        )

    def _tick(self) -> None:
        self.done += 1
        if self.progress:
            self.progress(self.done, max(self.expected, self.done))

    # -- from below -------------------------------------------------------------------------------------------------

    def _locals(self) -> list[LocalModel]:
        found = [LocalModel(self.model, part) for part in self.samples]
        for local in found:
            require_finite(local)
        if not self.samples[0].floating:
            self.notes.append("the inputs are integers: bounds and radii start at the output of their embedding")
        if any(local.mixes_samples() for local in found):
            self.notes.append("the model mixes the samples of a batch: each was measured by itself")
            found = [LocalModel(self.model, one) for part in self.samples for one in singles(part)]
        return found

    def _lower(self, locals_: Sequence[LocalModel]) -> tuple[float | None, float | None]:
        """The largest ‖J‖₂ over the probe, and after ascent."""
        try:
            near, best = self._on_data(locals_)
            far = self._ascent(*best) if self.ascent_steps else 0.0
        except (RuntimeError, NotImplementedError) as error:
            if isinstance(error, EigenscopeError):
                raise
            self.notes.append(f"no lower bound: the model can't be differentiated ({first_line(error)})")
            return None, None
        return near, max(near, far)

    def _on_data(self, locals_: Sequence[LocalModel]) -> tuple[float, tuple[LocalModel, Tensor]]:
        """The steepest samples of the steepest batch, measured well."""
        near, best = -1.0, None
        for local in locals_:
            slope = local.slope(local.points, self.seed)
            self.num_matvecs += slope.num_matvecs
            self._tick()
            if float(slope.values.max()) > near:
                index = slope.values.topk(min(_STARTS, len(slope.values))).indices.to(local.points.device)
                near, best = float(slope.values.max()), (local.at(index), slope.vectors[index])
        assert best is not None
        return self._refined(best[0], best[0].points), best

    def _refined(self, local: LocalModel, points: Tensor) -> float:
        """The steepest of the points' slopes, measured well and seen in a quotient of differences."""
        slope = local.slope(points, self.seed)
        self.num_matvecs += slope.num_matvecs
        index = slope.values.argmax(0, keepdim=True).to(points.device)
        steepest = local.at(index).seen(points[index], slope.vectors[index], float(slope.values.max()))
        if slope.exact:
            return steepest
        value, products = local.refined(points, self.seed)
        self.num_matvecs += products
        return max(value, steepest)

    def _ascent(self, local: LocalModel, directions: Tensor) -> float:
        ends = ascend(local, local.points, directions, self.ascent_steps, self._tick)
        return max((self._refined(local, end) for end in ends), default=0.0)

    # -- the samples ------------------------------------------------------------------------------------------------

    def _samples(self, locals_: Sequence[LocalModel], bound: Value) -> tuple[SampleRobustness, ...]:
        found: list[SampleRobustness] = []
        for local in locals_:
            with torch.no_grad():
                logits = local(local.points)
            if logits.ndim != 2 or logits.shape[1] < 2:
                self.notes.append(f"no radii: a margin needs (samples, classes), the output is {tuple(logits.shape)}")
                return ()
            if _is_regression(local.samples.labels, logits):
                self.notes.append("no radii: the targets are real numbers, no classes: there is no answer to flip")
                return ()
            found += self._of_batch(local, logits, bound, len(found))
        return tuple(found)

    def _of_batch(self, local: LocalModel, logits: Tensor, bound: Value, first: int) -> list[SampleRobustness]:
        labels = _class_numbers(local.samples.labels, logits)
        got = margins(logits, labels)
        certified: list[float] | list[None] = [None] * len(logits)
        if bound.bound is not None:
            chain = bound.chain if bound.chain and bound.chain.scale is None else None
            gram = chain.base**2 * chain.gram if chain else None
            certified = certified_radii(got, logits, bound.bound, gram).tolist()
        flips = torch.full((2, len(logits)), math.inf)
        if self.attack:
            flips = torch.stack(attack_on(local, got.own, ATTACK_STEPS, self._tick))
        attacked, searched = ([None if r == math.inf else r for r in row] for row in flips.tolist())
        numbers = range(first, first + len(logits))
        shown = got.own.tolist() if labels is not None else [None] * len(logits)
        columns = (numbers, shown, got.predicted.tolist(), got.margin.tolist(), certified, attacked, searched)
        return [SampleRobustness(*row) for row in zip(*columns, strict=True)]


def _is_regression(labels: Tensor | None, logits: Tensor) -> bool:
    """Whether the targets are real numbers that are no shares of classes."""
    if labels is None or not labels.is_floating_point():
        return False
    sums = labels.sum(-1)
    return labels.shape != logits.shape or bool((labels < 0).any()) or not torch.allclose(sums, torch.ones_like(sums))


def _class_numbers(labels: Tensor | None, logits: Tensor) -> Tensor | None:
    """By number, or the class with the largest share; None where they are no classes of this output."""
    if labels is not None and labels.is_floating_point():
        labels = labels.argmax(1)
    if labels is None or not bool(((labels >= 0) & (labels < logits.shape[1])).all()):
        return None
    return labels.to(logits.device)


def _median(radii: Sequence[float | None]) -> float | None:
    known = [radius for radius in radii if radius is not None]
    return statistics.median(known) if known and len(known) == len(radii) else None


def _estimate(value: float | None, reason: str | None) -> Estimate:
    if value is not None and math.isfinite(value):
        return Estimate(value)
    return Estimate(None, reason=reason or "the bound is beyond the range of fp64")


def _moved(samples: Samples, device: torch.device) -> Samples:
    """Where the model is; the batch stays where it was."""

    def move(leaf: Any) -> Any:
        return leaf.to(device) if isinstance(leaf, Tensor) else leaf

    rest = None if samples.rest is None else tree_map(move, dict(samples.rest))
    return Samples(move(samples.inputs), move(samples.labels), samples.key, rest)


def _device(model: Any) -> torch.device:
    """Of the model's tensors, which are checked on the way."""
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is a {type(model).__name__}: a torch.nn.Module is needed")
    places: dict[torch.device, str] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if isinstance(tensor, nn.parameter.UninitializedParameter):
            raise InputError(f"parameter {name!r} has no shape yet: run the model once on a batch first")
        if tensor.is_meta:
            raise InputError(f"{name!r} is on the meta device and has no values: load the model first")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"parameter {name!r} holds NaN or infinity: the model has diverged or is corrupt")
        places.setdefault(tensor.device, name)
    if len(places) > 1:
        listed = ", ".join(f"{name!r} on {device}" for device, name in places.items())
        raise InputError(f"the parameters lie on several devices ({listed}): move the model to one")
    return next(iter(places), torch.device("cpu"))

"""From the Jacobians of a network's blocks to growth over its depth, a verdict, and the layer at fault."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.words import counted, few

HEALTHY = 100.0  # over the depth: 1.1 a layer is 117 after 50 layers
ALONE = 1e4  # so much is a verdict though a random signal passes well
ONE = 30.0  # in a single block: 1.1 a layer takes 35 of them
VERDICTS = ("exploding", "vanishing", "healthy", "unresolved")


@dataclass(frozen=True)
class Branch:
    """A residual block without its identity: J − I."""

    sigma_max: Estimate
    sigma_rms: Estimate

    def to_dict(self) -> dict[str, object]:
        return {"sigma_max": self.sigma_max.to_dict(), "sigma_rms": self.sigma_rms.to_dict()}


@dataclass(frozen=True)
class Distribution:
    """How the squared singular values σ² of a block are distributed: Gauss nodes √θ and their shares (sum 1)."""

    sigma: tuple[float, ...]
    share: tuple[float, ...]
    method: str  # "exact" or "lanczos_quadrature"


@dataclass(frozen=True)
class BlockFlow:
    """One block. A block that could not be measured has a `reason` and no numbers.

    `sigma_max` is ‖J‖₂ with J = ∂output/∂input over the batch, `sigma_rms` is ‖J‖_F/√n; `growth` is the gradient's
    norm at the input over that at the output. Norms are those of whole batches, input first.
    """

    name: str
    about: str
    sigma_max: Estimate
    sigma_rms: Estimate
    sigma_min: Estimate | None = None
    growth: float | None = None
    activation_norm: tuple[float, float] | None = None
    gradient_norm: tuple[float, float] | None = None
    shape: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    branch: Branch | None = None
    spectrum: Distribution | None = None
    num_matvecs: int = 0  # products with J and with Jᵀ, each counted
    reason: str | None = None
    stage: int = 0  # blocks that read the same signal stand side by side, and share a stage
    chain: int = 0  # blocks that follow one another, each reading what the one before wrote, are of one chain
    modules: tuple[str, ...] = ()  # what the block is made of, by name

    @property
    def is_bypassed(self) -> bool:
        """Whether the gradient at its input is larger than J allows: it also comes by a way around the block."""
        most = (self.sigma_max.value or 0.0) + (self.sigma_max.error or 0.0)
        return self.growth is not None and self.growth > 1.05 * most

    @classmethod
    def missing(cls, name: str, about: str, reason: str) -> BlockFlow:
        """A block without numbers."""
        return cls(name, about, Estimate(None, reason=reason), Estimate(None, reason=reason), reason=reason)

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "about": self.about,
            "sigma_max": self.sigma_max.to_dict(),
            "sigma_rms": self.sigma_rms.to_dict(),
            "sigma_min": self.sigma_min.to_dict() if self.sigma_min else None,
            "growth": self.growth,
            "activation_norm": _ends(self.activation_norm),
            "gradient_norm": _ends(self.gradient_norm),
            "shape": _ends(self.shape),
            "branch": self.branch.to_dict() if self.branch else None,
            "spectrum": asdict(self.spectrum) if self.spectrum else None,
            "num_matvecs": self.num_matvecs,
            "stage": self.stage,
            "chain": self.chain,
            "modules": list(self.modules),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Remedy:
    """What may help, why, and, once it was tried on a copy, what it did."""

    name: str
    what: str
    why: str
    tried: FlowOutcome | None = None

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "what": self.what,
            "why": self.why,
            "tried": self.tried.to_dict() if self.tried else None,
        }


@dataclass(frozen=True)
class FlowOutcome:
    """The flow after a remedy, measured on a copy; `reason` says why it could not be."""

    verdict: str
    growth: float | None
    depth_factor: float | None
    sigma_max: float | None  # the largest over all blocks
    gradient_norm: float | None  # of all parameters
    reason: str | None = None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class FlowVerdict:
    """`exploding`, `vanishing`, `healthy` or `unresolved`, and the first layer at fault."""

    name: str
    reason: str
    growth: float | None
    depth_factor: float | None
    layers_at_fault: tuple[str, ...] = ()
    severity: float = 1.0  # the factor that was judged: how far the norm gets from where it began, or in one block


@dataclass(frozen=True)
class FlowReading:
    """The flow of the gradient through a network, block by block in the order in which data passes."""

    blocks: tuple[BlockFlow, ...]
    growth: float | None  # geometric mean of the blocks' growth
    depth_factor: float | None  # growth to the power of the number of blocks
    verdict: str
    verdict_reason: str
    layers_at_fault: tuple[str, ...]  # in the order in which data passes
    remedies: tuple[Remedy, ...]
    loss: float
    gradient_norm: float
    probe_samples: int
    num_matvecs: int
    cost_in_gradients: float
    seconds: float
    step: int = 0
    notes: tuple[str, ...] = ()
    severity: float = 1.0  # how far the gradient's norm gets from where it began, or in one block: what was judged

    @property
    def layer_at_fault(self) -> str | None:
        """The first of the layers at fault."""
        return self.layers_at_fault[0] if self.layers_at_fault else None

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.verdict_reason}"]
        for block in self.blocks:
            growth = "" if block.growth is None else f"   growth {block.growth:.3g}"
            numbers = block.reason or f"σ max {block.sigma_max}   σ rms {block.sigma_rms}{growth}"
            lines.append(f"{block.name:32} {numbers}")
        lines += [f"{remedy.name:32} {remedy.what}" for remedy in self.remedies]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    @property
    def has_branches(self) -> bool:
        """Whether a block was measured without its identity too."""
        return any(block.branch for block in self.blocks)

    @property
    def worst(self) -> BlockFlow | None:
        """The block with the largest σ_max."""
        measured = [block for block in self.blocks if block.sigma_max.value is not None]
        return max(measured, key=lambda block: block.sigma_max.value or 0.0, default=None)

    def to_dict(self) -> dict[str, object]:
        plain: dict[str, object] = {**vars(self), "layer_at_fault": self.layer_at_fault}
        plain.update(layers_at_fault=list(self.layers_at_fault), notes=list(self.notes))
        plain["blocks"] = [block.to_dict() for block in self.blocks]
        plain["remedies"] = [remedy.to_dict() for remedy in self.remedies]
        finite: dict[str, object] = _finite(plain)
        return finite


def growth_of(before: float, after: float) -> float | None:
    """The gradient's norm at a block's input over that at its output; None where it is not known."""
    return before / after if after > 0 and math.isfinite(before) and math.isfinite(after) else None


def judge(blocks: Sequence[BlockFlow]) -> FlowVerdict:
    """The verdict over the depth, by the gradient's norm, followed from the last block to the first.

    The flow is healthy while it stays within `HEALTHY` of where it began, or within `ALONE` where a random signal does
    (the product of σ_rms): a trained network's gradient lies along few directions, and may grow in a short network
    that amplifies nothing else. One block that takes or adds `ONE` is enough by itself. A block whose Jacobian is 0 is
    at fault whatever the loss asks for; that the loss asks for nothing (its gradient is 0 at the last block) is no
    block's fault.
    """
    if dead := [block for block in blocks if block.growth == 0.0]:
        return _blocked(blocks, dead[0])
    chains = [[b for b in blocks if b.chain == chain] for chain in dict.fromkeys(b.chain for b in blocks)]
    found = [_of_chain(known) for known in map(_stages, chains) if known]
    if not found:
        return FlowVerdict("unresolved", _why_unknown(blocks), None, None)
    return max(found, key=lambda verdict: (verdict.name != "healthy", verdict.severity))


def _of_chain(known: Sequence[tuple[BlockFlow, float]]) -> FlowVerdict:
    """The verdict on stages that follow one another."""
    total = sum(push for _, push in known)
    numbers = _exp(total / len(known)), _exp(total)
    pushes = [_without_size(block, push) for block, push in known]
    peak = _peak(pushes)
    typical = _peak([_without_size(b, math.log(max(b.sigma_rms.value or 0.0, 1e-300))) for b, _ in known])
    both = peak * typical > 0 and abs(typical) >= math.log(HEALTHY) / 2
    far = abs(peak) >= math.log(ALONE) or (abs(peak) >= math.log(HEALTHY) and both)
    alone = [push for (block, _), push in zip(known, pushes, strict=True) if _stands_out(block, push)]
    hardest = 0.0 if far else max(alone, key=abs, default=0.0)
    course = f"over {counted(len(known), 'block')}, from the last to the first, the gradient's norm "
    if not far and not hardest:
        return FlowVerdict("healthy", course + _times(total), *numbers, severity=_exp(abs(peak)))
    sign = 1 if (hardest or peak) > 0 else -1
    threshold = _fault([sign * push for push in pushes])
    faults = [(b, push) for (b, _), push in zip(known, pushes, strict=True) if sign * push >= threshold]
    fault, own = faults[0]
    reason = f"{course}{_times(hardest or peak)}; in {fault.name} ({fault.about}) it {_times(own)}"
    names = tuple(block.name for block, _ in faults)
    return FlowVerdict("exploding" if sign > 0 else "vanishing", reason, *numbers, names, _exp(abs(hardest or peak)))


def _without_size(block: BlockFlow, push: float) -> float:
    """What a block does beyond its change of size: from n entries to m a norm may change by √(n/m) for that alone, as
    in pooling, where no gradient is lost on the parameters before it."""
    if block.shape is None:
        return push
    inputs, outputs = (max(math.prod(shape), 1) for shape in block.shape)
    return math.copysign(max(abs(push) - abs(math.log(inputs / outputs)) / 2, 0.0), push)


def _stages(blocks: Sequence[BlockFlow]) -> list[tuple[BlockFlow, float]]:
    """The push of each stage: of blocks side by side the mean, named by the one that pushes most."""
    stages: dict[int, list[tuple[BlockFlow, float]]] = {}
    for index, block in enumerate(blocks):
        if block.growth:
            stages.setdefault(block.stage or -index - 1, []).append((block, math.log(block.growth)))
    return [
        (max(stage, key=lambda pair: abs(pair[1]))[0], statistics.fmean(push for _, push in stage))
        for stage in stages.values()
    ]


def _stands_out(block: BlockFlow, push: float) -> bool:
    """Whether one block alone is a fault. A normalization rescales by design, and pooling spreads a gradient thin."""
    random = math.log(max(block.sigma_rms.value or 0.0, 1e-300))
    equal = block.shape is not None and math.prod(block.shape[0]) == math.prod(block.shape[1])
    both = abs(push) >= math.log(ONE) and push * random > 0 and abs(random) >= math.log(ONE) / 2
    return both and "Norm" not in block.about and (push > 0 or equal)


def _blocked(blocks: Sequence[BlockFlow], dead: BlockFlow) -> FlowVerdict:
    """No gradient gets past `dead`; others whose Jacobian is 0 are at fault as well."""
    empty = tuple(block.name for block in blocks if block.sigma_max.value == 0.0)
    if dead.name in empty:
        reason = f"no gradient passes {few(empty)}: the Jacobian is 0 (weights of 0, or units that are all off)"
        return FlowVerdict("vanishing", reason, 0.0, 0.0, empty, math.inf)
    reason = f"no gradient passes {dead.name}: its derivative is 0 in the one direction that the loss asks for"
    return FlowVerdict("vanishing", reason, 0.0, 0.0, (dead.name,), math.inf)


def _why_unknown(blocks: Sequence[BlockFlow]) -> str:
    measured = [block.gradient_norm for block in blocks if block.gradient_norm is not None]
    if not blocks:
        return "no module of the model runs when loss_fn is called"
    if not measured:
        return "no block could be measured"
    if all(after == 0.0 for _, after in measured):
        return "the loss has no gradient at any block's output: there is nothing to follow"
    return "the gradient is not finite at any block"


def _fault(pushes: Sequence[float]) -> float:
    """How hard a block pushes that is at fault: half as hard as the hardest, or, where most of them push (the median is
    over a quarter of the hardest), half as hard as the median."""
    hardest, typical = max(pushes), statistics.median(pushes)
    return typical / 2 if typical >= hardest / 4 else hardest / 2


def _peak(pushes: Sequence[float]) -> float:
    """The logarithm of the farthest that a norm gets from where it began, from the last block to the first."""
    return max((sum(pushes[start:]) for start in range(len(pushes))), key=abs)


def _times(push: float) -> str:
    if abs(push) < 0.01:
        return "stays as it is"
    times = float(f"{_exp(abs(push)):.3g}")
    return f"goes {'up' if push > 0 else 'down'} {f'{times:,.6g}' if times < 1e6 else f'{times:.3g}'}×"


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _finite(value: Any) -> Any:
    """Plain data with None for NaN and infinity, which JSON has not."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _ends(pair: tuple[object, object] | None) -> dict[str, object] | None:
    return None if pair is None else {"input": pair[0], "output": pair[1]}

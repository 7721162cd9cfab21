"""The model as a function of its input around given points: answers, Jacobians, and the largest ‖J‖₂ found.

J is block diagonal over the samples, so one backward pass multiplies the blocks of all of them. With few outputs J is
written out, a backward pass an output; with many, a power iteration by J (differentiating Jᵀu in u) and Jᵀ tells the
steepest samples, and a Lanczos run measures them.
What is reported is always a quotient ‖Jv‖/‖v‖ at a point: a proven lower bound on every constant that holds there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from eigenscope.bounds.inputs import Samples, first_tensor
from eigenscope.errors import InputError
from eigenscope.estimators.singular import singular_values
from eigenscope.operators.jacobian import GramOperator, Jacobian, Place

_WRITTEN_OUT = 24  # outputs up to which the Jacobian is written out: what the power iteration would cost
_ITERATIONS = 8  # of the power method: enough to tell which samples are the steepest
_STRETCHES = (1e-3, 1e-2, 1e-4, 1e-1)  # of the points' length: steps that a slope is looked for along
_SEEN = 1e-3  # relative: what rounding in fp32 takes from a quotient


@dataclass(frozen=True)
class Slope:
    """Per sample: ‖Jv‖/‖v‖, the largest found, and v."""

    values: Float[Tensor, " samples"]
    vectors: Float[Tensor, "samples ..."]
    num_matvecs: int
    exact: bool  # J was written out: the largest there is


class LocalModel:
    """A model as a function of the tensor that bounds start at: its input, or the first embedding's output.

    To be used where the model is isolated. `samples` are those of one batch.
    """

    def __init__(self, model: nn.Module, samples: Samples) -> None:
        self.model, self.samples = model, samples
        if samples.floating:
            self.points = samples.inputs
        else:
            self.points = self._embedded()

    def __call__(self, points: Tensor) -> Float[Tensor, "samples ..."]:
        """The answers at other points."""
        points = points.clone()  # a model may work in place on what it is given
        if self.samples.floating:
            answer = first_tensor(self.samples.call(self.model, points))
        else:
            with _Embedding(self.samples.inputs, points):
                answer = first_tensor(self.samples.call(self.model, self.samples.inputs.clone()))
        if answer.ndim == 0 or len(answer) != len(points):
            shape = tuple(answer.shape)
            raise InputError(f"the model answers {len(points)} samples with shape {shape}: one row a sample is needed")
        return answer

    def at(self, index: Tensor) -> LocalModel:
        """The same model around some of the samples."""
        part = object.__new__(LocalModel)
        part.model, part.samples, part.points = self.model, self.samples.part(index), self.points[index]
        return part

    def mixes_samples(self) -> bool:
        """Whether one sample's answer depends on another sample."""
        if len(self.points) == 1:
            return False
        points, answer = self._tracked(self.points)
        generator = torch.Generator().manual_seed(0)  # a sum of the outputs may be constant: a softmax's is
        weights = torch.randn(answer.shape[1], generator=generator).to(answer)
        return any(self._reached(points, answer, row, weights) for row in {0, len(points) // 2})

    @staticmethod
    def _reached(points: Tensor, answer: Tensor, row: int, weights: Tensor) -> bool:
        """Whether another sample than `row` has a slope to its answer."""
        gradient = torch.autograd.grad(answer[row] @ weights, points, allow_unused=True, retain_graph=True)[0]
        return gradient is not None and bool(gradient[:row].any() or gradient[row + 1 :].any())

    def seen(self, points: Tensor, directions: Tensor, slope: float) -> float:
        """The slope that was differentiated, where a step along `directions` shows it; else the steepest one seen.

        At a kink and behind `detach` a gradient need be no slope of the function: a quotient of differences is.
        """
        length = directions.double().norm().clamp_min(1e-300)
        size = points.double().norm().clamp_min(1e-3)
        found = 0.0
        with torch.no_grad():
            for stretch in _STRETCHES:
                step = directions * float(stretch * size / length)
                forward, back = points + step, points - step
                rise = (self(forward) - self(back)).double().norm()
                quotient = float(rise / (forward - back).double().norm().clamp_min(1e-300))
                if quotient >= slope * (1 - _SEEN):
                    return slope
                found = max(found, quotient)
        return found * (1 - _SEEN)

    def slope(self, points: Tensor, seed: int) -> Slope:
        """The largest ‖Jv‖/‖v‖ found at each point."""
        points, answer = self._tracked(points)
        if answer.shape[1] <= _WRITTEN_OUT:
            return _written_out(points, answer)
        return _powers(points, answer, seed)

    def refined(self, points: Tensor, seed: int) -> tuple[float, int]:
        """The largest of the points' slopes to 1 %, by Lanczos on JᵀJ, and the products that it took."""
        points, answer = self._tracked(points)
        jacobian = Jacobian(Place.of(answer), Place.of(points))
        generator = torch.Generator(points.device).manual_seed(seed)
        found = singular_values(GramOperator(jacobian), generator, samples=len(points))
        pushed = jacobian.push(found.vector)
        quotient = pushed.double().norm() / found.vector.double().norm().clamp_min(1e-300)
        slope = float(_shaved(quotient, points))
        return self.seen(points.detach(), found.vector.view(points.shape).to(points), slope), jacobian.num_matvecs

    def _tracked(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The points, and the answers there as a graph, a row a sample."""
        points = points.detach().requires_grad_()
        answer = self(points).flatten(1)
        if not answer.requires_grad:
            raise InputError("the output does not depend on the input: is it computed under no_grad?")
        return points, answer

    def _embedded(self) -> Tensor:
        mode = _Embedding(self.samples.inputs, None)
        with mode, torch.no_grad():
            self.samples.call(self.model, self.samples.inputs.clone())
        if mode.found is None:
            kind = str(self.samples.inputs.dtype).removeprefix("torch.")
            raise InputError(f"the inputs are {kind} and index no embedding: pass floating inputs")
        return mode.found.detach()


class _Embedding(TorchFunctionMode):
    """Puts `output` in place of what the first embedding of `indices` returns, or finds out what that is."""

    def __init__(self, indices: Tensor, output: Tensor | None) -> None:
        super().__init__()
        self.indices, self.output = indices, output
        self.found: Tensor | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func not in (nn.functional.embedding, torch.embedding) or self.found is not None:
            return func(*args, **(kwargs or {}))
        indices = args[0] if func is nn.functional.embedding else args[1]
        if indices is not self.indices and not (
            indices.shape == self.indices.shape and bool((indices == self.indices).all())
        ):
            return func(*args, **(kwargs or {}))
        self.found = func(*args, **(kwargs or {})) if self.output is None else self.output
        return self.found


def _written_out(points: Tensor, answer: Tensor) -> Slope:
    """All of J, by rows: σ₁ of each block from its Gram matrix."""
    rows = [torch.autograd.grad(column.sum(), points, retain_graph=True)[0] for column in answer.unbind(1)]
    jacobian = torch.stack(rows, 1).flatten(2).double()  # samples, outputs, inputs
    _, vectors = torch.linalg.eigh(jacobian @ jacobian.mT)
    right = jacobian.mT @ vectors[:, :, -1:]
    length = right.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    right = right / length
    values = (jacobian @ right).norm(dim=(1, 2))
    return Slope(_shaved(values, points), right.view(points.shape).to(points), len(rows), exact=True)


def _powers(points: Tensor, answer: Tensor, seed: int) -> Slope:
    generator = torch.Generator(points.device).manual_seed(seed)
    v = torch.randn(points.shape, generator=generator, device=points.device).to(points)
    u = torch.zeros_like(answer).requires_grad_()
    pulled = torch.autograd.grad(answer, points, u, create_graph=True)[0]
    values = torch.zeros(len(points), dtype=torch.float64, device=points.device)
    for _ in range(_ITERATIONS):
        v = _unit(v)
        pushed = torch.autograd.grad(pulled, u, v, retain_graph=True)[0]
        values = pushed.flatten(1).double().norm(dim=1) / v.flatten(1).double().norm(dim=1).clamp_min(1e-300)
        best, v = v, torch.autograd.grad(answer, points, _unit(pushed), retain_graph=True)[0]
    return Slope(_shaved(values, points), best.detach(), 2 * _ITERATIONS + 1, exact=False)


def _unit(v: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(v.flatten(1), dim=1).clamp_min(torch.finfo(v.dtype).tiny)
    unit: Tensor = v / length.view(-1, *[1] * (v.ndim - 1))
    return unit


def _shaved(values: Tensor, points: Tensor) -> Tensor:
    """Lowered by the rounding of the products, so that it stays a lower bound."""
    lowered: Tensor = values.detach().double().cpu() * (1 - min(64 * torch.finfo(points.dtype).eps, 0.05))
    return lowered


# -- ascent ---------------------------------------------------------------------------------------------------------


def ascend(
    local: LocalModel, start: Tensor, directions: Tensor, steps: int, on_step: Callable[[], None] = lambda: None
) -> list[Tensor]:
    """Points where the slope may be larger than at `start`, a sample each.

    Climbs the quotient ‖f(x) − f(y)‖/‖x − y‖ in both points by Adam (Kingma & Ba 2015), from x = start and y a stretch
    along the steepest direction: the slope's own gradient is zero almost everywhere in a ReLU network, the quotient's
    is not. Nothing keeps the points near the data: the bound that they are held against holds everywhere.
    """
    size = start.flatten(1).norm(dim=1).clamp_min(1e-3).view(-1, *[1] * (start.ndim - 1))
    found = []
    for stretch in (0.03, 0.5):
        x = start.detach().clone().requires_grad_()
        y = (start + stretch * size * directions).detach().requires_grad_()
        rate = float(size.mean()) / start[0].numel() ** 0.5
        optimizer = torch.optim.Adam([x, y], lr=0.1 * rate)
        for _ in range(steps // 2):
            quotient = _length(local(x) - local(y)).log() - _length(x - y).log()
            optimizer.zero_grad()
            gradients = torch.autograd.grad(quotient.sum(), (x, y))
            x.grad, y.grad = (-g for g in gradients)
            optimizer.step()
            on_step()
        ends = [x.detach(), y.detach(), (x + y).detach() / 2]
        found += [end for end in ends if bool(torch.isfinite(end).all())]
    return found


def _length(v: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(v.flatten(1), dim=1).clamp_min(1e-30)
    return length


# -- what can be wrong with an answer -------------------------------------------------------------------------------


def require_finite(local: LocalModel) -> None:
    """Raises InputError naming the first layer whose output is not finite, if the answer isn't."""
    with torch.no_grad():
        if bool(torch.isfinite(local(local.points)).all()):
            return
        names = {module: name for name, module in local.model.named_modules()}
        culprit: list[str] = []

        def look(module: nn.Module, _: Any, output: Any) -> None:
            tensors = output if isinstance(output, tuple | list) else [output]
            bad = any(isinstance(t, Tensor) and t.is_floating_point() and not t.isfinite().all() for t in tensors)
            if bad and not culprit and module in names:
                culprit.append(names[module] or type(module).__name__)

        handle = nn.modules.module.register_module_forward_hook(look)
        try:
            local(local.points)
        finally:
            handle.remove()
    where = f"layer {culprit[0]!r} is the first to give" if culprit else "the model gives"
    raise InputError(f"{where} NaN or infinity on the probe: the model has diverged, or the inputs are out of range")


def singles(samples: Samples) -> list[Samples]:
    """A batch as batches of one."""
    return [samples.part(slice(i, i + 1)) for i in range(len(samples))]

"""A realistic run without training: what a monitor would have written, for tests and for work on the pages.

python tests/runs/sample.py runs/edge --scenario edge --steps 2000          # a finished run
python tests/runs/sample.py runs/live --scenario saddle --live              # 20 steps a second until Ctrl+C
"""

import argparse
import math
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np

from eigenscope.runs import RunWriter
from runs.sample_measurements import MEASURED, flow_scalars, lipschitz_scalars, sample_flow, sample_lipschitz

SCENARIOS = ("healthy", "canyon", "saddle", "edge", "exploding", "vanishing")
CHECK_EVERY = 10  # steps between two readings
COLD_EVERY = 50  # steps between two spectra: trace, density and estimated counts
NUM_PARAMETERS = 2410
LEARNING_RATE = {"healthy": 0.1, "canyon": 0.01, "saddle": 0.1, "edge": 0.2, "exploding": 0.05, "vanishing": 0.1}
SHARPEST = {  # where lambda_max settles
    "healthy": 12.0, "canyon": 160.0, "saddle": 6.0, "edge": 13.0, "exploding": 22.0, "vanishing": 0.4,
}  # fmt: skip
_FLOW = {"rule": "signal_flow", "panel": "flow", "metric": "depth_factor"}
ACTIONS: dict[str, dict[str, Any]] = {
    "edge": {
        "rule": "edge_of_stability", "panel": "sharpness", "metric": "stability_ratio", "threshold": 1.0,
        "message": "past the edge of stability: {value:.2f}x", "action": "LOWER THE STEP SIZE",
        "reason": "the curvature is larger than this step size can follow, so the loss oscillates",
    },
    "saddle": {
        "rule": "at_saddle", "panel": "saddle", "metric": "negative_count_certified", "threshold": 1,
        "message": "at a saddle: {value:.0f} certified negative eigenvalues", "action": "PAUSE & PERTURB",
        "reason": "the gradient vanishes while the loss still falls along a direction of negative curvature",
    },
    "canyon": {
        "rule": "ill_conditioned", "panel": "condition", "metric": "condition_mean", "threshold": 1000.0,
        "message": "the largest curvature is {value:,.0f} times the mean",
        "action": "SWITCH TO A PRECONDITIONED METHOD",
        "reason": "gradient descent zig-zags across the canyon; Adam, or scaled inputs, goes straight",
    },
    "exploding": {
        **_FLOW, "threshold": 100.0, "message": "the gradient explodes: {value:,.0f}× over the depth, from net.0",
        "action": "RE-INITIALIZE", "reason": "the first layers get a gradient that no step size suits",
    },
    "vanishing": {
        **_FLOW, "threshold": 0.01, "message": "the gradient vanishes: {value:.2g}× over the depth",
        "action": "ADD RESIDUALS", "reason": "the first layers get no gradient, so they do not learn",
    },
}  # fmt: skip


def make_sample_run(path: str | Path, scenario: str = "healthy", steps: int = 1000, *, seed: int = 0) -> Path:
    """Write a finished run of `steps` steps and return its file."""
    writer = RunWriter(path, config=sample_config(scenario), environment=sample_environment())
    sample = Sample(scenario, seed)
    for step in range(steps):
        sample.write(writer, step)
    writer.close()
    assert writer.dropped == 0
    return writer.path


def sample_config(scenario: str) -> dict[str, Any]:
    """What a monitor notes about the run at its start."""
    return {
        "model": "MLP (2,410 parameters)", "optimizer": f"SGD(lr={LEARNING_RATE[scenario]}, momentum=0)",
        "probe_samples": 512, "budget": 0.02, "every": None, "scenario": scenario,
    }  # fmt: skip


def sample_environment() -> dict[str, Any]:
    """Where the run took place."""
    return {
        "python": "3.11.9",
        "torch": "2.13.0",
        "platform": "Linux",
        "eigenscope": "0.1.0",
        "device": "cpu",
    }


class Sample:
    """Made-up training: each call of `write` is one step of it."""

    def __init__(self, scenario: str, seed: int = 0) -> None:
        self.scenario = scenario
        self.random = random.Random(seed)
        self.level = "ok"
        self.spectrum: dict[str, Any] = {}
        self.flow: dict[str, Any] = {}

    def write(self, writer: RunWriter, step: int) -> None:
        """Step `step`: loss and learning rate, and a reading with its alert when a check is due."""
        loss = self.loss(step)
        writer.scalars(step, {"loss": loss, "learning_rate": LEARNING_RATE[self.scenario]})
        if step % CHECK_EVERY == 0:
            reading = self.reading(step, loss)
            writer.reading(step, reading)
            writer.scalars(step, scalars_of(reading))
            values = scalars_of(reading) | self.measure(writer, step)
            self.write_alert(writer, step, values)

    def measure(self, writer: RunWriter, step: int) -> dict[str, Any]:
        """Signal flow and Lipschitz bounds, less often and not in every scenario; gives the metrics."""
        if self.scenario not in MEASURED:
            return {}
        if step % COLD_EVERY == 0:
            flow, bounds = sample_flow(self.scenario, step), sample_lipschitz(self.scenario, step)
            writer.measurement("flow", step, flow)
            writer.measurement("lipschitz", step, bounds)
            self.flow = flow_scalars(flow)
            writer.scalars(step, self.flow | lipschitz_scalars(bounds))
        return self.flow

    def loss(self, step: int) -> float:
        """Cross-entropy: falls from ln 10; at the saddle it first stays there."""
        if self.scenario == "saddle":
            step = max(0, step - 300)
        noise = 1 + 0.05 * self.random.gauss(0, 1)
        if self.scenario == "edge" and step > 100:
            noise += 0.6 * abs(math.sin(step * math.pi / 2))
        return (0.05 + 2.25 * math.exp(-step / (900 if self.scenario == "canyon" else 200))) * noise

    def reading(self, step: int, loss: float) -> dict[str, Any]:
        """One reading in the shape of `Reading.to_dict()`."""
        if step % COLD_EVERY == 0:
            self.spectrum = self.density(step)
        at_saddle = self.scenario == "saddle" and step < 350
        high = SHARPEST[self.scenario] * (1 - 0.7 * math.exp(-step / 150)) * (1 + 0.03 * self.random.gauss(0, 1))
        low = -0.8 if at_saddle else -0.05 * high * math.exp(-step / 400)
        definite = self.scenario == "canyon" and step > 400
        low = 0.02 if definite else low
        gradient = 2e-5 if at_saddle else 0.9 * math.exp(-step / 250) + 0.01
        return {
            "loss": loss,
            **_extremes(high, low, definite),
            **_counts(low, high, at_saddle, gradient),
            **_stability(high, LEARNING_RATE[self.scenario]),
            "trace": {"value": 6.5 * high, "standard_error": 0.1 * high},
            "density": self.spectrum,
            "gradient_norm": gradient, "num_matvecs": 52 if step % COLD_EVERY == 0 else 18,
            "cost_in_gradients": 98.0 if step % COLD_EVERY == 0 else 34.0, "probe_samples": 512,
            "method": "double_backward, graph kept", "matrix": "hessian", "num_parameters": NUM_PARAMETERS,
            "step": step, "kind": "cold" if step % COLD_EVERY == 0 else "warm",
            "spectrum_step": self.spectrum["step"],
            "self_check": {"symmetry": 1e-7, "finite_difference": 3e-4}, "measuring_share": 0.016,
            "notes": [],
        }  # fmt: skip

    def density(self, step: int) -> dict[str, Any]:
        """A bulk at zero with a tail, and ten outliers."""
        high = SHARPEST[self.scenario] * (1 - 0.7 * math.exp(-step / 150))
        grid = np.sinh(np.linspace(np.arcsinh(-20.0), np.arcsinh(20.0 * high), 400)) / 20
        width = 0.05 + 0.02 * high * math.exp(-step / 300)
        values = np.exp(-0.5 * (grid / width) ** 2) / (width * math.sqrt(2 * math.pi)) + 1e-3 * (grid > 0) / (1 + grid)
        outliers = [{"value": high * 0.85**k, "error": 1e-3 * high} for k in range(10)]
        return {
            "grid": grid.tolist(), "values": values.tolist(), "outliers": outliers,
            "bulk": [-3 * width, 3 * width], "step": step,
        }  # fmt: skip

    def write_alert(self, writer: RunWriter, step: int, values: dict[str, Any]) -> None:
        """A change of the scenario's rule, raised while its condition holds and cleared afterwards."""
        if self.scenario not in ACTIONS:
            return
        about = ACTIONS[self.scenario]
        value = values.get(about["metric"], 0.0)
        value = value[0] if isinstance(value, tuple) else value
        raised = value >= about["threshold"] and (self.scenario != "saddle" or step < 350)
        raised = value <= about["threshold"] if self.scenario == "vanishing" else raised
        level = ("critical" if self.scenario in ("saddle", "exploding") else "warning") if raised else "ok"
        if level != self.level:
            message = about["message"].format(value=value) if raised else "back to normal"
            writer.alert(step, {**about, "level": level, "step": step, "value": value, "message": message})
            self.level = level


def _extremes(high: float, low: float, definite: bool) -> dict[str, Any]:
    radius, resolution = max(high, -low), 1e-3 * high
    kappa = high / low if definite else None
    return {
        "lambda_max": {"value": high, "error": 1e-3 * high, "sampling_error": 0.03 * high},
        "lambda_min": {"value": low, "error": 2e-3 * abs(low) + 1e-4, "sampling_error": 0.1 * abs(low)},
        "spectral_radius": {"value": radius, "error": 1e-3 * radius},
        "resolution": resolution, "noise_floor": max(1e-3 * radius, resolution),
        "condition_number": {"value": kappa, "error": None if kappa is None else 0.01 * kappa},
        "condition_status": "definite" if definite else "indefinite",
        "condition_mean": {"value": 180.0 * high / 12, "standard_error": 7.0 * high / 12},
        "iterations_to_halve": {
            "value": None if kappa is None else math.log(2) / math.log((kappa + 1) / (kappa - 1)),
            "error": None if kappa is None else 0.003 * kappa,
        },
        "top_eigenvalues": [{"value": high * 0.85**k, "error": 1e-3 * high} for k in range(10)],
        "bottom_eigenvalues": [{"value": low * 0.7**k, "error": 2e-3} for k in range(3)],
    }  # fmt: skip


def _counts(low: float, high: float, at_saddle: bool, gradient: float) -> dict[str, Any]:
    certified = 3 if at_saddle else int(low < -0.02)
    verdict = "saddle" if at_saddle else "not_converged" if gradient > 0.02 else "minimum"
    reasons = {
        "saddle": "the gradient norm is 2e-05 and 3 eigenvalues are proven negative",
        "not_converged": f"the gradient norm {gradient:.2g} is not small yet",
        "minimum": "the gradient is small and no eigenvalue is proven negative",
    }
    return {
        "negative_count_certified": certified,
        "negative_count_estimate": {
            "value": 41.0 * -min(low, 0), "standard_error": 6.0, "resolved": at_saddle},
        "negative_share": {"value": max(0.0, -low) / high, "error": 0.002},
        "verdict": verdict, "verdict_reason": reasons[verdict],
        "escape": {"step": 0.5, "sign": 1, "predicted": 0.02, "measured": 0.018} if at_saddle else None,
    }  # fmt: skip


def _stability(high: float, learning_rate: float) -> dict[str, Any]:
    ratio = high * learning_rate / 2
    return {
        "stability_ratio": {"value": ratio, "error": 1e-3 * ratio, "optimizer": "SGD", "reason": None},
        "sharpness_score": {"value": 100 * ratio / (1 + ratio), "error": 0.1},
    }


def scalars_of(reading: dict[str, Any]) -> dict[str, Any]:
    """The metrics of a reading: numbers, or `(value, error)`; what is null is absent."""
    names = (
        "lambda_max", "lambda_min", "spectral_radius", "resolution", "noise_floor", "condition_number",
        "condition_mean", "iterations_to_halve", "negative_count_certified", "negative_count_estimate",
        "negative_share", "trace", "stability_ratio", "sharpness_score", "gradient_norm", "num_matvecs",
        "cost_in_gradients", "measuring_share",
    )  # fmt: skip
    scalars: dict[str, Any] = {}
    for name in names:
        entry = reading[name]
        if not isinstance(entry, dict):
            scalars[name] = entry
        elif entry["value"] is not None:
            scalars[name] = entry["value"], entry.get("error", entry.get("standard_error"))
    return scalars


def main() -> None:
    """Write a sample run, at once or live."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--scenario", choices=SCENARIOS, default="healthy")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--live", action="store_true", help="20 steps a second until interrupted")
    args = parser.parse_args()
    if not args.live:
        print(make_sample_run(args.path, args.scenario, args.steps))
        return
    writer = RunWriter(args.path, config=sample_config(args.scenario), environment=sample_environment())
    print(writer.path, flush=True)
    sample, clock, step = Sample(args.scenario), threading.Event(), 0
    try:
        while not clock.wait(0.05):
            sample.write(writer, step)
            step += 1
    except KeyboardInterrupt:
        writer.close()


if __name__ == "__main__":
    main()

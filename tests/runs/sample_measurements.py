"""Made-up measurements of signal flow and Lipschitz bounds, in the shape that `to_dict()` gives; a test holds it."""

import math
import random
from collections.abc import Sequence
from typing import Any

MEASURED = ("healthy", "exploding", "vanishing")  # the scenarios whose monitor measures them
GROWTH = {"healthy": 1.02, "exploding": 1.36, "vanishing": 0.62}  # of the gradient, a block
NAMES = {
    "healthy": [f"layers.{i}" for i in range(12)],
    "exploding": [f"net.{2 * i}" for i in range(30)],
    "vanishing": ["transformer.wte", *(f"transformer.h.{i}" for i in range(16)), "lm_head"],
}
REMEDIES = {
    "orthogonal_init": (
        "start again from orthogonal weights, each layer scaled so that a random signal keeps its size",
        "singular values near 1 carry gradients through any depth (Saxe et al. 2014; Mishkin & Matas 2016)",
    ),
    "residual": (
        "add each block's input to its output, x + F(x)/√30",
        "the Jacobian becomes I + ∂F/∂x: the path through I stays open (He et al. 2016)",
    ),
    "normalization": (
        "normalize each layer's output (LayerNorm; for convolutions GroupNorm or BatchNorm)",
        "what is rescaled to variance 1 can neither die out nor blow up on its way (Ba et al. 2016)",
    ),
}
INTEGERS = "its input is integers, which have no derivative"
ATTENTION = "transformer.h.0.attn: dot-product attention has no Lipschitz constant over all inputs"


def sample_flow(scenario: str, step: int, seed: int = 0) -> dict[str, Any]:
    """One check of a scenario; later ones drift a little further."""
    noise = random.Random(f"{scenario} {step} {seed}")
    drift = 1 + 0.03 * math.log1p(step / 50) * (scenario != "healthy")
    growth = GROWTH[scenario] ** drift
    names = NAMES[scenario]
    blocks = []
    for i, name in enumerate(names):
        bump = 1 + 0.5 * math.exp(-((i - len(names) * 0.4) ** 2) / 8) * (scenario == "exploding")
        rms = growth * bump * (1 + 0.05 * noise.gauss(0, 1))
        peak = (1.6 if scenario == "vanishing" else 3.0) * rms * (1 + 0.06 * noise.gauss(0, 1))
        blocks.append(sample_block(name, peak, rms, growth * (1 + 0.05 * noise.gauss(0, 1))))
    if scenario == "vanishing":
        blocks[0] = missing_block(names[0], INTEGERS)
    return flow_of(blocks, step)


def sample_block(name: str, peak: float, rms: float, growth: float) -> dict[str, Any]:
    """A block with numbers; the errors are those of a tolerance of 1 %."""
    return {
        "name": name, "about": "Linear + Tanh",
        "sigma_max": {"value": peak, "error": 0.01 * peak}, "sigma_rms": {"value": rms, "standard_error": 0.013 * rms},
        "sigma_min": None, "growth": growth,
        "activation_norm": {"input": 71.2, "output": 70.4}, "gradient_norm": {"input": 1.31, "output": 1.31 / growth},
        "shape": {"input": [128, 64], "output": [128, 64]}, "branch": None, "spectrum": None, "num_matvecs": 12,
        "stage": 1, "chain": 1, "modules": [name], "reason": None,
    }  # fmt: skip


def missing_block(name: str, reason: str) -> dict[str, Any]:
    """A block that could not be measured."""
    none = {"value": None, "reason": reason}
    absent = dict.fromkeys(("sigma_min", "growth", "activation_norm", "gradient_norm", "shape", "branch", "spectrum"))
    return {
        "name": name, "about": "Embedding", "sigma_max": none, "sigma_rms": none, **absent, "num_matvecs": 0,
        "stage": 0, "chain": 0, "modules": [], "reason": reason,
    }  # fmt: skip


def flow_of(blocks: Sequence[dict[str, Any]], step: int) -> dict[str, Any]:
    """The whole reading: growth, verdict, layers at fault, remedies."""
    known = [block for block in blocks if block["growth"]]
    total = sum(math.log(block["growth"]) for block in known)
    verdict = "exploding" if total > math.log(100) else "vanishing" if total < -math.log(100) else "healthy"
    hardest = sorted(known, key=lambda block: -abs(math.log(block["growth"])))[: len(known) // 3]
    faults = [block["name"] for block in known if block in hardest] if verdict != "healthy" else []
    way = f"{'up' if total > 0 else 'down'} {math.exp(abs(total)):,.3g}×"
    tried = {
        "verdict": "healthy", "growth": 1.01, "depth_factor": 1.35, "sigma_max": 1.8, "gradient_norm": 0.8,
        "reason": None,
    }  # fmt: skip
    remedies = [
        {"name": name, "what": what, "why": why, "tried": tried if name == "orthogonal_init" else None}
        for name, (what, why) in REMEDIES.items()
    ]
    return {
        "blocks": list(blocks), "growth": math.exp(total / len(known)), "depth_factor": math.exp(total),
        "verdict": verdict,
        "verdict_reason": f"from the last of {len(known)} blocks to the first the gradient's norm goes {way}",
        "severity": 117.0, "layers_at_fault": faults, "layer_at_fault": faults[0] if faults else None,
        "remedies": remedies if faults else [], "loss": 2.3, "gradient_norm": 1.31, "probe_samples": 128,
        "num_matvecs": 12 * len(known), "cost_in_gradients": 4.6, "seconds": 0.41, "step": step, "notes": [],
    }  # fmt: skip


def sample_lipschitz(scenario: str, step: int) -> dict[str, Any]:
    """One check of the bounds, which grow as the weights do; the transformer has none from above."""
    grown = 1 + 2 * (1 - math.exp(-step / 300))
    lower = {"healthy": 4.0, "exploding": 380.0, "vanishing": 0.02}[scenario] * grown
    bounded = scenario != "vanishing"
    upper = lower * (70.6 if scenario == "healthy" else 4.1e4) if bounded else None
    product = upper * (15 if scenario == "healthy" else 2.5e9) if upper is not None else None
    samples = [sample_radii(i, lower, upper) for i in range(16)]
    median = sorted(samples, key=lambda sample: sample["margin"])[8]
    found = f"found: one flips at {samples[0]['attacked_radius']:.2g}, half at {median['attacked_radius']:.2g}"
    risk = f"nothing is certified ({ATTENTION}); {found}. This rests on the attack alone, which shows danger and "
    risk += "never its absence."
    if bounded:
        risk = f"certified: no change of norm below {samples[0]['certified_radius']:.2g} flips any of 16 right answers "
        risk += f"(median {median['certified_radius']:.2g}); {found}. This rests on the certificate, a proof, and on "
        risk += "the attack, an example: the truth lies between."
    return {
        "layers": [sample_layer(name) for name in NAMES[scenario]],
        "lipschitz_lower": {"value": lower},
        "lipschitz_upper": {"value": upper} if bounded else {"value": None, "reason": ATTENTION},
        "lipschitz_product": {"value": product, "log10": math.log10(product)} if product is not None
        else {"value": None, "reason": ATTENTION, "log10": None},
        "ratio": upper / lower if upper is not None else None,
        "method": "eclipse_fast" if bounded else "composition",
        "no_global_bound": None if bounded else ATTENTION, "local": 0.8 * lower, "ball": "everywhere",
        "certified_radius": median["certified_radius"], "attacked_radius": median["attacked_radius"], "risk": risk,
        "probe_samples": 16, "num_matvecs": 40, "seconds": 1.7, "step": step, "samples": samples, "notes": [],
    }  # fmt: skip


def sample_layer(name: str) -> dict[str, Any]:
    """The norm of one layer."""
    return {
        "name": name, "kind": "Linear", "norm": 1.93, "method": "gram (fp64)", "exact": True, "lower": None,
        "input_shape": [1, 64],
    }  # fmt: skip


def sample_radii(index: int, lower: float, upper: float | None) -> dict[str, Any]:
    """One sample of the probe."""
    margin = 0.4 + 0.35 * index
    return {
        "index": index, "label": index % 10, "predicted": index % 10, "margin": margin,
        "certified_radius": None if upper is None else margin / upper, "attacked_radius": 1.9 * margin / lower,
        "searched_radius": 3.1 * margin / lower,
    }  # fmt: skip


def flow_scalars(flow: dict[str, Any]) -> dict[str, float]:
    """The metrics of a flow measurement."""
    return {name: flow[name] for name in ("growth", "depth_factor") if flow[name] is not None}


def lipschitz_scalars(found: dict[str, Any]) -> dict[str, float]:
    """The metrics of a Lipschitz measurement; of the product the logarithm."""
    bounds = {name: found[name]["value"] for name in ("lipschitz_lower", "lipschitz_upper")}
    values = {**bounds, "lipschitz_product": found["lipschitz_product"]["log10"]}
    values |= {name: found[name] for name in ("certified_radius", "attacked_radius")}
    return {name: value for name, value in values.items() if value is not None}

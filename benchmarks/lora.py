"""What does it cost to take an adapter out of two checkpoints, and how near is it to the best one?

    python benchmarks/lora.py [--sizes 768x2304,2048x2048] [--rank 8] [--json FILE]

ways     ours: ΔW truncated by `extract_lora`'s own code; svd: NumPy's dense SVD in fp64; pissa, pissa_niter_4 and
         pissa_niter_16: PEFT's PiSSA initialization of a layer whose weight is ΔW (its dense SVD in fp32, and
         torch.svd_lowrank with so many iterations), which makes the same two factors.
spectra  low: rank 8 and the rounding of fp32; decaying: σ_i = 1/i; flat: noise, where low rank fails.
Each way runs in a process of its own, on one thread: CPU seconds, the peak memory above what its imports and ΔW took,
the largest relative error of the leading singular values, and ‖ΔW − BA‖ over the least that any rank allows.
Then whole models: GPT-2 small's matrices with an update of rank 16 in each, stored as fp32 and as bf16.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from meter import environment, memory_now, memory_peak, one_thread

one_thread()  # before NumPy is imported, which the imports below (E402) therefore follow

import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor  # noqa: E402

from eigenscope.adapters.spectrum import factor_spectrum  # noqa: E402

WAYS = ("ours", "svd", "pissa", "pissa_niter_4", "pissa_niter_16")
SPECTRA: dict[str, Callable[[int], np.ndarray]] = {
    "low": lambda n: np.where(np.arange(n) < 8, np.linspace(1, 0.3, n), 0.0),
    "decaying": lambda n: 1 / np.arange(1, n + 1),
    "flat": lambda n: np.sqrt(np.linspace(4, 0.01, n)),
}
GPT2 = {"attn.c_attn": (768, 2304), "attn.c_proj": (768, 768), "mlp.c_fc": (768, 3072), "mlp.c_proj": (3072, 768)}
Factors = tuple[Tensor, Tensor]


def change(kind: str, rows: int, columns: int) -> Tensor:
    """ΔW in fp32, of a known spectrum, beside which fp32 leaves its rounding."""
    generator = torch.Generator().manual_seed(0)
    sigma = torch.from_numpy(SPECTRA[kind](min(rows, columns)))
    left = torch.linalg.qr(torch.randn(rows, len(sigma), generator=generator).double())[0]
    right = torch.linalg.qr(torch.randn(columns, len(sigma), generator=generator).double())[0]
    return ((left * sigma) @ right.T).float()


def ours(weight: Tensor, rank: int) -> Factors:
    from eigenscope.adapters.factoring import Wish, factored
    from eigenscope.adapters.rounding import roundings
    from eigenscope.checkpoints import Entry

    base, entry = torch.zeros_like(weight), Entry.of("w", weight.shape, weight.dtype)
    wide = weight.double()
    found = factored(wide, roundings(base, weight, wide, (entry, entry)), Wish(rank, 0.95), torch.float32)
    return found.b, found.a


def svd(weight: Tensor, rank: int) -> Factors:
    u, sigma, vt = np.linalg.svd(weight.double().numpy(), full_matrices=False)
    root = np.sqrt(sigma[:rank])
    return torch.from_numpy(u[:, :rank] * root).float(), torch.from_numpy(root[:, None] * vt[:rank]).float()


def pissa(weight: Tensor, rank: int, way: str = "pissa") -> Factors:
    from peft import LoraConfig, get_peft_model

    model = torch.nn.Sequential(torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False))
    model[0].weight.data = weight.clone()
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["0"], init_lora_weights=way)
    layer = get_peft_model(model, config).base_model.model[0]
    return layer.lora_B["default"].weight.data, layer.lora_A["default"].weight.data


def in_a_process(way: str, kind: str, size: str, rank: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", way, kind, size, str(rank)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def child(way: str, kind: str, size: str, rank: int) -> dict[str, float]:
    """One way on one matrix; what is only loaded once is loaded by a small one before."""
    work = {"ours": ours, "svd": svd}.get(way) or (lambda weight, rank: pissa(weight, rank, way))
    work(torch.randn(64, 64), 4)
    weight = change(kind, *map(int, size.split("x")))
    before, start = memory_now(), time.process_time()
    b, a = work(weight, rank)
    spent, peak = time.process_time() - start, memory_peak() - before
    sigma = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    found = factor_spectrum(a, b).values
    best = float(np.linalg.norm(sigma[rank:]))
    left = float(torch.linalg.matrix_norm(weight.double() - b.double() @ a.double()))
    return {
        "seconds": spent,
        "peak_mb": peak,
        "sigma_error": float(np.max(np.abs(found - sigma[:rank]) / sigma[:rank])),
        "residual": left / float(np.linalg.norm(sigma)),
        "residual_over_best": left / best,
    }


def model_pair(folder: Path, dtype: torch.dtype, rank: int = 16) -> tuple[Path, Path]:
    """GPT-2 small's shapes, Gaussian weights, and an update of this rank in each of its 48 matrices."""
    generator = torch.Generator().manual_seed(0)
    base, tuned = {}, {}
    for layer in range(12):
        for name, (rows, columns) in GPT2.items():
            key = f"transformer.h.{layer}.{name}.weight"
            weight = 0.02 * torch.randn(rows, columns, generator=generator)
            a, b = (torch.randn(s, generator=generator) for s in ((rank, columns), (rows, rank)))
            base[key] = weight.to(dtype)
            tuned[key] = (base[key].float() + 2e-3 * b @ a / rank**0.5).to(dtype)
    paths = folder / f"base-{dtype}.safetensors", folder / f"tuned-{dtype}.safetensors"
    save_file(base, paths[0])
    save_file(tuned, paths[1])
    return paths


def whole(base: str, tuned: str) -> dict[str, float]:
    from eigenscope.adapters.extracting import extract_lora

    small = torch.randn(64, 64)
    extract_lora({"a.weight": small}, {"a.weight": small + 1})
    before, start = memory_now(), time.process_time()
    report = extract_lora(base, tuned).report
    return {
        "seconds": time.process_time() - start,
        "peak_mb": memory_peak() - before,
        "checkpoint_mb": Path(base).stat().st_size / 2**20,
        "ranks": sorted({layer.rank for layer in report.layers}),
        "parameters": report.parameters,
        "parameters_full": report.parameters_full,
        "residual": report.residual,
    }


def models() -> dict[str, dict[str, float]]:
    found = {}
    with TemporaryDirectory() as folder:
        for dtype in (torch.float32, torch.bfloat16):
            base, tuned = model_pair(Path(folder), dtype)
            command = [sys.executable, __file__, "--whole", str(base), str(tuned)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[str(dtype).removeprefix("torch.")] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def show(found: dict) -> None:
    for title, rows in found["matrices"].items():
        print(title)
        for way, row in rows.items():
            errors = f"σ to {row['sigma_error']:.1e}, left over {row['residual_over_best']:.6f} of the least"
            print(f"  {way:15} {row['seconds']:7.2f} s  +{row['peak_mb']:4.0f} MB  {errors}")
    for dtype, row in found["models"].items():
        size = f"{row['parameters']:,} of {row['parameters_full']:,} numbers, ranks {row['ranks']}"
        cost = f"{row['seconds']:.1f} s, +{row['peak_mb']:.0f} MB beside checkpoints of {row['checkpoint_mb']:.0f} MB"
        print(f"GPT-2 small's 48 matrices in {dtype}: {size}; {cost}; left over {row['residual']:.1e}")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        way, kind, size, rank = sys.argv[2:6]
        print(json.dumps(child(way, kind, size, int(rank))))
        return
    if sys.argv[1:2] == ["--whole"]:
        print(json.dumps(whole(*sys.argv[2:4])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="768x2304,2048x2048")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    matrices = {
        f"{size}, {kind}, rank {options.rank}": {way: in_a_process(way, kind, size, options.rank) for way in WAYS}
        for size in options.sizes.split(",")
        for kind in SPECTRA
    }
    found = {"environment": environment("cpu"), "matrices": matrices, "models": models()}
    show(found)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

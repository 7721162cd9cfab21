"""Ranks, sizes and residuals of an extraction, against the dense SVD of ΔW; and what it costs in memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from eigenscope.adapters.extracting import extract_lora
from eigenscope.checkpoints import open_checkpoint
from eigenscope.scanning.compare import compare
from zoo import shared_data


def with_spectrum(sigma, rows=60, columns=80, seed=0):
    """A matrix with these singular values."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((rows, len(sigma)), (columns, len(sigma)))
    left, right = (torch.linalg.qr(torch.randn(shape, generator=generator).double())[0] for shape in shapes)
    return (left * torch.tensor(sigma, dtype=torch.float64)) @ right.T


def layers(base, tuned, **options):
    return extract_lora({"layer.weight": base}, {"layer.weight": tuned}, **options)


@pytest.mark.parametrize(
    ("energy", "rank"),
    [(0.6, 1), (0.9, 2), (0.95, 3), (0.99, 4)],
)
def test_the_energy_decides_where_it_is_asked_for(energy, rank):
    """σ = 8, 4, 2, 1: of Σσ² = 85 the first hold 75 %, 94 %, 99 %… and 0.988 < 0.99 of three."""
    base = torch.randn(60, 80).double()
    adapter = layers(base, base + with_spectrum([8.0, 4.0, 2.0, 1.0]), rank=None, energy=energy)
    (layer,) = adapter.report.layers
    assert (layer.rank, layer.chosen_by) == (rank, "energy" if rank < 4 else layer.chosen_by)
    held = sum(s**2 for s in [8, 4, 2, 1][:rank]) / 85
    assert layer.energy == pytest.approx(held, abs=1e-6)
    assert layer.residual == pytest.approx((1 - held) ** 0.5, abs=1e-6)
    following = [8.0, 4.0, 2.0, 1.0, 0.0][rank]
    assert layer.residual_spectral == pytest.approx(following, rel=1e-3, abs=1e-5)


def test_a_low_rank_is_kept_whole_unless_a_share_is_asked_for():
    base = torch.randn(60, 80).double()
    (layer,) = layers(base, base + with_spectrum([8.0, 4.0, 2.0, 1.0])).report.layers
    assert (layer.rank, layer.rank_of_change, layer.chosen_by) == (4, 4, "exact")
    assert layer.residual < 1e-6


def test_a_change_of_full_rank_is_cut_by_energy_and_says_so():
    base = torch.randn(60, 80)
    sigma = [0.9**k for k in range(60)]
    (layer,) = (adapter := layers(base, base + with_spectrum(sigma).float())).report.layers
    squares = torch.tensor(sigma) ** 2
    least = int((squares.cumsum(0) < 0.95 * squares.sum()).sum()) + 1
    assert (layer.rank, layer.chosen_by) == (least, "energy")
    assert layer.energy >= 0.95 - 1e-6
    assert "low rank hardly pays" not in " ".join(adapter.report.notes)


def test_a_flat_change_goes_whole_because_factors_would_be_larger():
    base = torch.randn(60, 80)
    tuned = {"flat.weight": base + torch.randn(60, 80), "low.weight": base + with_spectrum([1.0]).float()}
    adapter = extract_lora({"flat.weight": base, "low.weight": base}, tuned)
    (whole,) = adapter.report.whole
    assert whole.name == "flat.weight"
    assert whole.reason.startswith("flat: factors of rank ")
    assert adapter.config["modules_to_save"] == ["flat"]


def test_more_rank_than_there_is_stays_unused():
    base = torch.randn(60, 80)
    (layer,) = layers(base, base + with_spectrum([3.0, 2.0]).float(), rank=20).report.layers
    assert (layer.rank, layer.chosen_by, layer.rank_of_change) == (2, "rounding", 2)


def test_sizes_are_those_of_the_factors():
    """4096 × 4096 at rank 8: 65,536 numbers of 16,777,216."""
    base = torch.zeros(4096, 4096, dtype=torch.bfloat16)
    base[0, 0] = 1.0
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(4096, 8, generator=generator) for _ in range(2))
    adapter = layers(base.float(), base.float() + left @ right.T)
    (layer,) = adapter.report.layers
    assert (layer.rank, layer.parameters, layer.parameters_full) == (8, 65_536, 16_777_216)
    assert (adapter.report.parameters, adapter.report.bytes) == (65_536, 4 * 65_536)
    assert layer.residual < 1e-6


def test_ranks_that_differ_are_in_the_patterns_of_peft():
    base = {f"block.{i}.layer.weight": torch.randn(60, 80) for i in range(4)}
    ranks = {0: 2, 1: 5, 2: 2, 3: 1}
    tuned = {
        name: weight + with_spectrum([1.0] * ranks[i], seed=10 * i).float()
        for i, (name, weight) in enumerate(base.items())
    }
    config = extract_lora(base, tuned).config
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (2, 2, ["layer"])
    assert config["rank_pattern"] == config["alpha_pattern"] == {r"block\.1\.layer": 5, r"block\.3\.layer": 1}


def test_what_differs_by_rounding_alone_is_left_as_it_is():
    """bf16 stores to 8 bits: values differ, no direction does."""
    base = {"a.weight": torch.randn(64, 64), "b.weight": torch.randn(64, 64), "norm.weight": torch.rand(64)}
    tuned = {name: value.bfloat16() for name, value in base.items()}
    tuned["a.weight"] = (base["a.weight"] + with_spectrum([5.0, 3.0], 64, 64).float()).bfloat16()
    report = extract_lora(base, tuned).report
    assert [(layer.name, layer.rank) for layer in report.layers] == [("a", 2)]
    assert set(report.rounded) == {"b.weight", "norm.weight"}
    assert report.whole == ()


def test_the_tigrinya_adapter_comes_back_from_gpt2_s_own_weights(tmp_path):
    """The real adapter on the real block 0: merged in fp32, extracted, and the factors multiply to the same ΔW."""
    path = shared_data("weights/gpt2-small-block0.safetensors")
    base = load_file(path)
    with open_checkpoint(shared_data("adapters/gpt2-tigrinya")) as adapter:
        updates = {e.name: adapter.load(e.name) for e in adapter.entries if e.name in base and e.aside is None}
    assert updates.keys() == {"transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_proj.weight"}
    tuned = {name: (w.double() + updates[name].T).float() if name in updates else w for name, w in base.items()}
    save_file(tuned, tmp_path / "tuned.safetensors")
    found = extract_lora(path, tmp_path / "tuned.safetensors")
    found.save(tmp_path / "adapter")
    assert {(layer.rank, layer.kind) for layer in found.report.layers} == {(8, "conv1d")}
    assert found.config["fan_in_fan_out"] is True
    sizes = {layer.name.rpartition(".")[2]: layer.relative_size for layer in found.report.layers}
    assert sizes["c_attn"] == pytest.approx(0.016, abs=5e-4)
    with open_checkpoint(tmp_path / "adapter") as again:
        for name, update in updates.items():
            error = float((again.load(name) - update).norm() / update.norm())
            assert error < 1e-5, "fp32 rounds W + ΔW to 6·10⁻⁸ of W, which is 60 times ΔW"
    shares = {change.name: change.difference.rank for change in compare(path, tmp_path / "adapter").changes}
    assert shares["transformer.h.0.attn.c_attn.weight"] == 8


_PEAK = """
import json, sys
from pathlib import Path
import torch

def megabytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024

torch.set_num_threads(1)
from eigenscope.adapters.extracting import extract_lora
folder, count = sys.argv[1], int(sys.argv[2])
paths = f"{folder}/base-{count}.safetensors", f"{folder}/tuned-{count}.safetensors"
extract_lora(*paths)  # loads once whatever these matrices need
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
before = megabytes("VmRSS:")
found = extract_lora(*paths)
print(json.dumps({"mb": megabytes("VmHWM:") - before, "layers": len(found.report.layers)}))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux, which tells the peak of a part")
def test_memory_is_that_of_one_tensor_however_many_there_are(tmp_path):
    """Two and ten matrices of 4 MB: a peak of a few copies of one in fp64, and of the factors."""
    peaks = {}
    for count in (2, 10):
        base = {f"layers.{i}.weight": torch.randn(1024, 1024) for i in range(count)}
        tuned = {name: weight + torch.randn(1024, 2) @ torch.randn(2, 1024) for name, weight in base.items()}
        save_file(base, tmp_path / f"base-{count}.safetensors")
        save_file(tuned, tmp_path / f"tuned-{count}.safetensors")
        command = [sys.executable, "-c", _PEAK, str(tmp_path), str(count)]
        held = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is let go goes back at once: no gaps count
        ended = subprocess.run(command, capture_output=True, text=True, check=True, env=held)
        found = json.loads(ended.stdout)
        assert found["layers"] == count
        peaks[count] = found["mb"]
    assert 8 < peaks[2] < 120, f"{peaks}: at least ΔW in fp64"
    assert peaks[10] < peaks[2] + 40, f"{peaks}: the eight more are 64 MB in both checkpoints"

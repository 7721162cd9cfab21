"""Compressions to show: records with every kind of row, and names that would like to be markup."""

import math

import numpy as np

from eigenscope.compression.report import (
    CompressionReport,
    Latency,
    LayerReport,
    Skipped,
    TradeOff,
    TradeOffPoint,
)
from eigenscope.scanning.scan import scan
from eigenscope.weights.reading import WeightReading
from reports.scans import EVIL, matrix

FEW_GAINS = "low rank saves nothing in 1 layer: its spectrum is flat"


def layer(name, rows, columns, rank, error=0.1, **changed) -> LayerReport:
    """A dense layer with a bias; `rank=None` is one that was left as it is."""
    before = rows * columns + rows
    after = before if rank is None else rank * (rows + columns) + rows
    known = {
        "name": name, "kind": "linear", "shape": (rows, columns), "rank": rank, "rank_full": min(rows, columns),
        "parameters": before, "parameters_after": after, "kept": after / before,
        "weight_error": 0.0 if rank is None else 2 * error, "weight_error_bound": 0.0 if rank is None else 1.5 * error,
        "output_error": 0.0 if rank is None else error, "output_error_bound": 0.0 if rank is None else 0.9 * error,
        "reason": "two thin layers would be no smaller at the rank it needs" if rank is None else None,
    }  # fmt: skip
    return LayerReport(**known | changed)


def layers() -> tuple[LayerReport, ...]:
    """Six blocks of two kinds, one left as it is, and an evil name."""
    rows = []
    for block in range(6):
        name = f"encoder.layer.{block}"
        rows.append(layer(f"{name}.attention.query", 24, 24, None if block == 5 else 4 + block, 0.02 + block / 50))
        rows.append(layer(f"{name}.mlp.up", 48, 24, 6 + block, 0.05 + block / 40))
    return (*rows, layer(EVIL, 25, 26, 5, 0.3))


def report(**changed) -> CompressionReport:
    """Measured on 64 samples, slower than before, with a metric of the user's own."""
    found = layers()
    saved = sum(item.parameters - item.parameters_after for item in found)
    compressible = sum(item.parameters for item in found)
    known = {
        "method": "activation", "refit": False, "target": {"keep": 0.6}, "kept": 1 - saved / compressible,
        "kept_of_model": 1 - saved / 20_000, "parameters": 20_000, "parameters_after": 20_000 - saved,
        "memory_bytes": 80_000, "memory_bytes_after": 80_000 - 4 * saved, "flops": 2_560_000,
        "flops_after": 1_800_000, "flops_reason": None, "latency": Latency(1.2, 1.1, 1.35, 20),
        "latency_after": Latency(1.5, 1.4, 1.7, 20), "output_error": 0.0873, "metric": 0.912, "metric_after": 0.905,
        "samples": 64, "layers": found, "skipped": (Skipped("conv.depthwise", "Conv2d", 288, "grouped convolution"),),
        "notes": ("latency got worse, 1.2 → 1.5 ms: layers this small are bound by overhead", FEW_GAINS),
        "seconds": 3.21,
    }  # fmt: skip
    return CompressionReport(**known | changed)


def uncalibrated() -> CompressionReport:
    """Plain truncation without data: nothing of the outputs is known."""
    blind = tuple(LayerReport(**{**vars(item), "output_error": None, "output_error_bound": None}) for item in layers())
    missing = dict.fromkeys(
        ("flops", "flops_after", "latency", "latency_after", "output_error", "metric", "metric_after", "samples")
    )
    return report(
        method="plain",
        layers=blind,
        notes=(),
        flops_reason="counted on a calibration batch, and there is none",
        **missing,
    )


def trade_off(**changed) -> TradeOff:
    """Seven budgets, the last of them out of reach."""
    keeps = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
    points = tuple(
        TradeOffPoint(
            keep, max(keep, 0.35), 0.3 + 0.7 * max(keep, 0.35), round(20_000 * (0.3 + 0.7 * max(keep, 0.35))), 13,
            0.4 * (1 - keep) ** 2, 0.6 * (1 - keep), 0.912 - 0.3 * (1 - keep) ** 3, 1.2 + 0.2 * keep,
        )
        for keep in keeps
    )  # fmt: skip
    known = {
        "method": "activation", "parameters": 20_000, "compressible": 14_000, "metric": 0.912, "latency_ms": 1.2,
        "points": points, "skipped": (Skipped(EVIL, "Conv2d", 288, "grouped convolution"),),
        "notes": ("keep=0.3 is out of reach: with rank 1 everywhere 35 % are left",), "seconds": 1.5,
    }  # fmt: skip
    return TradeOff(**known | changed)


def uncalibrated_trade_off() -> TradeOff:
    """Of the weights alone."""
    missing = {"output_error": None, "metric": None, "latency_ms": None}
    points = tuple(TradeOffPoint(**{**vars(point), **missing}) for point in trade_off().points)
    return trade_off(method="plain", metric=None, latency_ms=None, points=points, notes=())


def spectra() -> dict[str, WeightReading]:
    """Of weights of those shapes that fall off."""
    state = {item.name: matrix(*item.shape, seed, 1.0) for seed, item in enumerate(layers())}
    found = {row.name: row.reading for row in scan(state).matrices if row.reading is not None}
    assert all(np.isfinite(reading.frobenius_norm) and not math.isnan(reading.rank) for reading in found.values())
    return found

"""eigenscope: the instrument panel for neural-network training."""

from eigenscope import actions
from eigenscope.adapters.adapter import Adapter
from eigenscope.adapters.extracting import extract_lora
from eigenscope.adapters.inspecting import inspect_lora
from eigenscope.adapters.merging import merge_lora
from eigenscope.adapters.resizing import resize_lora
from eigenscope.bounds.certify import lipschitz
from eigenscope.compression.compressing import Compressed, compress
from eigenscope.compression.pricing import compression_curve
from eigenscope.compression.report import CompressionReport, TradeOff
from eigenscope.compression.saving import load_compressed
from eigenscope.errors import EigenscopeError, InputError, MeasurementError, RunFileError
from eigenscope.flow.signal import signal_flow
from eigenscope.leading import sharpness
from eigenscope.look import curvature
from eigenscope.lowrank.principal import PCA
from eigenscope.lowrank.result import TruncatedSVD
from eigenscope.lowrank.truncation import truncated_svd
from eigenscope.monitor import Monitor
from eigenscope.runs import Run, Series, load_run
from eigenscope.scanning.compare import compare
from eigenscope.scanning.scan import scan
from eigenscope.settings import Settings

__all__ = [  # noqa: RUF022  as Python sorts: PCA is no constant
    "Adapter",
    "Compressed",
    "CompressionReport",
    "EigenscopeError",
    "InputError",
    "MeasurementError",
    "Monitor",
    "PCA",
    "Run",
    "RunFileError",
    "Series",
    "Settings",
    "TradeOff",
    "TruncatedSVD",
    "actions",
    "compare",
    "compress",
    "compression_curve",
    "curvature",
    "extract_lora",
    "inspect_lora",
    "lipschitz",
    "load_compressed",
    "load_run",
    "merge_lora",
    "resize_lora",
    "scan",
    "sharpness",
    "signal_flow",
    "truncated_svd",
]

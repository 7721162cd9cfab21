"""eigenscope: the instrument panel for neural-network training."""

from eigenscope.bounds.certify import lipschitz
from eigenscope.errors import EigenscopeError, InputError, MeasurementError, RunFileError
from eigenscope.flow.signal import signal_flow
from eigenscope.leading import sharpness
from eigenscope.look import curvature
from eigenscope.monitor import Monitor
from eigenscope.runs import Run, Series, load_run
from eigenscope.scanning.compare import compare
from eigenscope.scanning.scan import scan
from eigenscope.settings import Settings

__all__ = [
    "EigenscopeError",
    "InputError",
    "MeasurementError",
    "Monitor",
    "Run",
    "RunFileError",
    "Series",
    "Settings",
    "compare",
    "curvature",
    "lipschitz",
    "load_run",
    "scan",
    "sharpness",
    "signal_flow",
]

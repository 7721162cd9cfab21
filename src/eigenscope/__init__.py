"""eigenscope: the instrument panel for neural-network training."""

from eigenscope.curvature import curvature
from eigenscope.errors import EigenscopeError, InputError, MeasurementError, RunFileError
from eigenscope.monitor import Monitor
from eigenscope.runs import Run, Series, load_run
from eigenscope.sharpness import sharpness

__all__ = [
    "EigenscopeError",
    "InputError",
    "MeasurementError",
    "Monitor",
    "Run",
    "RunFileError",
    "Series",
    "curvature",
    "load_run",
    "sharpness",
]

"""How we look: spectra from products, with error bars. Nothing here knows a model."""

from eigenscope.estimators.density import SpectralMeasure, smoothed, spectral_measure
from eigenscope.estimators.lanczos import Krylov, Quadrature, RitzPairs, lanczos
from eigenscope.estimators.trace import TraceEstimate, deflated_trace

__all__ = [
    "Krylov",
    "Quadrature",
    "RitzPairs",
    "SpectralMeasure",
    "TraceEstimate",
    "deflated_trace",
    "lanczos",
    "smoothed",
    "spectral_measure",
]

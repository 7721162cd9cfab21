"""eigenscope: the instrument panel for neural-network training."""

from eigenscope.curvature import curvature

__all__ = ["curvature"]

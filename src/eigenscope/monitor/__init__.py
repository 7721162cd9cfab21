"""The training loop: when to measure, what to raise."""

from eigenscope.monitor.monitor import Monitor

__all__ = ["Monitor"]

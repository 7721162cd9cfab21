"""What can be done about what the panel shows: each action also works alone, and can be taken back."""

from eigenscope.actions.base import Action
from eigenscope.actions.clip_gradients import ClipGradients
from eigenscope.actions.control_step import ControlStep
from eigenscope.actions.curvature_scaled import CurvatureScaledStep
from eigenscope.actions.escape_saddle import EscapeSaddle
from eigenscope.actions.evidence import Evidence
from eigenscope.actions.registry import ACTIONS, answering, chosen, register
from eigenscope.actions.reinitialize import Reinitialize
from eigenscope.actions.rescale import Rescale
from eigenscope.actions.sharpness_aware import SharpnessAware
from eigenscope.actions.situation import Situation
from eigenscope.actions.snapshot import Snapshot
from eigenscope.actions.spectral_normalize import SpectralNormalize
from eigenscope.actions.switch_optimizer import SwitchOptimizer

for _action in (
    ControlStep, EscapeSaddle, Reinitialize, SpectralNormalize, Rescale, SwitchOptimizer, ClipGradients,
    CurvatureScaledStep, SharpnessAware,
):  # fmt: skip
    register(_action)

__all__ = [
    "ACTIONS",
    "Action",
    "ClipGradients",
    "ControlStep",
    "CurvatureScaledStep",
    "EscapeSaddle",
    "Evidence",
    "Reinitialize",
    "Rescale",
    "SharpnessAware",
    "Situation",
    "Snapshot",
    "SpectralNormalize",
    "SwitchOptimizer",
    "answering",
    "chosen",
    "register",
]

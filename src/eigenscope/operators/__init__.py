"""What we look at: matrices known by their products."""

from eigenscope.operators.base import Operator
from eigenscope.operators.dense import DenseOperator
from eigenscope.operators.gauss_newton import GaussNewtonOperator
from eigenscope.operators.hessian import HessianOperator
from eigenscope.operators.probe import Probe
from eigenscope.operators.scaled import ScaledOperator
from eigenscope.operators.space import Basis, VectorSpace

__all__ = [
    "Basis",
    "DenseOperator",
    "GaussNewtonOperator",
    "HessianOperator",
    "Operator",
    "Probe",
    "ScaledOperator",
    "VectorSpace",
]

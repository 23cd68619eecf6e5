"""Analysis of error surfaces: curvature, stability, noise and initialisation of a model at a point.

All functions compute in float64 and only read the model. Formulas and slides: docs/analysis.md.
"""

from .convergence import ConvergenceFactors, convergence_factors
from .critical import CriticalPoint, classify_critical_point
from .derivatives import Eigenpairs, eigenvalues, gradient, hessian, hvp
from .initialization import IdenticalUnits, LayerVariances, identical_units, variance_by_layer
from .noise import GradientNoise, gradient_noise
from .objective import Objective, in_float64
from .quadratic import QuadraticModel, Quality
from .recorder import PathRecorder
from .stability import condition_number, effective_lr, effective_parameters, max_stable_lr
from .surface import LossSurface, ProjectedPath, loss_surface

__all__ = [
    "ConvergenceFactors",
    "CriticalPoint",
    "Eigenpairs",
    "GradientNoise",
    "IdenticalUnits",
    "LayerVariances",
    "LossSurface",
    "Objective",
    "PathRecorder",
    "ProjectedPath",
    "QuadraticModel",
    "Quality",
    "classify_critical_point",
    "condition_number",
    "convergence_factors",
    "effective_lr",
    "effective_parameters",
    "eigenvalues",
    "gradient",
    "gradient_noise",
    "hessian",
    "hvp",
    "identical_units",
    "in_float64",
    "loss_surface",
    "max_stable_lr",
    "variance_by_layer",
]

"""Error surfaces as library calls: curvature, stability, noise and initialisation of a model at a point.

All of it is in float64 and only reads the model. Formulas and slides: docs/analysis.md.
"""

from .derivatives import Eigenpairs, eigenvalues, gradient, hessian, hvp
from .objective import Objective, in_float64

__all__ = ["Eigenpairs", "Objective", "eigenvalues", "gradient", "hessian", "hvp", "in_float64"]

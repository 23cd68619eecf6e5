"""`classify_critical_point`: minimum, maximum or saddle, by the signs of the eigenvalues (chapter, slide 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Data
from ..internal.checks import real
from ..internal.display import Shown
from ..model import Sequential
from .derivatives import MEMORY_LIMIT
from .objective import Mode, Objective, Vector
from .quadratic import QuadraticModel, as_quadratic, rounding, scale
from .stability import warn_of_rounding

__all__ = ["CriticalPoint", "classify_critical_point"]

CRITICAL = 1e-6  # distance to a zero gradient that counts as zero, relative to the length of the point

Verdict: TypeAlias = Literal["minimum", "maximum", "saddle", "degenerate", "not critical"]


@dataclass(frozen=True, eq=False)
class CriticalPoint(Shown):
    """The result of `classify_critical_point`.

    Attributes
    ----------
    verdict : {"minimum", "maximum", "saddle", "degenerate", "not critical"}
        See `classify_critical_point`.
    positive, negative, zero : int
        Numbers of eigenvalues above `tolerance`, below -`tolerance`, and between: P in total.
    eigenvalues : ndarray
        All eigenvalues, ascending, shape (P,).
    tolerance : float
        The magnitude up to which an eigenvalue counts as zero.
    gradient_norm : float
        ‖∇E‖ at the point.
    gradient_tolerance : float
        The largest gradient norm that counts as zero.
    value : float
        E at the point.
    """

    verdict: Verdict
    positive: int
    negative: int
    zero: int
    eigenvalues: Vector
    tolerance: float
    gradient_norm: float
    gradient_tolerance: float
    value: float

    def __str__(self) -> str:
        """Return the verdict, eigenvalue counts and gradient norm, in three lines."""
        relation = "at most" if self.gradient_norm <= self.gradient_tolerance else "more than"
        return (
            f"{self.verdict}: E = {self.value:.6g}\n"
            f"  eigenvalues: {self.positive} positive, {self.negative} negative, {self.zero} zero (to "
            f"{self.tolerance:.2g}), from {self.eigenvalues[0]:.4g} to {self.eigenvalues[-1]:.4g}\n"
            f"  gradient norm: {self.gradient_norm:.3g}, {relation} the tolerance of {self.gradient_tolerance:.2g}"
        )


@explained
def classify_critical_point(
    model: Sequential | Objective | QuadraticModel,
    loss: _core.Loss | None = None,
    x: Data | None = None,
    y: Data | None = None,
    *,
    tolerance: float | None = None,
    gradient_tolerance: float | None = None,
    at: npt.ArrayLike | None = None,
    mode: Mode = "training",
    sample_weight: Data | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> CriticalPoint:
    """Classify the critical point of the loss at the model's parameters by the eigenvalues of its Hessian (slide 8).

    - "minimum": all eigenvalues are positive; "maximum": all are negative.
    - "saddle": some are positive and some negative. Zeros do not change this: E rises in one direction and falls in
      another.
    - "degenerate": some are zero, and the others, if any, have one sign: second derivatives do not determine E along
      the flat directions. A unit that no row of the data activates causes such directions.
    - "not critical": the gradient is not zero. The counts are given all the same.

    Parameters
    ----------
    model : Sequential, Objective or QuadraticModel
        A model in float64, together with `loss`, `x` and `y`; or an objective or a quadratic model alone.
    loss, x, y, at, mode, sample_weight, memory_limit
        As for `QuadraticModel`.
    tolerance : float, optional
        The magnitude up to which an eigenvalue counts as zero. Default: 8 P ε max|λ| (ε = 2⁻⁵²), which covers rounding
        only.
    gradient_tolerance : float, optional
        The largest ‖∇E‖ that counts as zero. Default: 1e-6 max|λ| max(1, ‖w‖), the gradient at a distance of one
        millionth of the point's length along the direction of the largest curvature.

    Returns
    -------
    CriticalPoint
        The verdict, eigenvalues and gradient norm.

    Warns
    -----
    RuntimeWarning
        If, at a minimum or maximum by the default `tolerance`, the smallest eigenvalue is below 1e-10 of the largest,
        hardly above its rounding.

    Raises
    ------
    TypeError, ValueError
        As for `QuadraticModel`, and if a tolerance is not a number of at least 0.

    Notes
    -----
    Training stops near critical points, not at them. The remaining gradient also shifts eigenvalues: set `tolerance`
    if small ones decide. The loss of classes that the network separates has no minimum without weight decay: the
    weights grow without end, and gradient and curvature go to 0 together. An `Objective` with weight decay has one.
    """
    zero = None if tolerance is None else real(tolerance, "tolerance", low=0.0)
    flat = None if gradient_tolerance is None else real(gradient_tolerance, "gradient_tolerance", low=0.0)
    quadratic = as_quadratic(
        model, loss, x, y, at=at, mode=mode, sample_weight=sample_weight, memory_limit=memory_limit
    )
    values = quadratic.eigenvalues
    zero = rounding(values) if zero is None else zero
    flat = CRITICAL * float(np.max(np.abs(values))) * scale(quadratic.center) if flat is None else flat
    positive, negative = int(np.sum(values > zero)), int(np.sum(values < -zero))
    gradient_norm = float(np.linalg.norm(quadratic.b))
    verdict = "not critical" if gradient_norm > flat else _by_signs(positive, negative, len(values))
    if tolerance is None and verdict in ("minimum", "maximum"):
        warn_of_rounding(values, quadratic.objective)
    return CriticalPoint(
        verdict=verdict,
        positive=positive,
        negative=negative,
        zero=len(values) - positive - negative,
        eigenvalues=values,
        tolerance=zero,
        gradient_norm=gradient_norm,
        gradient_tolerance=flat,
        value=quadratic.value,
    )


def _by_signs(positive: int, negative: int, size: int) -> Verdict:
    """Return the verdict for a point of zero gradient."""
    if positive and negative:
        return "saddle"
    if positive == size:
        return "minimum"
    return "maximum" if negative == size else "degenerate"

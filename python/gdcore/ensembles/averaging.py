"""Means of the predictions of models: of probabilities, or of outputs as they are; summed in float64 in a fixed order.

Probabilities have the shape (rows, C) for classes, and (rows, K, 2), of no and of yes, for K yes/no answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arrays import Array
from ..internal.outputs import not_finite
from ..model import Sequential

__all__ = ["Float64", "Mean", "log_of"]

Float64: TypeAlias = npt.NDArray[np.float64]

LOW = 1e-30  # probabilities below it are computed again in float64: float32 rounds them to subnormal numbers or 0
TINY = float(np.finfo(np.float64).tiny)


class Mean(NamedTuple):
    """The weighted mean of the predictions of models.

    Attributes
    ----------
    models : tuple of Sequential
        The models.
    shares : ndarray of float64
        Weight of each model, (M,), or of each model in each row, (M, rows); the mean divides by their sum.
    of : {"classes", "yes_no"} or None
        Meaning of the outputs, whose probabilities are averaged; None averages the outputs themselves.
    """

    models: tuple[Sequential, ...]
    shares: Float64
    of: str | None

    def terms(
        self, x: Array, options: Mapping[str, Any], *, wide: bool = False, caller: str = "", first: int = 0
    ) -> Iterator[Array]:
        """Yield the prediction of each model.

        Parameters
        ----------
        x : ndarray
            Inputs, (rows, in_features), in the order of the models' columns.
        options : mapping
            Further arguments of `Sequential.predict`.
        wide : bool
            Whether probabilities are computed in float64 for float32 models too.
        caller : str
            Name of the call that refuses outputs that are NaN or infinite; if empty, they are kept.
        first : int
            Number of the first row, for messages.
        """
        given: dict[str, Array] = {x.dtype.name: x}
        for i, model in enumerate(self.models):
            dtype = model.dtype
            if dtype not in given:
                with np.errstate(over="ignore"):  # only where the caller does not check the values
                    given[dtype] = x.astype(dtype)
            outputs = model.predict(given[dtype], **options)
            found = outputs if self.of is None else _probabilities(outputs, self.of, wide, caller != "")
            if found is None or (self.of is None and caller and _core.first_nonfinite(outputs) >= 0):
                raise ValueError(f"models[{i}]: {not_finite(outputs, caller, first)}")
            yield found

    def over(self, x: Array, options: Mapping[str, Any], **how: Any) -> Float64:
        """Return the mean of `terms`, which has the same arguments."""
        return self._weighted(self.terms(x, options, **how))

    def spread(self, terms: Sequence[Array]) -> Float64:
        """Return the standard deviation of the terms, dividing by the sum of the weights."""
        centre = self._weighted(terms)
        variance = self._weighted(np.subtract(term, centre) ** 2 for term in terms)
        return np.sqrt(variance, out=variance)

    def _weighted(self, terms: Iterable[Array]) -> Float64:
        total: Float64 | None = None
        shares = self.shares.tolist() if self.shares.ndim == 1 else self.shares
        for share, term in zip(shares, terms, strict=True):
            part = term
            if self.shares.ndim > 1:
                part = term * _per_row(share, term.ndim)
            elif share != 1.0:
                part = np.multiply(term, share, dtype=np.float64)
            total = part.astype(np.float64) if total is None else np.add(total, part, out=total)
        assert total is not None
        total /= sum(shares) if self.shares.ndim == 1 else _per_row(self.shares.sum(axis=0), total.ndim)
        return total

    def outputs(self, x: Array, options: Mapping[str, Any], *, caller: str = "", first: int = 0) -> Float64:
        """Return outputs (rows, K) whose probabilities are the mean ones, or the mean of the outputs."""
        found = self.over(x, options, caller=caller, first=first)
        if self.of is None:
            return found
        low = (found < LOW).any(axis=tuple(range(1, found.ndim)))
        if low.any() and any(model.dtype == "float32" for model in self.models):
            shares = self.shares if self.shares.ndim == 1 else self.shares[:, low]
            found[low] = self._replace(shares=shares).over(x[low], options, wide=True)
        return log_of(found, self.of)


def _probabilities(outputs: Array, of: str, wide: bool, finite: bool) -> Array | None:
    """Return the probabilities of outputs (rows, K), in float64 if `wide`.

    With `finite`, None is returned if an output is NaN or infinite; without it, the probabilities are NaN there.
    """
    given = outputs.astype(np.float64) if wide else outputs
    if of == "classes":
        return _core.probabilities(given, "classes", finite)
    found = _core.probabilities(given.reshape(-1, 1), "no_and_yes", finite)
    return None if found is None else found.reshape(*outputs.shape, 2)


def _per_row(values: Array, dimensions: int) -> Array:
    """Return a number for each row in a shape that broadcasts against arrays of that many dimensions."""
    return values.reshape(-1, *(1,) * (dimensions - 1))


def log_of(found: Float64, of: str) -> Float64:
    """Return the outputs of probabilities: log p of classes, log p - log(1 - p) of answers; 0 counts as 2.2e-308."""
    log: Float64 = np.log(np.maximum(found, TINY))
    return log if of == "classes" else log[..., 1] - log[..., 0]

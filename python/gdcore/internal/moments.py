"""Mean and standard deviation of rows that are read part by part."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

__all__ = ["Moments"]

Float64 = npt.NDArray[np.float64]


class Moments(NamedTuple):
    """Mean and standard deviation of each column of some rows, and the number of these."""

    rows: int
    mean: Float64
    std: Float64

    @classmethod
    def of(cls, y: Float64) -> Self:
        """Return those of numbers (rows, K)."""
        unit = np.maximum(np.abs(y).max(axis=0), np.finfo(np.float64).tiny)  # keeps the squares of huge numbers finite
        return cls(len(y), (y / unit).mean(axis=0) * unit, (y / unit).std(axis=0) * unit)

    def joined(self, other: Moments) -> Moments:
        """Return those of both parts together (Chan, Golub and LeVeque 1983)."""
        rows, share = self.rows + other.rows, other.rows / (self.rows + other.rows)
        largest = np.maximum.reduce([*map(np.abs, self[1:]), *map(np.abs, other[1:])])
        unit = np.maximum(largest, np.finfo(np.float64).tiny)
        apart = other.mean / unit - self.mean / unit
        inside = (1 - share) * (self.std / unit) ** 2 + share * (other.std / unit) ** 2
        variance = inside + share * (1 - share) * apart**2
        return Moments(rows, (self.mean / unit + share * apart) * unit, np.sqrt(variance) * unit)

    def scaling(self, least: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the means, and the deviations to divide by: 1 instead of one of at most `least` times the mean."""
        scale = np.where(self.std > least * np.abs(self.mean), self.std, 1.0)
        return tuple(self.mean.tolist()), tuple(scale.tolist())

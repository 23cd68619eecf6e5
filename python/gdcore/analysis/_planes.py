"""Planes and lines through parameter space: the directions that span them, and coordinates of points in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..internal.arrays import to_array
from ..internal.checks import choice, real, seed_or_random, shown
from ..model import Sequential
from .derivatives import extreme_eigenpairs
from .objective import Objective, Vector, finite_array

__all__ = ["Plane", "choose_plane", "coordinates", "extent", "half_widths", "vectors"]

MARGIN = 0.2  # around the points that a grid must contain, relative to their extent
FLATTEST = 1e-4  # smallest curvature that sets the width of a grid, relative to the other one


class Plane(NamedTuple):
    """Directions in rows (2, P) or (1, P), their labels, the half-width of the grid along each, and marked points."""

    directions: Vector
    labels: tuple[str, ...]
    spans: Vector
    eigenvalues: Vector | None = None
    marks: dict[str, tuple[float, ...]] = {}  # noqa: RUF012  # never written to


def choose_plane(
    objective: Objective,
    center: Vector,
    directions: str | npt.ArrayLike,
    through: Sequence[npt.ArrayLike | Sequential],
    cover: Vector,
    seed: int | None,
) -> Plane:
    """Return the plane for the arguments of `loss_surface`; `cover` is (T, P), T may be 0."""
    if isinstance(through, Sequential) or not hasattr(through, "__len__"):
        raise TypeError(f"through: got {shown(through)}; expected a list of one or two vectors or models")
    if len(through):
        if not isinstance(directions, str) or directions != "eigenvectors":
            raise ValueError(f"through: got points together with directions={shown(directions)}; expected only one")
        return _through(objective, center, through)
    if not isinstance(directions, str):
        given = vectors(directions, "directions", objective.size)
        if len(given) > 2:
            raise ValueError(f"directions: got {len(given)} vectors; expected two, or one for a line")
        _check_independent(given, "directions")
        return Plane(given, tuple(f"given direction {i + 1}" for i in range(len(given))), np.ones(len(given)))
    choice(directions, "directions", ("eigenvectors", "largest", "random", "path"))
    if objective.size < 2:
        raise ValueError("model: got one trainable parameter; expected at least two for a plane, or directions")
    if directions == "random":
        rng = np.random.default_rng(seed_or_random(seed))
        both = np.stack([_filter_normalised(objective, center, rng) for _ in range(2)])
        _check_independent(both, "at")
        return Plane(both, ("random direction 1", "random direction 2"), np.ones(2))
    if directions == "path":
        return _principal(center, cover)
    return _eigenvectors(objective, center, directions, seed_or_random(seed))


def _eigenvectors(objective: Objective, center: Vector, directions: str, seed: int) -> Plane:
    which = "both" if directions == "eigenvectors" else "largest"
    pairs = extreme_eigenpairs(objective, center, k=2, which=which, tolerance=1e-6, seed=seed)
    values = pairs.values[::-1]
    rows = np.ascontiguousarray(pairs.vectors.T[::-1])
    rows *= np.sign(rows[np.arange(2), np.abs(rows).argmax(axis=1)])[:, None]  # the sign of an eigenvector is arbitrary
    height, steepest = objective.value(center), float(np.abs(values).max())
    spans = np.ones(2)
    if height > 0 and steepest > 0:
        spans = 1.5 * np.sqrt(2 * height / np.maximum(np.abs(values), FLATTEST * steepest))
    labels = tuple(f"eigenvector of λ = {value:.3g}" for value in values)
    return Plane(rows, labels, spans, np.array(values))


def _principal(center: Vector, cover: Vector) -> Plane:
    """Return the plane through the centre with the least sum of squared distances to a path."""
    if len(cover) < 2:
        raise ValueError(f"cover: got {len(cover)} points; expected at least two, for directions='path'")
    _, lengths, rows = np.linalg.svd(cover - center, full_matrices=False)
    if lengths[1] <= 1e-10 * lengths[0]:
        raise ValueError("cover: got points on a line through the centre; expected a path that spans a plane")
    shares = lengths[:2] ** 2 / np.sum(lengths**2)
    labels = tuple(f"principal direction {i + 1} of the path ({share:.1%})" for i, share in enumerate(shares))
    return Plane(rows[:2].copy(), labels, np.zeros(2))


def _filter_normalised(objective: Objective, center: Vector, rng: np.random.Generator) -> Vector:
    """Return a random direction: each unit's incoming weights scaled to the norm of the model's, all else 0."""
    parts = []
    for name, values in objective.arrays(center).items():
        part = np.zeros_like(values)
        if name.endswith(".weight"):
            part = rng.standard_normal(values.shape)
            part *= np.linalg.norm(values, axis=1, keepdims=True) / np.linalg.norm(part, axis=1, keepdims=True)
        parts.append(part.ravel())
    return np.concatenate(parts)


def _through(objective: Objective, center: Vector, through: Sequence[npt.ArrayLike | Sequential]) -> Plane:
    if len(through) > 2:
        raise ValueError(f"through: got {len(through)} points; expected one or two besides the centre")
    offsets = []
    for i, item in enumerate(through):
        point = item.flat_parameters() if isinstance(item, Sequential) else item
        offsets.append(objective.vector(point, f"through[{i}]") - center)
    first = offsets[0]
    _check_independent(np.stack(offsets), "through")
    if len(offsets) == 1:
        return Plane(first[None], ("the way from the centre to solution 1",), np.zeros(1), marks={"solution 1": (1.0,)})
    along = float(offsets[1] @ first / (first @ first))
    rest = offsets[1] - along * first
    scale = float(np.linalg.norm(rest) / np.linalg.norm(first))
    return Plane(
        np.stack([first, rest / scale]),
        ("the way from the centre to solution 1", "direction at right angles to it"),
        np.zeros(2),
        marks={"solution 1": (1.0, 0.0), "solution 2": (along, scale)},
    )


def _check_independent(rows: Vector, name: str) -> None:
    """Refuse directions that are zero or parallel, naming the argument."""
    lengths = np.linalg.norm(rows, axis=1)
    if not (lengths > 0).all():
        raise ValueError(
            f"{name}: got direction {int(np.argmin(lengths)) + 1} of length 0; expected a nonzero direction"
        )
    units = rows / lengths[:, None]
    if len(rows) == 2 and np.linalg.norm(units[1] - (units[0] @ units[1]) * units[0]) < 1e-8:
        raise ValueError(f"{name}: got two parallel directions; expected linearly independent ones")


def coordinates(points: Vector, center: Vector, directions: Vector) -> tuple[Vector, Vector]:
    """Return the coordinates (T, k) of the projected points, and the share of each distance outside the plane (T,)."""
    offsets = points - center
    found = np.asarray(np.linalg.solve(directions @ directions.T, directions @ offsets.T).T)
    off, far = (np.asarray(np.linalg.norm(rows, axis=1)) for rows in (offsets - found @ directions, offsets))
    return found, np.asarray(np.divide(off, far, out=np.zeros(len(far)), where=far > 0))


def half_widths(span: float | Sequence[float], count: int) -> Vector:
    """Return a checked `span` as `count` values."""
    if not isinstance(span, (Sequence, np.ndarray)) or isinstance(span, (str, bytes)):
        return np.full(count, real(span, "span", low=0.0, open_low=True))
    if len(span) != count:
        raise ValueError(f"span: got {len(span)} numbers; expected one, or {count}")
    return np.array([real(s, f"span[{i}]", low=0.0, open_low=True) for i, s in enumerate(span)])


def extent(plane: Plane, cover: Vector) -> tuple[Vector, Vector]:
    """Return the smallest and largest coordinates of a grid that contains the plane's marks and `cover` (T, k)."""
    low, high = -plane.spans, plane.spans.copy()
    points = np.concatenate([cover, np.zeros((1, len(low))), *(np.array([mark]) for mark in plane.marks.values())])
    least, most = np.minimum(low, points.min(axis=0)), np.maximum(high, points.max(axis=0))
    room = MARGIN * (most - least)
    bare = plane.spans == 0
    return np.where(bare | (least < low), least - room, low), np.where(bare | (most > high), most + room, high)


def vectors(value: npt.ArrayLike, name: str, size: int) -> Vector:
    """Return `value` as a contiguous float64 array (T, size) of finite numbers; a single vector is a row."""
    array = np.ascontiguousarray(to_array(value, name), dtype=np.float64)
    rows = array[None] if array.ndim == 1 else array
    if rows.ndim != 2 or rows.shape[1] != size or not len(rows):
        raise ValueError(
            f"{name}: got shape {array.shape}; expected (..., {size}), one number for each trainable parameter"
        )
    finite_array(array, name)
    return rows

"""Encoding of a table as the inputs of networks, float32 of shape (rows, width): fitted to training rows, then applied.

A number x becomes z / √(1 + (z/3)²) with z = (x - median) / (interquartile range), "robust scaling and smooth clipping"
of RealMLP (Holzmüller et al. 2024), and the piecewise-linear encoding of this value: for the bin [b, c] between two
neighbouring quantiles min(max((x - b) / (c - b), 0), 1) (Gorishniy et al. 2022). Missing numbers become the median, and
have an indicator if the training rows have some. Dates become several numbers, categories an indicator of each value.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..internal.arrays import Array
from ..internal.checks import choice, shown
from ..internal.features import FeatureNames, order_of
from ..internal.frames import EXACT
from .columns import KINDS, Column, Float64, Frame, Key, kind_of
from .values import check_meaning, dates_of, keys_of, meaning_of, numbers_of

__all__ = ["Encoding", "Extremes", "Feature", "Layout", "checked_kinds", "fit", "fit_categories", "fit_column"]

CLIP = 3.0  # the largest scaled number
DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class Layout:
    """How columns are encoded; `recipe` chooses it.

    Attributes
    ----------
    bins : int
        Bins of the piecewise-linear encoding of a number; below 2 it is left out.
    values : int
        Most values of a column of categories that have an indicator of their own, the most frequent ones.
    least : int
        Rows that such a value needs at least.
    """

    bins: int = 16
    values: int = 256
    least: int = 2


@dataclass(frozen=True)
class Feature:
    """A number: what it is scaled by, and the bins of its encoding.

    Attributes
    ----------
    part : str
        Part of a date ("year", "hour", ...); empty for a number itself.
    exponent : int
        The number is divided by 2^exponent first, so that huge and tiny ones can be subtracted.
    centre, scale : float
        Median, and the factor on the difference to it.
    edges : tuple of float
        Edges of the bins, of the scaled number.
    missing : bool
        Whether there is an indicator of missing numbers.
    """

    part: str
    exponent: int
    centre: float
    scale: float
    edges: tuple[float, ...] = ()
    missing: bool = False

    @property
    def width(self) -> int:
        """Number of inputs."""
        return 1 + max(len(self.edges) - 1, 0) + self.missing

    def encode(self, values: Float64, out: Array) -> None:
        """Write the inputs of numbers (rows,) into `out` (rows, width)."""
        gone = np.isnan(values)
        scaled = np.where(gone, 0.0, self.scaled(values))
        out[:, 0] = scaled
        if self.edges:
            low, high = np.array(self.edges[:-1]), np.array(self.edges[1:])
            out[:, 1 : len(self.edges)] = np.clip((scaled[:, None] - low) / (high - low), 0.0, 1.0)
        if self.missing:
            out[:, -1] = gone

    def scaled(self, values: Float64) -> Float64:
        """Return numbers scaled and clipped."""
        with np.errstate(over="ignore"):
            z = (np.ldexp(values, -self.exponent) - self.centre) * self.scale
        z = np.clip(z, -1e100, 1e100)
        return np.asarray(z / np.sqrt(1.0 + (z / CLIP) ** 2))


@dataclass(frozen=True)
class Encoded:
    """How a column is encoded.

    Attributes
    ----------
    name, kind : str
        Name of the column, and its kind: "number", "boolean", "category" or "date".
    features : tuple of Feature
        The numbers that are made of it; none for categories.
    meaning : str
        What numbers and dates are; see `meaning_of`.
    offset : int
        Subtracted from whole numbers too large for float64.
    keys : tuple
        The values of categories that have an indicator each.
    rare : bool
        Whether all other values, also those that the training rows lack, have an indicator.
    missing : bool
        Whether missing categories have an indicator.
    text, numbers : bool
        Whether all categories of the training rows are text, or none is.
    """

    name: str
    kind: str
    features: tuple[Feature, ...] = ()
    meaning: str = ""
    offset: int = 0
    keys: tuple[Key, ...] = ()
    rare: bool = False
    missing: bool = False
    text: bool = False
    numbers: bool = False

    @property
    def width(self) -> int:
        """Number of inputs; 0 for a column that has one value in all training rows."""
        return sum(feature.width for feature in self.features) + len(self.keys) + self.rare + self.missing

    def encode(self, column: Column, where: str, out: Array) -> None:
        """Write the inputs of a column into `out` (rows, width), which is zero."""
        if self.kind == "category":
            self._indicate(keys_of(column, where), where, out)
            return
        first, numbers = 0, values_of(column, self.kind, where, self.offset)
        check_meaning(column, self.meaning, where)
        for feature in self.features:
            feature.encode(numbers(feature.part), out[:, first : first + feature.width])
            first += feature.width

    def _indicate(self, keys: list[Key | None], where: str, out: Array) -> None:
        index = self._index
        if self.text or self.numbers:
            for row, key in enumerate(keys):
                if key is not None and isinstance(key, str) != self.text:
                    got, expected = ("the number", "text") if self.text else ("the text", "numbers")
                    raise TypeError(
                        f"{where}: got {got} {shown(key)} in row {row}; expected {expected}, as in training"
                    )
        rare = len(self.keys) if self.rare else -1
        gone = len(self.keys) + self.rare if self.missing else -1
        codes = np.fromiter((gone if key is None else index.get(key, rare) for key in keys), np.int64, len(keys))
        rows = np.flatnonzero(codes >= 0)
        out[rows, codes[rows]] = 1

    @cached_property
    def _index(self) -> dict[Key, int]:
        return {key: i for i, key in enumerate(self.keys)}


def values_of(column: Column, kind: str, where: str, offset: int = 0) -> Callable[[str], Float64]:
    """Return a function that gives the numbers of a column by part: "" for itself, or a part of its dates."""
    if kind != "date":
        numbers = numbers_of(column, where, kind, offset)
        return lambda part: numbers
    moments, gone = dates_of(column, where)

    def part_of(part: str) -> Float64:
        found = PARTS[part](moments).astype(np.float64)
        found[gone] = np.nan
        return found

    return part_of


def _months(moments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return moments.view("M8[us]").astype("M8[M]").astype(np.int64)


def _day_of_year(moments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    years = moments.view("M8[us]").astype("M8[Y]").astype("M8[D]").astype(np.int64)
    return moments // DAY - years


def _day(moments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    months = moments.view("M8[us]").astype("M8[M]").astype("M8[D]").astype(np.int64)
    return moments // DAY - months


# Parts of dates, from microseconds since 1970; days are counted from 0, the weekday from Thursday, 1 January 1970.
PARTS: dict[str, Callable[[npt.NDArray[np.int64]], Array]] = {
    "time": lambda moments: moments / DAY,
    "year": lambda moments: _months(moments) // 12,
    "month": lambda moments: _months(moments) % 12,
    "day": _day,
    "day_of_year": _day_of_year,
    "weekday": lambda moments: (moments // DAY) % 7,
    "hour": lambda moments: moments // (DAY // 24) % 24,
    "minute": lambda moments: moments // (DAY // 1440) % 60,
}


# ---- Fitting --------------------------------------------------------------------------------------------------------
def fit_feature(values: Float64, part: str, bins: int) -> Feature | None:
    """Return how numbers are scaled and encoded; None if they are all missing, or all the same and none missing."""
    gone = np.isnan(values)
    known = values[~gone]
    if not len(known) or (known.min() == known.max() and not gone.any()):
        return None
    exponent = int(np.frexp(np.abs(known).max())[1])
    known = np.ldexp(known, -exponent)
    low, centre, high = (float(q) for q in np.quantile(known, (0.25, 0.5, 0.75)))
    extent = float(known.max() - known.min())
    spread = high - low if high > low else extent / 2
    if not spread:  # the indicator of missing numbers says all; 0 times any number is 0, but times infinity NaN
        return Feature(part, 0, 0.0, 0.0, missing=True)
    plain = Feature(part, exponent, centre, 1.0 / spread, missing=bool(gone.any()))
    if not math.isfinite(plain.scale):
        plain = replace(plain, scale=float(np.finfo(np.float64).max))
    if bins < 2:
        return plain
    scaled = plain.scaled(np.ldexp(known, exponent))
    edges = np.unique(np.quantile(scaled, np.linspace(0, 1, bins + 1)))
    wide = edges[np.append(True, np.diff(edges) > 1e-9)]
    return replace(plain, edges=tuple(wide.tolist()) if len(wide) > 2 else ())


def fit_categories(counts: Counter[Key | None], layout: Layout, others: bool = False) -> dict[str, Any]:
    """Return the fields of `Encoded` for categories, of which there are so many rows each, None for missing ones.

    The frequent values are in falling order, then booleans, numbers and text, each by their text. `others` says that
    there are rare values beside these.
    """
    missing = counts[None] > 0
    rows = {_stored(key): count for key, count in counts.items() if key is not None}
    ordered = sorted(rows, key=lambda key: (-rows[key], isinstance(key, str), not isinstance(key, bool), str(key)))
    kept = [key for key in ordered[: layout.values] if rows[key] >= layout.least]
    rare = others or len(kept) < len(ordered)
    if len(kept) + rare + missing < 2:
        return {}
    texts = sum(isinstance(key, str) for key in rows)
    kinds = {"text": 0 < texts == len(rows), "numbers": bool(rows) and not texts}
    return {"keys": tuple(kept), "rare": rare, "missing": missing, **kinds}


def _stored(key: Key) -> Key:
    """Return a category as it is kept: a whole number as int, of which missing values may have made a float."""
    return int(key) if isinstance(key, float) and key.is_integer() and abs(key) <= EXACT else key


class Extremes(NamedTuple):
    """What is known of all rows of a column, beside some of them.

    Attributes
    ----------
    whole : (int, int) or None
        The least and the largest value of whole numbers.
    parts : dict
        The least and the largest number of each part, where there is one; parts are those of `values_of`.
    missing : bool
        Whether values are missing.
    """

    whole: tuple[int, int] | None
    parts: dict[str, tuple[float, float]]
    missing: bool

    def of(self, part: str, offset: int) -> Float64:
        """Return the extreme numbers of a part, less `offset`, and NaN if values are missing."""
        found = list(self.parts.get(part, ()))
        if offset and self.whole is not None:
            found = [float(each - offset) for each in self.whole]
        return np.array([*found, *([np.nan] if self.missing else [])])


def fit_column(column: Column, kind: str, where: str, layout: Layout, known: Extremes | None = None) -> Encoded:
    """Return how a column of training rows is encoded.

    `known` are the extremes of all rows if these are some of them, of any kind but categories.
    """
    if kind == "category":
        return Encoded(column.name, kind, **fit_categories(Counter(keys_of(column, where)), layout))
    low, high = _whole_range(column) if known is None or known.whole is None else known.whole
    offset = (low + high) // 2 if kind == "number" and max(high, -low) > EXACT else 0
    numbers = values_of(column, kind, where, offset)
    parts = PARTS if kind == "date" else ("",)
    bins = 0 if kind == "boolean" else layout.bins
    values = {part: numbers(part) for part in parts}
    if known is not None:
        values = {part: np.append(given, known.of(part, offset)) for part, given in values.items()}
    found = [fit_feature(values[part], part, bins) for part in parts]
    kept = [each if not i else replace(each, missing=False) for i, each in enumerate(found) if each is not None]
    kept = [each for each in kept if each.scale or each.missing]  # one indicator is enough for all parts of a date
    return Encoded(column.name, kind, tuple(kept), meaning_of(column, where), offset)


def _whole_range(column: Column) -> tuple[int, int]:
    """Return the least and the largest whole number of a column, 0 if there is none."""
    values = column.values
    if values.dtype.kind == "O":
        given = [value for value in values.tolist() if isinstance(value, int)]
        return min(given, default=0), max(given, default=0)
    if values.dtype.kind in "iu" and len(values):
        return int(values.min()), int(values.max())
    return 0, 0


def fit(frame: Frame, name: str, kinds: Mapping[str, str], layout: Layout) -> Encoding:
    """Return the encoding of a table, fitted to its rows.

    Parameters
    ----------
    frame : Frame
        The training rows.
    name : str
        Name of the argument, for messages.
    kinds : mapping of str to str
        The kind of each column.
    layout : Layout
        How columns are encoded.
    """
    columns = [fit_column(c, kinds[c.name], f"{name}: column {c.name!r}", layout) for c in frame.columns]
    return Encoding(tuple(columns), frame.named)


def checked_kinds(given: Mapping[str, str], names: FeatureNames) -> dict[str, str]:
    """Return kinds by column; raise ValueError for a column that is not among `names`, or an unknown kind."""
    unknown = [key for key in given if key not in names]
    if unknown:
        raise ValueError(f"kinds: got the column {shown(unknown[0])}; expected some of {shown(list(names), 200)}")
    return {key: choice(kind, f"kinds[{key!r}]", KINDS) for key, kind in given.items()}


def kinds_of(frame: Frame, name: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the kind of each column: the given one, or else the one that its values have."""
    checked = checked_kinds(given, frame.names)
    return {c.name: checked.get(c.name) or kind_of(c, f"{name}: column {c.name!r}") for c in frame.columns}


@dataclass(frozen=True)
class Encoding:
    """How the columns of a table become inputs of a network.

    Attributes
    ----------
    columns : tuple of Encoded
        The columns, in the order of the training rows.
    named : bool
        Whether the columns have names; otherwise they are matched by position.
    """

    columns: tuple[Encoded, ...]
    named: bool

    @property
    def names(self) -> FeatureNames:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def width(self) -> int:
        """Number of inputs, at least 1: a table without information has one that is 0."""
        return max(sum(column.width for column in self.columns), 1)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The first input of each column, and the one after its last."""
        ends = np.cumsum([column.width for column in self.columns]).tolist()
        return [(end - column.width, end) for column, end in zip(self.columns, ends, strict=True)]

    def arranged(self, frame: Frame, name: str) -> Frame:
        """Return the columns of a table in the order of training.

        Raises
        ------
        ValueError
            If a column is missing or unknown, or an array has another number of columns.
        """
        if frame.named and self.named:
            return frame.pick(order_of(frame.names, self.names, name, "the columns of training"))
        if len(frame.columns) != len(self.columns):
            raise ValueError(f"{name}: got {len(frame.columns)} columns; expected {len(self.columns)}, as in training")
        return frame

    def encode(self, frame: Frame, name: str) -> npt.NDArray[np.float32]:
        """Return the inputs of a table, float32 of shape (rows, width), whose columns are in the order of training.

        Raises
        ------
        TypeError, ValueError
            If a value does not fit its column; names the column.
        """
        out = np.zeros((frame.rows, self.width), np.float32)
        for encoded, column, (first, last) in zip(self.columns, frame.columns, self.spans, strict=True):
            if last > first:
                encoded.encode(column, f"{name}: column {encoded.name!r}", out[:, first:last])
        return out

    def to_json(self) -> dict[str, Any]:
        """Return the encoding as a JSON value."""
        return asdict(self)

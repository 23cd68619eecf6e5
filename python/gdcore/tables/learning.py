"""The encoding and the target of rows in Parquet files, learnt in one pass that keeps a bounded sample of the rows.

Exact are the categories and their numbers of rows, which columns have missing values, the least and the largest number,
the classes, mean and deviation of targets; quantiles are those of the sample. Of a column with more than 65,536 values
the counts are those of Misra and Gries 1982, too small by a 65,536th of the rows at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arrays import Array, with_names
from ..internal.checks import shown
from ..internal.frames import EXACT
from ..internal.labels import key_of
from ..internal.moments import Moments
from ..parquet.columns import numbers
from ..parquet.files import Reader
from .arrow import TEXT, Values, filtered, kinds_in, values_in
from .columns import MANY, Column, Key, as_float, is_number, missing
from .division import SAMPLED, group_keys, rows_from, uniform, weights_in
from .encoding import PARTS, Encoded, Encoding, Extremes, Layout, checked_kinds, fit_categories, fit_column, values_of
from .given import too_few
from .odd_text import ROWS, warn_of_odd_text
from .recipe import Facts, layout
from .roles import Roles
from .splitting import moments_of
from .targets import LEAST, Target, refuse_missing
from .values import keys_of, meaning_of, numbers_of

__all__ = ["SAMPLE", "Learnt", "learn"]

SAMPLE = 100_000  # rows
MOST = 1 << 16  # values of a column, groups or classes that are counted

Drawn = npt.NDArray[np.bool_]


class Learnt(NamedTuple):
    """What a pass over the rows has learnt.

    Attributes
    ----------
    target, encoding
        How targets and columns become numbers.
    facts : Facts
        What the recipe depends on.
    groups : Counter or None
        Rows of each group, if there are groups, and not too many.
    times : ndarray or None
        Times of the sample.
    """

    target: Target
    encoding: Encoding
    facts: Facts
    groups: Counter[Key] | None
    times: Array | None


def learn(roles: Roles, task: str | None, kinds: Mapping[str, str], seed: int) -> Learnt:
    """Return what the rows of files tell.

    Parameters
    ----------
    roles : Roles
        The files, and what their columns are.
    task : str, optional
        As for `TabularModel`.
    kinds : mapping
        Kinds of columns that are given.
    seed : int
        Seed of the sample.
    """
    files, total = roles.files, roles.data.rows
    found = kinds_in(files, roles.x, "x") | checked_kinds(kinds, roles.x)
    columns = [ColumnFacts(name, kind) for name, kind in found.items()]
    target = TargetFacts(roles.y, task, kinds_in(files, roles.y, "y")[roles.y[0]])
    groups: Counter[Key] | None = None if roles.groups is None else Counter()
    times: list[Array] = []
    share, first, rows = min(1.0, SAMPLE / total), 0, 0
    with closing(Reader(files, roles.columns, threads=_core.get_num_threads() > 1)) as reader:
        for number, where in enumerate(map(files.where, range(len(files.groups)))):
            table = reader.read(number)
            drawn = uniform(seed, SAMPLED, rows_from(first, table.num_rows)) < share
            first += table.num_rows
            if roles.weight is not None:
                kept = weights_in(table, roles.weight, where) > 0
                table, drawn = filtered(table, kept), drawn[kept]
            if not table.num_rows:
                continue
            if rows == 0:
                some = (values_in(table.slice(0, ROWS), name, f"x: {where}").column for name in roles.x)
                warn_of_odd_text(some, kinds, stacklevel=6)
            rows += table.num_rows
            target.add(table, where, drawn)
            for column in columns:
                column.add(table, where, drawn)
            if roles.groups is not None and groups is not None:
                keys, codes = group_keys(table, roles.groups, f"groups: {where}")
                groups.update(dict(zip(keys, np.bincount(codes).tolist(), strict=True)))
                groups = groups if len(groups) <= MOST else None
            if roles.time is not None:
                name = f"time: {where}"
                times.append(moments_of(values_in(table, roles.time, name).column, name)[drawn])
    if rows < 2:
        raise too_few(rows, roles.weight is not None, "x")
    fitted = target.fitted(share == 1)
    facts = Facts(fitted.task, rows, len(columns), fitted.outputs)
    encoding = Encoding(tuple(column.fitted(layout(facts), share == 1) for column in columns), named=True)
    return Learnt(fitted, encoding, facts, groups, np.concatenate(times) if times else None)


class ColumnFacts:
    """What the rows tell of a column; `kind` may be "text", whose values tell at the end whether they are numbers."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        self._counts: Counter[Key] = Counter()  # of categories and text, none of them missing
        self._missing = 0
        self._dropped = False  # whether some counts are
        self._numeric = kind != "category"  # whether all values are numbers, booleans or dates
        self._nan = False  # whether some text stands for a missing number
        self._extremes: dict[str, tuple[float, float]] = {}
        self._whole: tuple[int, int] | None = None
        self._meaning = ""
        self._other = False  # whether some row groups have no whole numbers
        self._sample: list[Array] = []

    def add(self, table: Any, where: str, drawn: Drawn) -> None:
        """Take in some rows, of which those that are `drawn` belong to the sample."""
        where = f"x: {where}: column {self.name!r}"
        values = values_in(table, self.name, where, distinct=self.kind in (TEXT, "category"))
        if self.kind in (TEXT, "category"):
            self._count(keys_of(values.column, where), values.codes)
        else:
            self._measure(values.column, where)
        if self._numeric:
            self._sample.append(values.whole().values[drawn])
        else:
            self._sample.clear()

    def _count(self, keys: list[Key | None], codes: Array | None) -> None:
        counts: Counter[Key | None] = Counter(keys)
        if codes is not None:
            counts = Counter(dict(zip(keys, np.bincount(codes, minlength=len(keys)).tolist(), strict=True)))
        self._missing += counts.pop(None, 0)
        known: Counter[Key] = Counter({key: count for key, count in counts.items() if key is not None})
        if self._numeric:
            self._numeric = all(isinstance(key, str) and is_number(key) for key in known)
            found = np.array([as_float(str(key)) for key in known] if self._numeric else [], np.float64)
            self._nan = self._nan or bool(np.isnan(found).any())
            self._extend("", found)
        self._counts.update(known)
        if len(self._counts) > MOST:
            limit = sorted(self._counts.values(), reverse=True)[MOST]
            self._counts = Counter({key: count - limit for key, count in self._counts.items() if count > limit})
            self._dropped = True

    def _measure(self, column: Column, where: str) -> None:
        values = column.values
        self._meaning = self._meaning or meaning_of(column, where)
        parts = values_of(column, self.kind, where)
        for part in PARTS if self.kind == "date" else ("",):
            self._missing += int(np.isnan(parts(part)).sum())
            self._extend(part, parts(part))
        if values.dtype.kind in "iu":
            low, high = self._whole or (int(values[0]), int(values[0]))
            self._whole = min(low, int(values.min())), max(high, int(values.max()))
        else:
            self._other = True

    def _extend(self, part: str, values: npt.NDArray[np.float64]) -> None:
        """Widen the range of a part."""
        known = values[~np.isnan(values)]
        if len(known):
            low, high = self._extremes.get(part, (np.inf, -np.inf))
            self._extremes[part] = min(low, float(known.min())), max(high, float(known.max()))

    def fitted(self, how: Layout, complete: bool) -> Encoded:
        """Return how the column is encoded; `complete` says whether the sample has all rows."""
        kind = self.kind
        if kind == TEXT:
            numeric = self._numeric and (self._dropped or len(self._counts) > MANY)
            kind = "number" if numeric or (not self._counts and not self._dropped) else "category"
        elif kind == "boolean" and not self._extremes:
            kind = "number"  # as a column of objects that are all missing
        if kind == "category":
            counts: Counter[Key | None] = Counter({None: self._missing})
            counts.update(self._counts)
            return Encoded(self.name, kind, **fit_categories(counts, how, self._dropped))
        where = f"x: column {self.name!r}"
        if np.isinf(list(self._extremes.values())).any():  # in text, which was not read as numbers until now
            raise ValueError(f"{where}: got an infinite number; expected finite numbers or missing values")
        known = Extremes(None if self._other else self._whole, self._extremes, self._missing > 0 or self._nan)
        column = Column(self.name, _together(self._sample))
        fitted = fit_column(column, kind, where, how, None if complete else known)
        return replace(fitted, meaning=self._meaning or fitted.meaning)


def _together(parts: list[Array]) -> Array:
    """Return the values of row groups; floats of one do not round the whole numbers of another."""
    made = np.concatenate(parts)
    if made.dtype.kind == "f" and any(part.dtype.kind in "iu" for part in parts) and (np.abs(made) >= EXACT).any():
        made = np.concatenate([part.astype(object) for part in parts])
    return made


class TargetFacts:
    """What the rows tell of the targets: a sample; the classes, or mean and deviation."""

    def __init__(self, names: tuple[str, ...], task: str | None, kind: str) -> None:
        self._names, self._task = names, task
        self._moments: Moments | None = None
        self._has_moments = len(names) > 1 or task == "regression" or (task is None and kind == "number")
        self._labels: dict[Any, Array] = {}  # each class by its key
        self._fraction: Array | None = None
        self._sample: list[Array] = []
        self._declared = False

    def add(self, table: Any, where: str, drawn: Drawn) -> None:
        """Take in the targets of some rows, of which those that are `drawn` belong to the sample."""
        where = f"y: {where}"
        if len(self._names) > 1:
            array = np.column_stack([numbers(table, name, where) for name in self._names]).astype(np.float64)
            if not np.isfinite(array).all():
                row = int(np.argmax(~np.isfinite(array).all(axis=1)))
                raise ValueError(f"{where}: got {shown(array[row].tolist())} in row {row}; expected finite numbers")
            self._measure(array)
            self._sample.append(array[drawn])
            return
        values = values_in(table, self._names[0], where, distinct=True)
        if missing(values.column.values).any():
            refuse_missing(values.whole(), where)
        whole = values.whole().values
        self._sample.append(whole[drawn])
        self._declared = values.column.declared
        if not self._has_moments:
            self._classify(values)
            return
        found = numbers_of(values.whole(), where)
        fractions = found != np.floor(found)
        if self._fraction is None and fractions.any():
            self._fraction = whole[fractions][:1]
        self._measure(found[:, None])

    def _measure(self, array: npt.NDArray[np.float64]) -> None:
        found = Moments.of(array)
        self._moments = found if self._moments is None else self._moments.joined(found)

    def _classify(self, values: Values) -> None:
        given = values.column.values
        given = given if given.dtype.kind == "O" else np.unique(given)
        for i, key in enumerate(map(key_of, given.tolist() if given.dtype.kind != "M" else given)):
            self._labels.setdefault(key, given[i : i + 1])
        if len(self._labels) > MOST:
            raise ValueError(
                f"y: got more than {MOST} classes, such as {shown(next(iter(self._labels)))}; expected fewer"
            )

    def fitted(self, complete: bool) -> Target:
        """Return the target; `complete` says whether the sample has all rows."""
        if not complete:
            self._sample += [*self._labels.values(), *([] if self._fraction is None else [self._fraction])]
        values = np.concatenate(self._sample)
        several = values.ndim > 1
        given = with_names(values, self._names) if several else Column("y", values, self._declared)
        target = Target.fit(given, self._task)
        if complete or target.classes is not None or self._moments is None:
            return target
        centre, scale = self._moments.scaling(LEAST)
        return replace(target, centre=centre, scale=scale)

"""Division of the rows of files into folds: a function of the number, the group or the time of each row alone.

So each window is divided by itself; `strata` divides the rows of each class. Numbers become uniform draws by the
finaliser of SplitMix64 (Steele, Lea and Flood 2014); the seed chooses where its sequence starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..internal.arrays import Array
from ..parquet.files import Files, Reader
from .arrow import filtered, values_in
from .columns import Key, missing
from .given import checked_weights
from .splitting import incomplete, moments_of
from .values import keys_of

if TYPE_CHECKING:
    from .strata import Strata

__all__ = ["SAMPLED", "Division", "counted", "group_keys", "rows_from", "uniform", "weights_in"]

FOLDS, SAMPLED, MEASURED = range(3)  # draws of a row: its fold, the sample of the encoding, the rows that are measured


def uniform(seed: int, draw: int, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Return a number from 0 to below 1 for each row number, by the seed and the kind of draw."""
    start = np.random.SeedSequence((seed, draw)).generate_state(1, np.uint64)
    z = numbers * np.uint64(0x9E3779B97F4A7C15) + start
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def rows_from(first: int, count: int) -> npt.NDArray[np.uint64]:
    """Return the numbers of rows from `first` on."""
    return np.arange(first, first + count, dtype=np.uint64)


@dataclass(frozen=True)
class Division:
    """How rows are divided into folds.

    Attributes
    ----------
    seed : int
        Of the draws.
    cuts : tuple of float
        Where the draws of one fold end, and those of the next begin; none: all rows are of fold 0.
    weight, groups, time : str or None
        Columns; rows of weight 0 are of no fold, a group is in one fold.
    of_group : mapping, optional
        The fold of each group; otherwise a hash of the group takes the place of the row's number.
    strata : Strata, optional
        Folds of each class, in place of draws.
    limit : object
        Rows from this time on are of fold 0, those before of fold 1.
    measured : float
        Share of the rows that are measured after training; the fold of the others is ``count`` higher.
    """

    seed: int
    cuts: tuple[float, ...] = ()
    weight: str | None = None
    groups: str | None = None
    of_group: Mapping[Key, int] | None = None
    time: str | None = None
    strata: Strata | None = None
    limit: Any = None
    measured: float = 1.0

    @property
    def count(self) -> int:
        """Number of folds."""
        if self.strata is not None:
            return self.strata.count
        return 2 if self.time is not None else len(self.cuts) + 1

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that tell the folds."""
        target = None if self.strata is None else self.strata.column
        return tuple(name for name in (self.weight, self.groups, self.time, target) if name is not None)

    def folds(self, table: Any, group: int, first: int, rows: int, where: str) -> npt.NDArray[np.int64]:
        """Return the fold of each row of a row group, whose first row has the number `first`; -1 for weight 0."""
        numbers = rows_from(first, rows)
        if self.weight is None:
            return self._folds(table, group, numbers, where)
        kept = weights_in(table, self.weight, where) > 0
        found = np.full(rows, -1)
        found[kept] = self._folds(filtered(table, kept), group, numbers[kept], where)
        return found

    def _folds(self, table: Any, group: int, numbers: npt.NDArray[np.uint64], where: str) -> npt.NDArray[np.int64]:
        """Return the fold of each row of a table, from their numbers."""
        if self.strata is not None:
            found = self.strata.of_rows(table, group, where)
        elif self.time is not None:
            times = moments_of(values_in(table, self.time, f"time: {where}").column, f"time: {where}")
            found = (times < self.limit).astype(np.int64)
        elif self.groups is not None:
            found = self._of_groups(*group_keys(table, self.groups, f"groups: {where}"))
        else:
            found = np.searchsorted(self.cuts, uniform(self.seed, FOLDS, numbers), side="right")
        if self.measured < 1:
            found = found + self.count * (uniform(self.seed, MEASURED, numbers) >= self.measured)
        return found

    def _of_groups(self, keys: list[Key], codes: Array) -> npt.NDArray[np.int64]:
        if self.of_group is not None:
            found = np.array([self.of_group[key] for key in keys], np.int64)
        else:
            hashes = [int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "little") for key in keys]
            draws = uniform(self.seed, FOLDS, np.array(hashes, np.uint64))
            found = np.searchsorted(self.cuts, draws, side="right").astype(np.int64)
        of_rows: npt.NDArray[np.int64] = found[codes]
        return of_rows


def weights_in(table: Any, name: str, where: str, label: str = "") -> Array:
    """Return the weights of the rows of a table; raise ValueError if one is missing, negative or infinite."""
    where = f"{label}sample_weight: {where}"
    return checked_weights(values_in(table, name, where).column.values, where)


def group_keys(table: Any, name: str, where: str) -> tuple[list[Key], Array]:
    """Return the distinct groups of a column, and the number of the group of each row."""
    values = values_in(table, name, where, distinct=True)
    column, codes = values
    if missing(column.values).any():
        raise incomplete(values.whole(), where, "groups")
    if codes is None:
        distinct, codes = np.unique(column.values, return_inverse=True)
        column = column._replace(values=distinct)
    if column.values.dtype.kind in "mM":
        return _moments_as_text(column.values), codes
    keys = [key for key in keys_of(column, where) if key is not None]
    return [int(key) if isinstance(key, float) and key.is_integer() else key for key in keys], codes


def _moments_as_text(values: Array) -> list[Key]:
    """Return dates or durations as text: seconds and nanoseconds, the same in every unit."""
    seconds = values.astype(f"{values.dtype.kind}8[s]")
    rest = (values - seconds).astype("m8[ns]").astype(np.int64)
    return [f"{second}.{part:09d}" for second, part in zip(seconds, rest.tolist(), strict=True)]


def counted(files: Files, division: Division) -> npt.NDArray[np.int64]:
    """Return how many rows of each row group are of each fold, (row groups, 2 folds), those not measured last."""
    found = np.zeros((len(files.groups), 2 * division.count), np.int64)
    first = 0
    with closing(Reader(files, division.columns, threads=False)) as reader:
        for group, rows in enumerate(files.rows.tolist()):
            table = reader.read(group) if division.columns else None
            folds = division.folds(table, group, first, rows, files.where(group))
            found[group] = np.bincount(folds[folds >= 0], minlength=2 * division.count)
            first += rows
    return found

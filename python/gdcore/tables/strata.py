"""Folds of the rows of files in which each class has its share: a function of the place of a row in its class.

The places of a class are permuted by a function of the seed, of which a window computes those of its own rows alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .. import _core
from ..data import class_shares
from ..internal.arrays import Array
from ..parquet.files import Files, Reader
from .arrow import filtered, targets_in
from .columns import Column
from .division import weights_in

__all__ = ["Strata"]

Numbers = npt.NDArray[np.int64]
MOST = 1 << 22  # numbers of rows that are kept: of each class before each row group, 32 MiB
DRAW = 3  # beside those of `division`


@dataclass(frozen=True, eq=False)
class Strata:
    """How the rows of each class are divided into folds.

    Attributes
    ----------
    column : str
        The column of the targets.
    encode : function
        ``encode(column, name)`` returns the class of each row.
    starts : ndarray of int64
        Rows of each class before each row group, (row groups, classes).
    sizes : ndarray of int64
        Rows of each class, (classes,).
    seed : int
        Of the permutations.
    held : ndarray of int64
        Rows of each class that are held out, if all networks hold out the same ones, otherwise none.
    folds : int
        Folds that are held out in turn, otherwise 0; a row alone of its class is in another fold, the last one.
    """

    column: str
    encode: Callable[[Column | Array, str], Array]
    starts: Numbers
    sizes: Numbers
    seed: int
    held: Numbers
    folds: int = 0

    @classmethod
    def of(
        cls, files: Files, column: str, encode: Callable[[Column | Array, str], Array], classes: int, weight: str | None
    ) -> Self | None:
        """Return the classes of all rows of positive weight, read once, not yet divided; None for too many of them."""
        if len(files.groups) * classes > MOST:
            return None
        counts = np.zeros((len(files.groups), classes), np.int64)
        columns = [column] if weight is None else [column, weight]
        with closing(Reader(files, columns, threads=False)) as reader:
            for group, where in enumerate(map(files.where, range(len(files.groups)))):
                table = reader.read(group)
                if weight is not None:
                    table = filtered(table, weights_in(table, weight, where) > 0)
                if table.num_rows:
                    counts[group] = np.bincount(targets_in(table, column, encode, f"y: {where}"), minlength=classes)
        sizes = counts.sum(axis=0)
        return cls(column, encode, np.cumsum(counts, axis=0) - counts, sizes, 0, np.zeros_like(sizes))

    def divided(self, seed: int, folds: int | None, share: float) -> Self:
        """Return the same with folds that are held out in turn, or without `folds` a share of the rows."""
        drawn = int(np.random.SeedSequence((seed, DRAW)).generate_state(1, np.uint64)[0] >> np.uint64(1))
        if folds is not None:
            several = int(self.sizes[self.sizes > 1].sum())
            return replace(self, seed=drawn, folds=min(folds, several))
        rows = int(self.sizes.sum())
        most = rows - int((self.sizes > 0).sum())
        return replace(self, seed=drawn, held=class_shares(self.sizes, min(max(round(rows * share), 1), most)))

    @property
    def count(self) -> int:
        """Number of folds."""
        return self.folds + bool((self.sizes == 1).any()) if self.folds else 2

    def of_rows(self, table: Any, group: int, where: str) -> Numbers:
        """Return the fold of each row of a row group."""
        found = np.empty(table.num_rows, np.int64)
        if not table.num_rows:
            return found
        classes = targets_in(table, self.column, self.encode, f"y: {where}")
        order = np.argsort(classes, kind="stable")
        there, first = np.unique(classes[order], return_index=True)
        several = np.where(self.sizes > 1, self.sizes, 0)
        before = np.cumsum(several) - several  # so that the folds are of one size, too
        for one, rows in zip(there.tolist(), np.split(order, first[1:]), strict=True):
            size, start = int(self.sizes[one]), int(self.starts[group, one])
            place = _core.permutation(size, self.seed, one, start, len(rows))
            if not self.folds:
                found[rows] = place >= self.held[one]
            else:
                found[rows] = (before[one] + place) % self.folds if size > 1 else self.folds
        return found

"""The order of rows in an epoch: windows of row groups, drawn anew for each epoch, and the rows within a window.

Both are keyed permutations, functions of the seed and the epoch, as for arrays (`_core.permutation`). Rows that fit
into one window have the order that the same rows have as arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _core

__all__ = ["Order"]

Numbers = npt.NDArray[np.int64]

# Numbers of permutations, of which a seed has 2⁵⁶: an epoch's rows have the epoch's own in its first window, others in
# the next windows (for up to 2³² epochs of 2²³ windows); its row groups have one of the other half.
WINDOW, GROUPS = 1 << 32, 1 << 55


class Order(NamedTuple):
    """The windows of an epoch.

    Attributes
    ----------
    windows : tuple of ndarray of int64
        The row groups of each window, in file order.
    ends : ndarray of int64
        The number of rows up to the end of each window.
    shuffle : tuple of two int, or None
        Seed and epoch, where rows are shuffled.
    """

    windows: tuple[Numbers, ...]
    ends: Numbers
    shuffle: tuple[int, int] | None

    @classmethod
    def of(
        cls, rows: Numbers, most: int, shuffle: tuple[int, int] | None = None, units: Numbers | None = None
    ) -> Order:
        """Return the windows of row groups of `rows` rows each, of at most `most` rows, in file order or shuffled.

        `units` are the numbers of the row groups, from 0, of which these are parts; parts follow one another.
        """
        units = np.arange(len(rows)) if units is None else units
        order = np.arange(len(rows))
        if shuffle is not None:
            count = int(units[-1]) + 1
            place = np.empty(count, np.int64)
            place[_core.permutation(count, shuffle[0], GROUPS + shuffle[1])] = np.arange(count)
            order = np.argsort(place[units], kind="stable")
        starts, filled = [], most
        for position, size in enumerate(rows[order].tolist()):
            filled += size
            if filled > most:
                starts.append(position)
                filled = size
        windows = tuple(np.sort(part) for part in np.split(order, starts[1:]))
        return cls(windows, np.cumsum([int(rows[window].sum()) for window in windows]), shuffle)

    def start(self, window: int) -> int:
        """Return the number of rows before a window."""
        return int(self.ends[window - 1]) if window else 0

    def rows(self, window: int) -> Numbers:
        """Return the order of the rows of a window, numbered within it."""
        count = int(self.ends[window]) - self.start(window)
        if self.shuffle is None:
            return np.arange(count)
        seed, epoch = self.shuffle
        return _core.permutation(count, seed, epoch + window * WINDOW)

    def window_of(self, row: int) -> int:
        """Return the window that has the row at a position of the epoch."""
        return int(np.searchsorted(self.ends, row, side="right"))

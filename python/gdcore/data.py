"""Mini-batches for custom loops, and splitting data into a training and a validation part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from .internal.arguments import explained
from .internal.arrays import Array, Data, same_rows, to_any_array, to_array, to_weights, with_names
from .internal.attributes import Closed, Fixed, Setting
from .internal.checks import flag, integer, is_number, real, seed_or_random, shown
from .internal.features import FeatureNames
from .internal.frames import frame_labels, is_frame, is_series, row_count, take_rows
from .internal.inputs import to_inputs
from .parquet.source import Parquet

__all__ = ["MiniBatches", "Parquet", "train_validation_split"]


@explained
class MiniBatches(Closed):
    """Mini-batches of arrays, in a new order in each iteration.

    ``for xb, yb in MiniBatches(x, y, batch_size=32): ...`` is one epoch; the next iteration is the next epoch, in
    another order. The batches are those that ``Trainer.fit`` would train on with the same seed, batch size and data.

    Parameters
    ----------
    x : array
        Data of shape (N, ...). A memory map is not loaded: only a batch's rows are read.
    y : array, optional
        Targets with N rows.
    batch_size : int or None
        Rows in a batch; None, and a number above N, is all of them.
    seed : int, optional
        Seed of the shuffling, 0 to 2⁶³-1; None draws one.
    shuffle : bool
        Whether each epoch has its own order; otherwise rows keep their order, in views without a copy.
    drop_last : bool
        Whether to leave out a last batch that is smaller than the others, if there are others. Otherwise a last batch
        of a single row joins the previous one.
    sample_weight : array, optional
        Weight of each row, shape (N,).

    Attributes
    ----------
    rows : int
        Number of rows.
    epoch : int
        The epoch of the next iteration, from 0. Like ``batch_size``, ``seed``, ``shuffle`` and ``drop_last`` it can be
        set; the next iteration uses the new value.
    feature_names, target_names : tuple or None
        Column names of `x` and of `y` where they are frames (of several columns, for `y`). A trainer that gets
        the batches, or each of them in turn, puts their columns into its known order, or stores this one. An array of
        a batch has its column names, arrays computed from it do not.

    Yields
    ------
    tuple of ndarray or ndarray
        (xb, yb), (xb, yb, wb) with weights, or xb alone without targets and weights.

    Raises
    ------
    TypeError
        If an argument is not an array, or `batch_size` not a whole number.
    ValueError
        If there are no rows, the numbers of rows differ, or `batch_size` is below 1.
    """

    __slots__ = (
        *("__weakref__", "_arrays", "_batch_size", "_drop_last", "_epoch", "_feature_names", "_rows", "_seed"),
        *("_shuffle", "_target_names"),
    )
    feature_names: Fixed[FeatureNames | None] = Fixed("Column names of x, where it is a frame.", "they are those of x")
    target_names: Fixed[tuple[Any, ...] | None] = Fixed(
        "Column names of y, where it is a frame.", "they are those of y"
    )
    rows: Fixed[int] = Fixed("Number of rows.", "it is that of the arrays")
    seed: Setting[int] = Setting("Seed of the shuffling.", seed_or_random)
    shuffle: Setting[bool] = Setting("Whether each epoch has an order of its own.", flag)
    drop_last: Setting[bool] = Setting("Whether a smaller last batch is left out.", flag)
    epoch: Setting[int] = Setting("The epoch of the next iteration, from 0.", integer)

    def __init__(
        self,
        x: Data,
        y: Data | None = None,
        *,
        batch_size: int | None,
        seed: int | None = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        sample_weight: Data | None = None,
    ) -> None:
        inputs = to_inputs(x, "x")
        self._feature_names = inputs.names
        several = is_frame(y) and len(labels := frame_labels(y, "y")) > 1
        self._target_names = tuple(labels) if several else None
        self._arrays = [inputs.array]
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                array = to_any_array(value, name) if name == "y" else to_weights(value, name)
                same_rows(name, array, "x", self._arrays[0])
                self._arrays.append(array)
        if self._arrays[0].ndim == 0:
            raise ValueError("x: got a single number; expected rows")
        self._rows = len(self._arrays[0])
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.epoch = 0

    @property
    def batch_size(self) -> int:
        """Rows in a batch."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, size: int | None) -> None:
        self._batch_size = batch_rows(size, self._rows)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return _core.batch_count(self.rows, self.batch_size, self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over one epoch; the next iteration is the next epoch."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._walk(epoch)

    def __repr__(self) -> str:
        """Return the numbers of rows and batches."""
        return f"MiniBatches({self.rows} rows in {len(self)} batches of {self.batch_size}, seed={self.seed})"

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, from 0; called by ``Trainer.fit``."""
        self.epoch = epoch

    def _walk(self, epoch: int) -> Iterator[Any]:
        rows, size, batches = self.rows, self.batch_size, len(self)
        end = batches * size if self.drop_last else rows
        for batch in range(batches):
            first, last = batch * size, end if batch == batches - 1 else (batch + 1) * size
            shuffled = _core.permutation(rows, self.seed, epoch, first, last - first) if self.shuffle else None
            taken = [array[first:last] if shuffled is None else array[shuffled] for array in self._arrays]
            taken[0] = with_names(taken[0], self._feature_names)
            if self._target_names is not None:  # of y, the second array
                taken[1] = with_names(taken[1], self._target_names)
            yield taken[0] if len(taken) == 1 else tuple(taken)


def batch_rows(batch_size: object, rows: int) -> int:
    """Return the rows of a batch: all for None, and where there are no more than `batch_size`; refuse empty data."""
    if rows == 0:
        raise ValueError("x: got no rows; expected at least one")
    if batch_size is None:
        return rows
    return min(rows, integer(batch_size, "batch_size", minimum=1, expected="None (all rows), or a number of rows"))


def split_rows(
    rows: int, fraction: float, seed: int, labels: Array | None = None, name: str = "fraction"
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the row numbers of the training and of the validation part, each in ascending order.

    Parameters
    ----------
    rows : int
        Rows to split.
    fraction : float
        Share of the validation part, between 0 and 1.
    seed : int
        Seed of the draw.
    labels : ndarray, optional
        Class of each row: every class is then split in the same proportion, see `class_shares`.
    name : str
        Name of the argument, for the message.

    Raises
    ------
    ValueError
        If one of the parts would be empty.
    """
    count = round(rows * fraction)
    if not 0 < count < rows:
        raise ValueError(
            f"{name}: got {fraction:g} of {rows} rows, which leaves {rows - count} for training and {count} for "
            "validation"
        )
    order = _core.permutation(rows, seed, 0)
    if labels is None:
        chosen = order[:count]
    else:
        _, kind = np.unique(labels, return_inverse=True)
        sizes = np.bincount(kind)
        quota = class_shares(sizes, count)
        shuffled = kind[order]
        by_class = np.argsort(shuffled, kind="stable")
        rank = np.arange(rows) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # number of earlier rows of the same class
        chosen = order[by_class[rank < np.repeat(quota, sizes)]]
    mask = np.zeros(rows, dtype=bool)
    mask[chosen] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def class_shares(sizes: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return how many rows of each class are held out, `count` in all: the same share of each, to the nearest row.

    Each class keeps a row, unless more than that are to be held out; others then give more.
    """
    room = sizes - 1 if count <= (sizes - 1).sum() else sizes
    exact = sizes * (count / sizes.sum())
    quota: npt.NDArray[np.int64] = np.floor(exact).astype(np.int64)
    order = np.argsort(quota - exact, kind="stable")  # the largest remainders get the rest
    quota[order[quota[order] < room[order]][: count - quota.sum()]] += 1
    if (left := count - int(quota.sum())) > 0:
        exact = (room - quota) * (left / (room - quota).sum())
        more = np.floor(exact).astype(np.int64)
        more[np.argsort(more - exact, kind="stable")[: left - more.sum()]] += 1
        quota += more
    return quota


def strata(stratify: Any, y: Array | None, x: Array) -> Array | None:
    """Return the class of each row by which a split is stratified, shape (N,), or None if it is not.

    Parameters
    ----------
    stratify : array, bool or None
        The classes; True for those in `y`.
    y, x : array
        Targets, if there are any, and the array that sets the number of rows.

    Raises
    ------
    TypeError
        If `stratify` is no array.
    ValueError
        If there is not one class for each row.
    """
    if stratify is None or stratify is False:
        return None
    name = "y" if stratify is True else "stratify"
    if y is None and stratify is True:
        raise ValueError("stratify: got True without y; expected the classes of the rows")
    labels = y if y is not None and stratify is True else to_any_array(stratify, name)
    same_rows(name, labels, "x", x)
    labels = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    labels = np.array([str(item) for item in labels.flat]).reshape(labels.shape) if labels.dtype == "O" else labels
    if labels.ndim != 1 or (labels.dtype.kind == "f" and not (labels == np.floor(labels)).all()):
        raise ValueError(f"{name}: got {labels.dtype} of shape {labels.shape}; expected a class for each row")
    return labels


@explained
def train_validation_split(
    x: Data, *arrays: Data, fraction: float = 0.2, seed: int = 0, stratify: bool | Data | None = None
) -> tuple[Any, ...]:
    """Split arrays at random into a training and a validation part.

    ``x, xv, y, yv = train_validation_split(x, y)``, in the order of scikit-learn's ``train_test_split``.

    Parameters
    ----------
    x, *arrays : array
        Data, targets, weights and so on, with the same number of rows.
    fraction : float
        Share of the validation part, between 0 and 1.
    seed : int
        Seed of the draw.
    stratify : array or True, optional
        Class of each row, or True for the first of `arrays`: each class is split in the same proportion, to the nearest
        row, and keeps a row for training if there are enough others.

    Returns
    -------
    tuple of ndarray
        Training and validation part of each array in turn, in the rows' original order; copies, in memory. Parts of
        frames and series are frames and series of the same kind.

    Raises
    ------
    TypeError
        If an argument is not an array.
    ValueError
        If the numbers of rows differ, or a part would be empty.
    """
    parts = [np.arange(row_count(x, "x")) if is_frame(x) else to_array(x, "x")]  # a frame may contain anything
    for i, other in enumerate(arrays):
        name = "y" if i == 0 else f"arrays[{i}]"
        if is_number(other):
            raise TypeError(
                f"{name}: got {shown(other)}; expected an array; a share is given as fraction={shown(other)}"
            )
        parts.append(to_any_array(other, name))
        same_rows(name, parts[-1], "x", parts[0])
    labels = strata(stratify, parts[1] if arrays else None, parts[0])
    if parts[0].ndim == 0:
        raise ValueError("x: got a single number; expected rows")
    if len(parts[0]) < 2:
        raise ValueError(f"x: got {len(parts[0])} rows to split; expected at least two, one for each part")
    share = real(fraction, "fraction", low=0, high=1)
    training, validation = split_rows(len(parts[0]), share, seed_or_random(seed), labels)
    return tuple(
        take_rows(given, rows) if is_frame(given) or is_series(given) else array[rows]
        for given, array in zip((x, *arrays), parts, strict=True)
        for rows in (training, validation)
    )

"""Data for the experiments: MNIST-1D, labels with noise, and checks of the user's data."""

from __future__ import annotations

import random
import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..internal.arguments import explained
from ..internal.arrays import Array, Data, same_rows
from ..internal.checks import integer, optional_module, real, seed_or_random, shown
from ..internal.inputs import to_inputs
from ..internal.labels import to_targets

__all__ = ["LabelledData", "gaussian_clusters", "mnist1d", "redraw_labels"]

Labels = npt.NDArray[np.int64]
Inputs = npt.NDArray[np.float32]


class LabelledData(NamedTuple):
    """Training and test rows of a classification problem.

    Attributes
    ----------
    x, x_test : ndarray
        Inputs, float32, shapes (N, features) and (N_test, features).
    y, y_test : ndarray
        Labels from 0, int64, shapes (N,) and (N_test,).
    """

    x: Inputs
    y: Labels
    x_test: Inputs
    y_test: Labels

    @property
    def features(self) -> int:
        """Number of input columns."""
        return int(self.x.shape[1])

    @property
    def classes(self) -> int:
        """Number of classes: the largest label plus one."""
        return int(max(self.y.max(), self.y_test.max())) + 1

    def fingerprint(self) -> dict[str, Any]:
        """Return rows and a checksum of all values, by which a resumed sweep recognises its data."""
        checksum = 0
        for array in self:
            checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), checksum)
        return {"rows": len(self.x), "test_rows": len(self.x_test), "checksum": f"{checksum:08x}"}


@explained
def mnist1d(train: int = 4000, test: int = 12000, *, seed: int = 42) -> LabelledData:
    """Make MNIST-1D: digits drawn as curves of 40 points, shifted, scaled, sheared and with noise.

    Parameters
    ----------
    train, test : int
        Numbers of rows. Classes are equally frequent over both parts together.
    seed : int
        Seed of the generator, below 2³²; 42 is the published one.

    Returns
    -------
    LabelledData
        40 features, 10 classes; scaled so that all values together have mean 0 and standard deviation 1.

    Raises
    ------
    ImportError
        If the package ``mnist1d`` (Greydanus & Kobak 2020) is not installed. It generates the data without a
        download, in about half a second for 1,000 rows.
    """
    train, test = integer(train, "train", minimum=1), integer(test, "test", minimum=1)
    seed = integer(seed, "seed")
    if seed >= 2**32:
        raise ValueError(f"seed: got {seed}; expected a whole number below 2**32")
    package = optional_module("mnist1d.data", "mnist1d", "gdcore[experiments]")
    settings = package.get_dataset_args()
    settings.seed = seed
    settings.num_samples = -(-(train + test) // 10) * 10  # the generator makes ten classes of equal size
    states = random.getstate(), np.random.get_state()  # the generator seeds both global states
    try:
        made = package.make_dataset(settings)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    x = np.concatenate([made["x"], made["x_test"]]).astype(np.float32)
    y = np.concatenate([made["y"], made["y_test"]]).astype(np.int64)
    return LabelledData(x[:train], y[:train], x[train : train + test], y[train : train + test])


@explained
def gaussian_clusters(
    train: int = 2000, test: int = 4000, *, features: int = 50, classes: int = 10, spread: float = 2.2, seed: int = 0
) -> LabelledData:
    """Draw classes that are overlapping Gaussian clusters: fast, and needs no package.

    Parameters
    ----------
    train, test : int
        Numbers of rows, each of a class drawn at random.
    features, classes : int
        Numbers of columns and of clusters. The centres are standard Gaussian.
    spread : float
        Standard deviation of a cluster in each direction, at least 0.
    seed : int
        Seed of centres, classes and rows.

    Returns
    -------
    LabelledData
        Training and test rows of the same clusters.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    """
    rows = integer(train, "train", minimum=1), integer(test, "test", minimum=1)
    shape = integer(classes, "classes", minimum=2), integer(features, "features", minimum=1)
    width = real(spread, "spread", low=0)
    rng = np.random.default_rng(seed_or_random(seed))
    centres = rng.standard_normal(shape)

    def draw(count: int) -> tuple[Inputs, Labels]:
        y = rng.integers(0, shape[0], count)
        return (centres[y] + width * rng.standard_normal((count, shape[1]))).astype(np.float32), y

    return LabelledData(*draw(rows[0]), *draw(rows[1]))


@explained
def redraw_labels(y: Data, share: float, *, classes: int | None = None, seed: int = 0) -> Labels:
    """Return labels with a random share replaced by labels drawn uniformly from all classes.

    A redrawn label may equal the old one, so about share · (1 - 1/classes) of the labels differ.

    Parameters
    ----------
    y : array
        Labels from 0, integers of shape (N,).
    share : float
        From 0 to 1; round(share · N) labels are redrawn.
    classes : int, optional
        Number of classes; the largest label plus one when left out.
    seed : int
        Seed of both draws.

    Returns
    -------
    ndarray of int64
        Shape (N,), a copy.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    """
    labels = _labels(y, "y").copy()
    number = int(labels.max()) + 1 if classes is None else integer(classes, "classes", minimum=int(labels.max()) + 1)
    count = round(real(share, "share", low=0, high=1) * len(labels))
    rng = np.random.default_rng(seed_or_random(seed))
    rows = rng.permutation(len(labels))[:count]
    labels[rows] = rng.integers(0, number, count)
    return labels


def labelled_data(data: Any) -> LabelledData:
    """Return the checked data of an experiment: `LabelledData`, or four arrays (x, y, x_test, y_test)."""
    if not isinstance(data, (tuple, list)) or len(data) != 4:
        raise TypeError(f"data: got {shown(data)}; expected LabelledData, or (x, y, x_test, y_test)")
    inputs = to_inputs(data[0], "x")
    test_inputs = to_inputs(data[2], "x_test", inputs.names)
    parts = (
        _inputs(inputs.array, "x"),
        _labels(data[1], "y"),
        _inputs(test_inputs.array, "x_test"),
        _labels(data[3], "y_test"),
    )
    same_rows("y", parts[1], "x", parts[0])
    same_rows("y_test", parts[3], "x_test", parts[2])
    if parts[2].shape[1] != parts[0].shape[1]:
        raise ValueError(f"x_test: got {parts[2].shape[1]} columns; expected {parts[0].shape[1]}, as x has")
    return LabelledData(*parts)


def _inputs(array: Array, name: str) -> Inputs:
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name}: got shape {array.shape}; expected (rows, features)")
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(single).all():
        row, column = np.argwhere(~np.isfinite(single))[0]
        raise ValueError(
            f"{name}: got {array[row, column]} in row {row}, column {column}; expected finite numbers of float32"
        )
    return single


def _labels(value: Data, name: str) -> Labels:
    array = to_targets(value, name, None, labels=True).array
    if array.dtype.kind == "f" and array.ndim == 1:
        raise TypeError(f"{name}: got {array.dtype} with fractions; expected labels, whole numbers from 0")
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"{name}: got shape {array.shape}; expected (rows,), a label for each")
    if array.min() < 0:
        raise ValueError(f"{name}: got the label {array.min()}; expected labels from 0")
    return array.astype(np.int64)

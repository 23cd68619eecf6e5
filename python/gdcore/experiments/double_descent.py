"""Double descent of networks (chapter, slides 51-56): test error against width, epochs, and number of training rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Data
from ..internal.checks import integer
from ._train import Build, label_share, log_spaced, recipe, seeds, sweep_networks, whole_numbers
from .data import gaussian_clusters, labelled_data, mnist1d
from .descent import DoubleDescent

__all__ = ["double_descent_epochs", "double_descent_samples", "double_descent_width"]

WIDTHS = tuple(int(width) for width in np.unique(np.geomspace(2, 300, 20, dtype=int)))
SAMPLES = (100, 200, 400, 700, 1000, 1400, 2000, 2800, 4000, 5600, 8000)
INTERPOLATED = 0.005  # share of wrong training rows that counts as none
MEASURE = "share of wrong rows"


@explained
def double_descent_width(
    x: Data | None = None,
    y: Data | None = None,
    *,
    test: Sequence[Data] | None = None,
    widths: Iterable[int] = WIDTHS,
    build: Build | None = None,
    optimizer: _core.Optimizer | None = None,
    epochs: int = 500,
    batch_size: int | None = 100,
    label_noise: float = 0.15,
    repeats: int = 1,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    n_jobs: int = 1,
    progress: bool = True,
) -> DoubleDescent:
    """Train networks of many widths: test error peaks where they begin to fit the training data exactly (slides 52-53).

    Parameters
    ----------
    x, y : array, optional
        Training inputs (N, features) and labels (N,), whole numbers from 0. MNIST-1D with 4,000 rows (12,000 for the
        test) when x, y and `test` are left out; it takes about ten seconds to make.
    test : (x, y), optional
        Inputs and labels for the test.
    widths : iterable of int
        Units in each hidden layer.
    build : function, optional
        ``build(width)`` returns the network's layers as a list; features-width-width-classes with ReLU between them and
        He's initialisation when left out.
    optimizer : Optimizer, optional
        ``gd.Momentum(lr=0.01, momentum=0.9)`` when left out.
    epochs : int
        Epochs of training; nothing stops it earlier.
    batch_size : int or None
        Rows in a batch; None takes all.
    label_noise : float
        Share of the training labels that is drawn anew from all classes; see `redraw_labels`. The test labels are not
        touched.
    repeats : int
        Runs for each width, with the seeds seed, seed + 1, ...: of initial weights, shuffling and label noise.
    seed : int
        Seed of the first.
    folder : path, optional
        Where finished runs are kept, so that an interrupted sweep goes on where it was; see `run_sweep`. A run is only
        taken from there if its layers and the rates of all its steps were the same, too.
    n_jobs : int
        Processes to use, -1 for one a processor; the results do not depend on it.
    progress : bool
        Whether to show a line that counts finished runs.

    Returns
    -------
    DoubleDescent
        Table, curve, interpolation threshold, and the figure.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or `folder` holds a sweep of other settings.
    DivergenceError
        If a loss becomes nan or infinite.
    ImportError
        If mnist1d (without data) or joblib (with several jobs) is needed and not installed.

    Notes
    -----
    Belkin et al. 2019. The defaults are the MNIST-1D case study of Greydanus & Kobak 2020 but for the initialisation.
    """
    options: dict[str, Any] = {"folder": folder, "n_jobs": n_jobs, "progress": progress}
    sizes, runs = whole_numbers(widths, "widths"), seeds(seed, repeats)
    fixed = {"label_noise": label_share(label_noise), "epochs": [integer(epochs, "epochs", minimum=1)]}
    data = labelled_data(x, y, test, mnist1d)
    common = recipe(data, build, optimizer, batch_size)
    points = [{"width": w, "samples": len(data.x), **fixed, "seed": s} for s in runs for w in sizes]
    return _descent("width", sweep_networks(points, common, **options))


@explained
def double_descent_epochs(
    x: Data | None = None,
    y: Data | None = None,
    *,
    test: Sequence[Data] | None = None,
    width: int = 300,
    build: Build | None = None,
    optimizer: _core.Optimizer | None = None,
    epochs: int | Iterable[int] = 300,
    batch_size: int | None = 100,
    label_noise: float = 0.2,
    repeats: int = 3,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    n_jobs: int = 1,
    progress: bool = True,
) -> DoubleDescent:
    """Measure a network at many epochs of one training run: with noisy labels test error may fall twice (slide 54).

    Parameters
    ----------
    x, y, test : array, optional
        As for `double_descent_width`, but `gaussian_clusters` when left out.
    width : int
        Units in each hidden layer.
    build, optimizer, batch_size, label_noise, repeats, seed, folder, n_jobs, progress
        As for `double_descent_width`.
    epochs : int or iterable of int
        The epochs to measure at; a number stands for about 40 up to it, evenly spread over the logarithm.

    Returns
    -------
    DoubleDescent
        Table, curve, interpolation threshold (the epoch at which the training data is fitted), and the figure.

    Raises
    ------
    TypeError, ValueError, DivergenceError, ImportError
        As for `double_descent_width`.

    Notes
    -----
    Nakkiran et al. 2020.
    """
    options: dict[str, Any] = {"folder": folder, "n_jobs": n_jobs, "progress": progress}
    if isinstance(epochs, Iterable):
        at = whole_numbers(epochs, "epochs")
    else:
        at = log_spaced(integer(epochs, "epochs", minimum=1))
    fixed = {"width": integer(width, "width", minimum=1), "label_noise": label_share(label_noise), "epochs": at}
    runs = seeds(seed, repeats)
    data = labelled_data(x, y, test, gaussian_clusters)
    common = recipe(data, build, optimizer, batch_size)
    points = [{"samples": len(data.x), **fixed, "seed": s} for s in runs]
    return _descent("epoch", sweep_networks(points, common, **options))


@explained
def double_descent_samples(
    x: Data | None = None,
    y: Data | None = None,
    *,
    test: Sequence[Data] | None = None,
    samples: Iterable[int] | None = None,
    width: int = 30,
    build: Build | None = None,
    optimizer: _core.Optimizer | None = None,
    epochs: int = 300,
    batch_size: int | None = 100,
    label_noise: float = 0.2,
    repeats: int = 1,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    n_jobs: int = 1,
    progress: bool = True,
) -> DoubleDescent:
    """Train a network on more and more rows: near the interpolation threshold more data can hurt (slides 55-56).

    `double_descent_linear` does the same in linear regression, where theory gives the expected test error.

    Parameters
    ----------
    x, y, test : array, optional
        As for `double_descent_width`, but `gaussian_clusters` with 8,000 rows when left out. Smaller sets are part of
        the larger ones of the same seed.
    build, optimizer, epochs, batch_size, label_noise, repeats, seed, folder, n_jobs, progress
        As for `double_descent_width`.
    samples : iterable of int, optional
        Numbers of training rows; 100 to 8,000, of the rows there are, when left out.
    width : int
        Units in each hidden layer.

    Returns
    -------
    DoubleDescent
        Table, curve, interpolation threshold (the largest number of rows that is fitted), and the figure.

    Raises
    ------
    TypeError, ValueError, DivergenceError, ImportError
        As for `double_descent_width`.
    """
    options: dict[str, Any] = {"folder": folder, "n_jobs": n_jobs, "progress": progress}
    runs = seeds(seed, repeats)
    fixed: dict[str, Any] = {"width": integer(width, "width", minimum=1), "label_noise": label_share(label_noise)}
    fixed["epochs"] = [integer(epochs, "epochs", minimum=1)]
    sizes = None if samples is None else whole_numbers(samples, "samples")
    data = labelled_data(x, y, test, partial(gaussian_clusters, SAMPLES[-1]))
    sizes = [n for n in SAMPLES if n <= len(data.x)] if sizes is None else sizes
    sizes = whole_numbers(sizes or [len(data.x)], "samples", maximum=len(data.x))
    common = recipe(data, build, optimizer, batch_size)
    points = [{"samples": n, **fixed, "seed": s} for s in runs for n in sizes]
    return _descent("samples", sweep_networks(points, common, **options))


def _descent(axis: str, sweep: Any) -> DoubleDescent:
    return DoubleDescent(axis, "train_error", "test_error", MEASURE, sweep.table, INTERPOLATED, sweep.cpu_seconds)

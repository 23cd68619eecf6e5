"""Double descent of networks (chapter, slides 51-56): test error against one setting of a recipe."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from ..internal.arguments import explained
from ..internal.checks import choice, instance, real
from ._train import Recipe, distinct, log_spaced, points_over, sweep_networks, whole_numbers
from .descent import DoubleDescent

__all__ = ["double_descent"]

WIDTHS = tuple(int(width) for width in np.unique(np.geomspace(2, 300, 20, dtype=int)))
SAMPLES = (100, 200, 400, 700, 1000, 1400, 2000, 2800, 4000, 5600, 8000)
DECAYS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3)
AXES = {"width": "parameters", "epochs": "epoch", "samples": "samples", "weight_decay": "weight_decay"}
INTERPOLATED = 0.005  # share of wrong training rows that counts as none
MEASURE = "share of wrong rows"


@explained
def double_descent(
    recipe: Recipe,
    over: str = "width",
    *,
    values: Iterable[float] | None = None,
    repeats: int = 1,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    within: str | None = None,
    executor: Any = None,
    progress: bool = True,
) -> DoubleDescent:
    """Train networks that differ in one setting: near the interpolation threshold test error peaks (slides 52-56).

    Parameters
    ----------
    recipe : Recipe
        Data, network, optimiser, epochs, batch size and label noise.
    over : str
        The setting to vary, in place of the recipe's:

        - "width": units in each hidden layer (model-wise, slides 52-53; Belkin et al. 2019). The result is by the
          number of parameters (by the width if several widths have the same number).
        - "epochs": epochs of training (epoch-wise, slide 54). One run is measured at all of them.
        - "weight_decay": strength λ of the optimiser's weight decay (slide 54). The result goes from strong to weak.
        - "samples": number of training rows (sample-wise, slides 55-56). Smaller sets are part of the larger ones of
          the same seed. `double_descent_linear` does the same in linear regression, where theory gives the test error.
    values : iterable of numbers, optional
        The values to train with: whole numbers from 1, for the weight decay numbers above 0; equal ones count once.
        When left out: 19 widths from 2 to 300; about 40 epochs up to the recipe's, evenly spread over the logarithm;
        ten decays from 1e-5 to 0.3; 100 to 8,000 rows, up to the available ones.
    repeats : int
        Runs for each value, with the seeds seed, seed + 1, ...: of initial weights, shuffling and label noise.
    seed : int
        Seed of the first.
    folder : path, optional
        Where finished runs are kept, so that an interrupted sweep continues; see `run_sweep`. A run is reused only if
        its layers and the rates of all its steps were the same.
    n_jobs, within, executor
        How many runs are computed at a time, and where, as for `gdcore.restarts`: one in a thread on each processor
        when left out. The results do not depend on it.
    progress : bool
        Whether to count the finished runs in a line.

    Returns
    -------
    DoubleDescent
        Table, curve, interpolation threshold, and the figure.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or `folder` contains a sweep with other settings.
    DivergenceError
        If a loss becomes nan or infinite.
    ImportError
        If processes are wanted and joblib is not installed.

    Notes
    -----
    Belkin et al. 2019 (random features, and networks with one hidden layer); Nakkiran et al. 2019, "Deep double
    descent" (ResNet18 and transformers).
    """
    instance(recipe, Recipe, "recipe", "experiments.Recipe(experiments.gaussian_clusters())")
    axis, checked = AXES[choice(over, "over", AXES)], _values(recipe, over, values)
    points = points_over(recipe, over, [checked] if over == "epochs" else checked, repeats=repeats, seed=seed)
    where = {"n_jobs": n_jobs, "within": within, "executor": executor, "progress": progress}
    sweep = sweep_networks(points, recipe, folder=folder, **where)
    if over == "width" and len(set(sweep.table["parameters"])) < len(checked):
        axis = "width"
    return DoubleDescent(axis, "train_error", "test_error", MEASURE, sweep.table, INTERPOLATED, sweep.cpu_seconds)


def _values(recipe: Recipe, over: str, values: Any) -> list[Any]:
    """Return the checked values of the varied setting, in ascending order."""
    rows = len(recipe.data.x)
    if values is None:
        samples = [n for n in SAMPLES if n <= rows] or [rows]
        defaults = {"width": WIDTHS, "epochs": log_spaced(recipe.epochs), "samples": samples, "weight_decay": DECAYS}
        return list(defaults[over])
    if over == "weight_decay":
        return distinct(values, "values", partial(real, low=0, open_low=True), "numbers above 0")
    numbers = whole_numbers(values, "values")
    if over == "samples" and numbers[-1] > rows:
        raise ValueError(f"values: got {numbers[-1]}; expected at most {rows}, the rows of x")
    return numbers

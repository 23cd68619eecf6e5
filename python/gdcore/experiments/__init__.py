"""Experiments on generalisation as one call each: double descent, random labels, early stopping (slides 50-56).

Every sweep is resumable (``folder=``), runs in threads, processes or on a cluster with the same results, and gives a
table and a figure. Models stay on the CPU, so that results do not depend on whether the machine has a GPU::

    from gdcore import experiments

    recipe = experiments.Recipe(experiments.mnist1d(), epochs=500, label_noise=0.15)
    result = experiments.double_descent(recipe, over="width", folder="width")
    print(result)
    result.plot("width.png")
    result.table.to_csv("width.csv")
"""

from ._sweep import PointSweep, run_sweep
from ._train import Recipe
from .data import LabelledData, gaussian_clusters, mnist1d, redraw_labels
from .descent import DoubleDescent
from .double_descent import double_descent
from .early_stopping import EarlyStoppingDecay, early_stopping_and_decay
from .labels import RandomLabels, random_labels
from .linear import double_descent_linear, linear_excess_risk

__all__ = [
    "DoubleDescent",
    "EarlyStoppingDecay",
    "LabelledData",
    "PointSweep",
    "RandomLabels",
    "Recipe",
    "double_descent",
    "double_descent_linear",
    "early_stopping_and_decay",
    "gaussian_clusters",
    "linear_excess_risk",
    "mnist1d",
    "random_labels",
    "redraw_labels",
    "run_sweep",
]

"""Callbacks: early stopping, checkpoints, a smaller rate on a plateau, averaged weights, logs.

A callback is any object with some of the methods of `Callback`; it need not inherit from it.
"""

from .callback import Callback
from .checkpoint import Checkpoint
from .csv_log import CSVLog
from .early_stopping import EarlyStopping
from .progress import Progress
from .reduce_on_plateau import ReduceOnPlateau
from .weight_average import WeightAverage

__all__ = [
    "CSVLog",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "Progress",
    "ReduceOnPlateau",
    "WeightAverage",
]

"""Metrics, called with ``(y_true, y_pred)`` and, if there are weights, ``sample_weight=``.

``Trainer(metrics=["accuracy", "roc_auc"])`` takes their names, and functions: those of this module, those of
`sklearn.metrics`, and any of your own. All sums are in float64. docs/metrics.md says which of them take
labels, probabilities or numbers.
"""

import typing as _typing

from .calls import Call, Metrics, Predictions, called_metrics, on_labels, on_logits
from .labels import accuracy, balanced_accuracy, binary_accuracy, f1, precision, recall
from .names import direction
from .probabilities import average_precision, brier, log_loss, roc_auc, top_k
from .regression import mean_absolute_error, mean_squared_error, r2, root_mean_squared_error

__all__ = [
    "Call",
    "Metrics",
    "Predictions",
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "binary_accuracy",
    "brier",
    "called_metrics",
    "direction",
    "f1",
    "log_loss",
    "mean_absolute_error",
    "mean_squared_error",
    "on_labels",
    "on_logits",
    "precision",
    "r2",
    "recall",
    "roc_auc",
    "root_mean_squared_error",
    "top_k",
]


if not _typing.TYPE_CHECKING:  # with a __getattr__, type checkers would accept any name

    def __getattr__(name: str) -> _typing.NoReturn:
        """Raise AttributeError with what to type instead."""
        from ..internal.foreign_names import missing  # here, to keep `import gdcore` fast
        from .names import functions

        raise missing(__name__, name, __all__, functions())

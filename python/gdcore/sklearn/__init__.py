"""Estimators with the interface of scikit-learn: `MLPClassifier` and `MLPRegressor`.

Needs the extra ``gdcore[sklearn]``. docs/sklearn.md says what is the same as in `sklearn.neural_network`, what is added
and what differs.
"""

from ..internal.checks import optional_module as _optional_module

_optional_module("sklearn.base", "gdcore.sklearn", "'gdcore[sklearn]'")

from .estimators import MLPClassifier, MLPRegressor  # noqa: E402

__all__ = ["MLPClassifier", "MLPRegressor"]

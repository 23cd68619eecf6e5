"""`TabularClassifier` and `TabularRegressor`: `gdcore.tables.TabularModel` with the interface of scikit-learn."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, _check_y, check_is_fitted, validate_data

from ..internal.arguments import explained
from ..internal.arrays import Array, TakesTables
from ..internal.frames import is_frame, is_series
from ..parquet.source import Parquet
from ..tables import Importances, TabularModel
from ..tables.columns import read_column
from ..tables.targets import refuse_missing

__all__ = ["TabularClassifier", "TabularRegressor"]


@explained
class TabularBase(TakesTables, BaseEstimator):  # type: ignore[misc]
    """Base of both estimators: parameters, checks of the data, and the model that does the work."""

    model_: TabularModel
    _task: ClassVar[str]

    def __init__(
        self,
        *,
        ensemble: int | None = None,
        time_limit: float | None = None,
        validation_fraction: float | None = None,
        loss: Any = None,
        kinds: Any = None,
        recipe: Any = None,
        random_state: Any = None,
        device: str = "auto",
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.ensemble = ensemble
        self.time_limit = time_limit
        self.validation_fraction = validation_fraction
        self.loss = loss
        self.kinds = kinds
        self.recipe = recipe
        self.random_state = random_state
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _settings(self) -> dict[str, Any]:
        """Return the arguments of `TabularModel`."""
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
            seed = int(check_random_state(seed).randint(2**31 - 1))
        same = ("ensemble", "time_limit", "loss", "kinds", "recipe", "device", "n_jobs")
        settings = {name: getattr(self, name) for name in same}
        return settings | {"validation": self.validation_fraction, "seed": int(seed), "progress": bool(self.verbose)}

    def _table(self, X: Any, *, first: bool) -> Any:
        """Return a frame or Parquet as it is, and all else as scikit-learn checks it, with missing numbers."""
        if isinstance(X, Parquet):
            return X
        if is_frame(X):
            validate_data(self, X, reset=first, skip_check_array=True)
            return X
        if isinstance(X, (list, tuple)):  # NumPy would make text of numbers beside text, and of None
            X = np.array(X, dtype=object)
        options = {"accept_sparse": ("csr", "csc"), "dtype": None, "ensure_all_finite": "allow-nan"}
        return validate_data(self, X, reset=first, **options)

    def _targets(self, y: Any) -> Any:
        """Return the targets of a call, checked."""
        raise NotImplementedError

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any, groups: Any = None, time: Any = None
    ) -> Self:
        weights = sample_weight
        if not isinstance(X, Parquet):
            if y is None:
                name = type(self).__name__
                raise ValueError(f"y: got None; {name} requires y to be passed, but the target y is None")
            X, y = self._table(X, first=True), self._targets(y)
            if weights is not None:
                weights = _check_sample_weight(weights, X, ensure_non_negative=True)
        model = TabularModel(self._task, **self._settings())
        self.model_ = model.fit(X, y, sample_weight=weights, validation=validation_data, groups=groups, time=time)
        if isinstance(X, Parquet):
            self.feature_names_in_ = np.array(self.model_.feature_names, dtype=object)
            self.n_features_in_ = len(self.feature_names_in_)
        return self

    def predict(self, X: Any) -> Array:
        """Return the predictions for the rows of a table: classes or numbers, (rows,), or numbers (rows, K)."""
        check_is_fitted(self, "model_")
        return self.model_.predict(self._table(X, first=False))

    def importances(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        metric: str | None = None,
        n_repeats: int = 5,
        random_state: Any = None,
    ) -> Importances:
        """Return how much worse a metric becomes with each column permuted; see `TabularModel.importances`.

        For Parquet, of which a sample of rows is taken, `y` and `sample_weight` are names of columns or None.
        """
        check_is_fitted(self, "model_")
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        options: dict[str, Any] = {"metric": metric, "repeats": n_repeats, "seed": seed}
        return self.model_.importances(self._table(X, first=False), y, sample_weight=sample_weight, **options)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: columns may be sparse, text or categories, and have missing values."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = tags.input_tags.allow_nan = True
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags


class Scored:
    """What both estimators have before scikit-learn's own mixins: a score of files."""

    model_: TabularModel

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy, or R² of numbers; for Parquet, `y` and `sample_weight` are names of columns or None."""
        if isinstance(X, Parquet):
            check_is_fitted(self, "model_")
            return self.model_.score(X, y, sample_weight=sample_weight)
        return float(super().score(X, y, sample_weight))  # type: ignore[misc]


@explained
class TabularClassifier(Scored, ClassifierMixin, TabularBase):  # type: ignore[misc]
    """A classifier of tables, with the interface of scikit-learn: `gdcore.tables.TabularModel` does the work.

    Frames are taken as they are: categories, text, booleans, dates, missing values.

    Parameters
    ----------
    ensemble, time_limit, loss, kinds, recipe, device, n_jobs
        As for `gdcore.tables.TabularModel`.
    validation_fraction : float, optional
        Share of the rows that is held out to choose the best epoch, as `validation` of `gdcore.tables.TabularModel`.
    class_weight : dict, "balanced" or None
        Factors on the weights of the rows in the loss, by class.
    random_state : int, RandomState or None
        Seed of the held-out rows and of the networks.
    verbose : bool
        Whether a bar is shown, on a terminal or in a notebook.

    Attributes
    ----------
    model_ : TabularModel
        The model; ``model_.save(path)`` writes it to a file that ``gd.load`` reads without scikit-learn.
    classes_ : ndarray
        The classes, in ascending order.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray
        Their names, where X is a frame with names of text.
    """

    _task = "classification"

    def __init__(
        self,
        *,
        ensemble: int | None = None,
        time_limit: float | None = None,
        validation_fraction: float | None = None,
        class_weight: Any = None,
        loss: Any = None,
        kinds: Any = None,
        recipe: Any = None,
        random_state: Any = None,
        device: str = "auto",
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            ensemble=ensemble,
            time_limit=time_limit,
            validation_fraction=validation_fraction,
            loss=loss,
            kinds=kinds,
            recipe=recipe,
            random_state=random_state,
            device=device,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"class_weight": self.class_weight}

    def _targets(self, y: Any) -> Any:
        if isinstance(y, (list, tuple)) and any(isinstance(each, float) and each != each for each in y):
            y = np.array(y, dtype=object)  # NaN beside text would become the class "nan"
        if is_frame(y) or not is_series(y):
            y = column_or_1d(y, warn=True)
        refuse_missing(read_column(y, "y"))  # which scikit-learn cannot compare with text
        check_classification_targets(y)
        return y

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        validation_data: Any = None,
        groups: Any = None,
        time: Any = None,
    ) -> Self:
        """Learn from the rows of a table.

        Parameters
        ----------
        X : frame, array, sparse matrix or Parquet
            The table, (rows, columns). `gdcore.data.Parquet` may be larger than memory; all other arguments are then
            names of its columns.
        y : array, series or str
            The class of each row. For Parquet the name of a column, or nothing if the files have a `y`.
        sample_weight : array, optional
            Weight of each row.
        validation_data : (X, y), (X, y, weights) or Parquet, optional
            Rows to choose the best epoch with, instead of a share of `X`.
        groups, time : array, optional
            Group or time of each row: whole groups, or the last rows, are held out.

        Returns
        -------
        TabularClassifier
            The estimator itself.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data does not fit.
        """
        self._fit(X, y, sample_weight, validation_data, groups, time)
        self.classes_ = self.model_.classes
        return self

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, (rows, C), in the order of ``classes_``."""
        check_is_fitted(self, "model_")
        return self.model_.predict_proba(self._table(X, first=False))

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))


@explained
class TabularRegressor(Scored, RegressorMixin, TabularBase):  # type: ignore[misc]
    """A regressor of tables, with the interface of scikit-learn: `gdcore.tables.TabularModel` does the work.

    y has shape (rows,), or (rows, K) for several numbers.

    Parameters
    ----------
    ensemble, time_limit, loss, kinds, recipe, device, n_jobs
        As for `gdcore.tables.TabularModel`.
    validation_fraction, random_state, verbose
        As for `TabularClassifier`.

    Attributes
    ----------
    model_, n_features_in_, feature_names_in_
        As for `TabularClassifier`.
    """

    _task = "regression"

    def _targets(self, y: Any) -> Any:
        y = _check_y(y, multi_output=True, y_numeric=True)
        return column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        validation_data: Any = None,
        groups: Any = None,
        time: Any = None,
    ) -> Self:
        """Learn from the rows of a table; the arguments are those of `TabularClassifier.fit`, y are numbers."""
        return self._fit(X, y, sample_weight, validation_data, groups, time)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: several outputs are accepted."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
